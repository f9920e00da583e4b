// The program's entry: makes the process safe to work in, then hands over to dispatch().
#include <fcntl.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <csignal>
#include <string_view>
#include <vector>

#include "cli/dispatch.h"
#include "engine/one_shot.h"

namespace {

// A closed standard descriptor would be taken by the next file we open, and the container would then get that file as
// its input or output.
bool repair_standard_fds() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd) return false;
  return true;
}

void say(std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (::getauxval(AT_SECURE) != 0) {
    say("gantry refuses to run set-uid or with file capabilities: remove them and run it as root\n");
    return 1;
  }
  if (!repair_standard_fds()) return 1;
  // Ignored by the caller, it would let the kernel reap what we wait for.
  std::signal(SIGCHLD, SIG_DFL);
  const unsigned inherited_fds = gantry::count_inherited_fds();
  const std::vector<std::string_view> words(argv, argv + argc);
  return gantry::cli::dispatch(words, inherited_fds);
}
