#include "cli/create_flags.h"

#include <climits>

#include "sys/text.h"

namespace gantry::cli {

Result<unsigned> preserve_fds(const Parsed& options) {
  const int64_t count = options.number("preserve-fds").value_or(0);
  if (count < 0 || count > INT_MAX) return fail(cat("--preserve-fds ", count, ": must be a number of descriptors"));
  return static_cast<unsigned>(count);
}

Result<CreateOptions> create_options(const Parsed& options) {
  CreateOptions create;
  create.id = options.args.front();
  create.bundle = options.text("bundle");
  create.console_socket = options.text("console-socket");
  create.pidfd_socket = options.text("pidfd-socket");
  create.pid_file = options.text("pid-file");
  create.no_pivot = options.on("no-pivot");
  create.no_new_keyring = options.on("no-new-keyring");
  GANTRY_LET(create.preserve_fds, preserve_fds(options));
  return create;
}

}  // namespace gantry::cli
