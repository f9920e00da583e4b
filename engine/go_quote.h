// Text in double quotes as Go's %q prints it: callers of runc match error texts and log lines written that way.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

/// The whole text quoted; control characters, bytes that are not UTF-8 and invisible characters are escaped.
std::string go_quote(std::string_view text);

}  // namespace gantry
