// What an exec runs: the container's process with the command line's changes, or a process file. Pure but for the file.
#pragma once

#include "engine/spec.h"
#include "engine/verbs.h"
#include "sys/result.h"

namespace gantry {

/// EX-01..EX-16: the process to run. `spec` is the config frozen at create (EX-02, LC-03).
Result<Process> exec_process(const Spec& spec, const ExecOptions& options);

}  // namespace gantry
