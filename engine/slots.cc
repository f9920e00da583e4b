#include "engine/slots.h"

#include <unistd.h>

#include <cstdlib>

#include "sys/text.h"

namespace gantry {

unsigned listen_fds() {
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || parse_number<pid_t>(pid) != ::getpid()) return 0;
  return parse_number<unsigned>(count).value_or(0);
}

Result<> SlotTable::add_inherited(const Env& env, unsigned preserve_fds, bool socket_activation, PlanContext& context) {
  const unsigned listening = socket_activation ? listen_fds() : 0;
  const uint64_t total = uint64_t{listening} + preserve_fds;
  if (env.inherited_fds < total) {
    const unsigned missing = env.inherited_fds < listening ? 0 : env.inherited_fds - listening;
    return fail(cat("unable to stat preserved-fd ", missing, " (of ", preserve_fds, "): no such file or directory: fd ",
                    env.inherited_fds + 3, " is not open"));
  }
  if (total == 0) return {};
  context.slots.first_preserved = count();
  context.slots.preserved_count = static_cast<int>(total);
  for (unsigned number = 0; number < total; ++number) fds_.push_back(static_cast<int>(number) + 3);
  if (listening != 0) {
    context.extra_env.push_back(cat("LISTEN_FDS=", listening));
    context.extra_env.emplace_back("LISTEN_PID=1");
  }
  return {};
}

}  // namespace gantry
