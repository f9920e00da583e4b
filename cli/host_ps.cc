#include "cli/host_ps.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/file.h"
#include "sys/pipe.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr size_t kOutputLimit = 64 << 20;

Result<pid_t> spawn_ps(const std::vector<std::string>& args, const sys::Fd& output) {
  std::string name = "ps";
  std::vector<std::string> copies(args);
  std::vector<char*> argv{name.data()};
  for (std::string& arg : copies) argv.push_back(arg.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int err = ::posix_spawnp(&pid, "ps", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (err == ENOENT) return fail("exec: \"ps\": executable file not found in $PATH: install procps");
  if (err != 0) return fail_errno(err, "exec: \"ps\"");
  return pid;
}

}  // namespace

Result<std::string> host_ps(const std::vector<std::string>& args) {
  GANTRY_LET(sys::Pipe pipe, sys::Pipe::open());
  GANTRY_LET(const pid_t pid, spawn_ps(args, pipe.write));
  pipe.write.reset();
  auto output = sys::read_all(pipe.read, kOutputLimit);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!output) return output;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return output;
  if (WIFSIGNALED(status)) return fail(cat("signal ", WTERMSIG(status), ": ", *output));
  return fail(cat("exit status ", WEXITSTATUS(status), ": ", *output));
}

}  // namespace gantry::cli
