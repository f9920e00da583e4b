// The commands, each defined in its cmd_<verb>.cc.
#pragma once

#include "cli/command.h"

namespace gantry::cli {

extern const Command kCreate, kDelete, kExec, kFeatures, kHelp, kKill, kList, kLogs, kPause, kPs, kResume, kRm, kRun,
    kSpec, kStart, kState, kStop, kSupervise, kUp, kUpdate, kVersion, kWait;

}  // namespace gantry::cli
