// The ordinary way: a container from `runc spec`, from launch to exec; who is whose child, what is inherited.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "rig.h"
#include "usual.h"

namespace gantry::rules {

RULE(default_config_runs_true) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kHostname, "hostname", "gantry");
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status of true");
  expect_equal(rig.errors(), "", "stderr");
}

RULE(exit_status_and_output) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"sh", "-c", "echo $$ $HOME; cat /proc/self/cmdline; exit 7"}, true, {"PATH=/bin", "HOME=/x"});
  rig.launch();
  rig.commit();
  expect(!ended(rig.pidfd(), 50), "init waits for start");
  rig.start();
  expect_equal(rig.wait(), 7, "exit status");
  expect(rig.output().starts_with("1 /x\n"), "output of pid 1");
}

RULE(exe_is_a_sealed_memfd) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  const std::string exe = "/proc/" + std::to_string(rig.pid()) + "/exe";
  expect_equal(read_link(exe), "/memfd:gantry-init (deleted)", "/proc/PID/exe");
  const sys::Fd file(::open(exe.c_str(), O_RDONLY | O_CLOEXEC));
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  constexpr int kWanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  expect_equal(seals & kWanted, kWanted, "seals");
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  // Nobody runs it any more, so ETXTBSY does not protect it, only the seals.
  const sys::Fd again(::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDWR | O_CLOEXEC));
  expect(!again || ::pwrite(again.get(), "x", 1, 0) < 0, "a sealed image cannot be written");
}

RULE(init_is_a_child_of_the_caller) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  expect_equal(status_field(rig.pid(), "PPid"), std::to_string(::getpid()), "parent of init");
  expect_equal(status_field(rig.pid(), "Name"), "gantry-init", "name of init");
  const std::optional<int> launcher = ended(rig.launcher().pidfd, 2000);
  expect(launcher.has_value(), "the launcher leaves when init is ready");
  expect_equal(*launcher, 0, "exit status of the launcher");
}

volatile sig_atomic_t handled = 0;

RULE(signals_to_init_do_not_fire_our_handlers) {
  struct sigaction action{};
  action.sa_handler = [](int) { handled = handled + 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR2);
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);

  Rig rig(rootfs);
  rig.set_namespaces(kUsual & ~static_cast<uint64_t>(CLONE_NEWPID));  // init of a pid namespace would ignore SIGTERM
  rig.default_rootfs();
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  expect_equal(status_field(rig.pid(), "SigBlk"), "0000000000000000", "blocked signals");
  expect_equal(status_field(rig.pid(), "SigIgn"), "0000000000000000", "ignored signals");
  expect_equal(status_field(rig.pid(), "SigCgt"), "0000000000000000", "caught signals");
  ::kill(rig.pid(), SIGTERM);
  expect_equal(rig.wait(), 128 + SIGTERM, "end of init");
  expect_equal(static_cast<int>(handled), 0, "calls of our handler");
}

RULE(only_stdio_reaches_the_program) {
  const sys::Fd leaked(::open("/", O_RDONLY | O_DIRECTORY));  // as careless callers do, without CLOEXEC
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"sh", "-c", "ls -l /proc/self/fd | wc -l; umask; cat /proc/self/status"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  const std::string seen = rig.output();
  // "total 0", 0, 1, 2 and ls's own directory.
  expect(seen.starts_with("5\n0022\n"), "fds and umask of the program: " + seen);
  for (const char* field : {"CapEff:\t0000000020000420", "CapBnd:\t0000000020000420", "CapInh:\t0000000000000000",
                            "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "SigBlk:\t0000000000000000"})
    expect(seen.find(field) != std::string::npos, std::string("program's status has ") + field + " in " + seen);
}

RULE(slots_become_the_programs_fds) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  Pipe a, b;
  const uint64_t first = rig.add_slot(std::move(a.write));
  rig.add_slot(std::move(b.write));
  for (int i = 0; i < 6; ++i) rig.add_slot(sys::Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
  rig.ready_and_wait();
  init::Step& place = rig.step(init::Op::kPlaceFds);
  place.n[0] = first;
  place.n[1] = 8;
  rig.exec({"/bin/sh", "-c", "echo one >&3; echo two >&4; ls /proc/self/fd | wc -l"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect_equal(a.drain(), "one\n", "fd 3");
  expect_equal(b.drain(), "two\n", "fd 4");
  expect_equal(rig.output(), "12\n", "fds of ls: 0-10 and its directory");
  expect_equal(rig.status_text(), "", "status");
}

RULE(masks_and_readonly_paths) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"sh", "-c",
              "stat -c %t:%T /proc/keys /proc/timer_list; ls -A /proc/acpi /sys/firmware | wc -w;"
              "touch /proc/acpi/x 2>&1; echo 1 > /proc/sys/kernel/domainname"});
  rig.launch();
  rig.commit();
  rig.start();
  expect(rig.wait() != 0, "writing below a read-only path fails");
  const std::string seen = rig.output();
  expect(seen.starts_with("1:3\n1:3\n"), "masked files are the null device: " + seen);
  expect(seen.find("Read-only file system") != std::string::npos, "masked directories are read-only: " + seen);
  expect(rig.errors().find("Read-only file system") != std::string::npos, "/proc/sys is read-only");
}

}  // namespace gantry::rules
