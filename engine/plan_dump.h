// A Plan as text, for people and for golden tests.
#pragma once

#include <string>
#include <string_view>

#include "sys/init/plan.h"
#include "sys/result.h"

namespace gantry {

/// One line for the header's fields and for each join and step, in order, with the structures of a step indented below
/// it (docs/plan.md). Two Plans with the same text do the same, but for the instructions of a seccomp filter, of which
/// only the number is shown. Fails with open_plan()'s text for bytes that are no Plan.
Result<std::string> dump_plan(std::string_view plan);

/// "Mount" for Op::kMount; "?" for a number that is none.
std::string_view op_name(init::Op op);

}  // namespace gantry
