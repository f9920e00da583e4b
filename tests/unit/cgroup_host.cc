// Cgroups of the real host, as root: hidden from the ordinary run, called by tests/integration/test_cgroup_host.py as
// `unit_cgroup "[host]"`. Everything happens below /gantry-test/PID.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>

#include "engine/cgroup.h"
#include "io/loop.h"
#include "io/timer.h"
#include "sys/bpf.h"
#include "sys/cgroup_fs.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {
namespace {

io::Deadline soon() {
  return io::Deadline::in_ms(10'000);
}

template <class T>
T need(Result<T> result) {
  if (!result) FAIL(result.error().text);
  return std::move(*result);
}
void need(const Result<>& result) {
  if (!result) FAIL(result.error().text);
}

bool is_dir(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

/// A cgroup for one test; removed with everything in it.
struct Sandbox {
  io::Loop loop;
  CgroupHost host = need(probe_cgroup_host());
  std::string name;
  CgroupPaths paths;
  std::optional<Cgroup> cgroup;
  std::vector<std::string> warnings;
  std::vector<pid_t> children;

  explicit Sandbox(const std::string& test) : name(cat("/gantry-test/unit-", ::getpid(), "-", test)) {
    paths = need(resolve_cgroup(host, name, "unused"));
    cgroup = need(Cgroup::create(host, paths));
  }
  ~Sandbox() {
    Cgroup all = *Cgroup::open(paths);
    (void)loop.run(all.kill_all(loop, SIGKILL, soon()));
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
    const auto removed = loop.run(cgroup->remove(loop, soon()));
    cgroup->remove_made_parents();
    if (!removed) WARN(removed.error().text);
  }

  std::string dir(const std::string& controller) const {
    for (const auto& [key, path] : paths.dirs) {
      if (key == controller || (host.mode == CgroupMode::kV2 && key.empty())) return path;
    }
    return {};
  }
  bool has(const std::string& controller) const {
    if (host.mode != CgroupMode::kV2) return !dir(controller).empty();
    const auto list = sys::read_cgroup_value(dir(""), "cgroup.controllers");
    return list && cat(' ', *list, ' ').find(cat(' ', controller, ' ')) != std::string::npos;
  }
  std::string read(const std::string& controller, const std::string& file) const {
    return need(sys::read_cgroup_value(dir(controller), file));
  }

  /// A child that joins and then does `body` and exits with its value.
  pid_t spawn(const std::function<int()>& body) {
    auto fds = need(cgroup->join_fds({}, true));
    int ready[2];
    REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGTERM, SIG_DFL);  // Catch2 has a handler
      for (const sys::Fd& fd : fds) {
        if (::write(fd.get(), "0", 1) != 1) ::_exit(99);
      }
      if (::write(ready[1], "x", 1) != 1) ::_exit(98);
      ::_exit(body());
    }
    ::close(ready[1]);
    char joined = 0;
    REQUIRE(::read(ready[0], &joined, 1) == 1);
    ::close(ready[0]);
    children.push_back(child);
    return child;
  }
  pid_t spawn_sleeper() {
    return spawn([] {
      for (;;) ::pause();
      return 0;
    });
  }
  int reap(pid_t child) {
    std::erase(children, child);
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  }
};

bool can_open(dev_t device, int flags) {
  const std::string path = cat("/tmp/gantry-unit-node-", ::getpid());
  ::unlink(path.c_str());
  if (::mknod(path.c_str(), S_IFCHR | 0600, device) != 0) return false;
  const int fd = ::open(path.c_str(), flags | O_NONBLOCK | O_NOCTTY);
  const int err = errno;
  ::unlink(path.c_str());
  if (fd >= 0) ::close(fd);
  return fd >= 0 || err != EPERM;
}

DeviceRule rule(bool allow, char type, std::optional<int64_t> major, std::optional<int64_t> minor) {
  return {allow, type, major, minor, true, true, true};
}

}  // namespace

TEST_CASE("host: processes join every hierarchy, are listed, killed and their cgroups removed", "[.][host]") {
  Sandbox box("join");
  const pid_t child = box.spawn_sleeper();
  const std::string lines = need(sys::read_file(cat("/proc/", child, "/cgroup"), 65536));
  for (const auto& [controller, path] : box.paths.dirs) {
    INFO(controller << " in " << lines);
    CHECK(lines.find(cat(controller, ":", box.name, "\n")) != std::string::npos);
  }
  CHECK(need(box.cgroup->pids_recursive()) == std::vector<pid_t>{child});
  const auto again = Cgroup::create(box.host, box.paths);
  REQUIRE_FALSE(again);
  CHECK(again.error().text == "container's cgroup is not empty: 1 process(es) found");

  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGKILL, soon())));
  CHECK(WTERMSIG(box.reap(child)) == SIGKILL);
  need(box.loop.run(box.cgroup->remove(box.loop, soon())));
  for (const auto& [controller, path] : box.paths.dirs) CHECK_FALSE(is_dir(path));
  CHECK(need(box.cgroup->pids_recursive()).empty());
  CHECK_FALSE(need(box.cgroup->frozen()));
  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGKILL, soon())));
  need(box.loop.run(box.cgroup->remove(box.loop, soon())));
}

TEST_CASE("host: parents that were made are removed by undo, others stay", "[.][host]") {
  Sandbox box("outer");
  const std::string inner = box.name + "/a/b";
  {
    auto nested = need(Cgroup::create(box.host, need(resolve_cgroup(box.host, inner, "x"))));
    need(box.loop.run(nested.remove(box.loop, soon())));
    CHECK(is_dir(cat(box.paths.dirs.front().second, "/a")));
    nested.remove_made_parents();
  }
  for (const auto& [controller, path] : box.paths.dirs) {
    CHECK_FALSE(is_dir(path + "/a"));
    CHECK(is_dir(path));
  }
}

TEST_CASE("host: a cpuset below parents that others left empty takes processes", "[.][host]") {
  Sandbox box("cpuset");
  const std::string top = box.dir("cpuset");
  if (box.host.mode == CgroupMode::kV2 || top.empty()) return;
  need(sys::write_cgroup(top, "cgroup.clone_children", "0"));
  REQUIRE(::mkdir((top + "/empty").c_str(), 0755) == 0);
  CHECK(need(sys::read_cgroup_value(top + "/empty", "cpuset.cpus")).empty());
  for (const char* const leaf : {"/empty/a", "/b", "/c/d"}) {
    auto made = need(Cgroup::create(box.host, need(resolve_cgroup(box.host, box.name + leaf, "x"))));
    CHECK(need(sys::read_cgroup_value(top + leaf, "cpuset.cpus")) == box.read("cpuset", "cpuset.cpus"));
    CHECK(need(sys::read_cgroup_value(top + leaf, "cpuset.mems")) == box.read("cpuset", "cpuset.mems"));
  }
}

TEST_CASE("host: nested cgroups, however deep, go with the container", "[.][host]") {
  Sandbox box("deep");
  for (const auto& [controller, path] : box.paths.dirs) {
    const int start = ::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    sys::Fd current(start);
    for (int depth = 0; depth < 300; ++depth) {
      if (::mkdirat(current.get(), "d", 0755) != 0) break;
      current = sys::Fd(::openat(current.get(), "d", O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
  }
  need(box.loop.run(box.cgroup->remove(box.loop, soon())));
  for (const auto& [controller, path] : box.paths.dirs) CHECK_FALSE(is_dir(path));
}

TEST_CASE("host: removal waits for the last process and names it when it stays", "[.][host]") {
  Sandbox box("busy");
  const pid_t child = box.spawn([] { return ::usleep(150'000); });
  const auto early = box.loop.run(box.cgroup->remove(box.loop, io::Deadline::in_ms(20)));
  REQUIRE_FALSE(early);
  CHECK(early.error().sys_errno == EBUSY);
  CHECK(early.error().text.find(cat(child, " (")) != std::string::npos);
  need(box.loop.run(box.cgroup->remove(box.loop, soon())));
  CHECK(box.reap(child) == 0);
}

TEST_CASE("host: freeze, thaw, and signals to the frozen", "[.][host]") {
  Sandbox box("freeze");
  // A handler, because on cgroup2 a signal that kills does so to the frozen too.
  const pid_t child = box.spawn([] {
    ::signal(SIGTERM, [](int) { ::_exit(7); });
    for (;;) ::pause();
    return 0;
  });
  ::usleep(20'000);
  CHECK_FALSE(need(box.cgroup->frozen()));
  need(box.loop.run(box.cgroup->freeze(box.loop, soon())));
  CHECK(need(box.cgroup->frozen()));
  ::kill(child, SIGTERM);
  CHECK(::waitpid(child, nullptr, WNOHANG) == 0);
  need(box.loop.run(box.cgroup->thaw(box.loop, soon())));
  CHECK_FALSE(need(box.cgroup->frozen()));
  CHECK(WEXITSTATUS(box.reap(child)) == 7);

  const pid_t second = box.spawn_sleeper();
  need(box.loop.run(box.cgroup->freeze(box.loop, soon())));
  const auto reuse = Cgroup::create(box.host, box.paths);
  CHECK(reuse.error().text.find("is not empty") != std::string::npos);
  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGKILL, soon())));
  CHECK(WTERMSIG(box.reap(second)) == SIGKILL);
  need(box.loop.run(box.cgroup->freeze(box.loop, soon())));
  const auto cold = Cgroup::create(box.host, box.paths);
  REQUIRE_FALSE(cold);
  CHECK(cold.error().text == "container's cgroup unexpectedly frozen");
}

TEST_CASE("host: a process frozen in an inner cgroup is killed too", "[.][host]") {
  Sandbox box("inner");
  const std::string top = box.dir("freezer");
  const std::string inner = top + "/inner";
  const pid_t child = box.spawn_sleeper();
  REQUIRE(::mkdir(inner.c_str(), 0755) == 0);
  need(sys::write_cgroup(inner, "cgroup.procs", cat(child)));
  const bool v2 = box.host.mode == CgroupMode::kV2;
  need(sys::write_cgroup(inner, v2 ? "cgroup.freeze" : "freezer.state", v2 ? "1" : "FROZEN"));
  CHECK(need(box.cgroup->pids_recursive()) == std::vector<pid_t>{child});
  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGKILL, soon())));
  CHECK(WTERMSIG(box.reap(child)) == SIGKILL);
}

TEST_CASE("host: another signal reaches all and leaves nothing frozen", "[.][host]") {
  Sandbox box("term");
  const pid_t one = box.spawn_sleeper(), two = box.spawn_sleeper();
  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGTERM, soon())));
  CHECK(WTERMSIG(box.reap(one)) == SIGTERM);
  CHECK(WTERMSIG(box.reap(two)) == SIGTERM);
  CHECK_FALSE(need(box.cgroup->frozen()));
}

TEST_CASE("host: a fork bomb does not survive SIGKILL", "[.][host]") {
  Sandbox box("bomb");
  if (!box.has("pids")) return;
  Resources resources;
  resources.pids_limit = 60;
  need(box.cgroup->apply(resources, box.warnings));
  const pid_t child = box.spawn([] {
    for (;;) {
      if (::fork() == 0) continue;
      ::usleep(100);
    }
    return 0;
  });
  ::usleep(50'000);
  need(box.loop.run(box.cgroup->kill_all(box.loop, SIGKILL, soon())));
  box.reap(child);
  CHECK(need(box.cgroup->empty()));
}

TEST_CASE("host: limits are set and updated", "[.][host]") {
  Sandbox box("limits");
  const bool v2 = box.host.mode == CgroupMode::kV2;
  Resources r;
  if (box.has("memory")) {
    r.memory.limit = 64 << 20;
    r.memory.swap = 96 << 20;
    r.memory.reservation = 32 << 20;
  }
  if (box.has("pids")) r.pids_limit = 0;
  if (box.has("cpu")) {
    r.cpu.shares = 512;
    r.cpu.quota = 20'000;
    r.cpu.period = 50'000;
  }
  if (box.has("cpuset")) r.cpu.cpus = "0";
  if (box.has("hugetlb") || box.host.mode == CgroupMode::kHybrid) r.hugepages.push_back({"2MB", 4 << 20});
  need(box.cgroup->apply(r, box.warnings));
  if (box.has("pids")) CHECK(box.read("pids", "pids.max") == "0");
  if (box.has("cpuset")) CHECK(box.read("cpuset", "cpuset.cpus") == "0");
  if (!r.hugepages.empty()) CHECK(need(sys::read_cgroup_value(box.dir(""), "hugetlb.2MB.max")) == cat(4 << 20));
  if (!v2 && box.has("memory")) {
    CHECK(box.read("memory", "memory.limit_in_bytes") == cat(64 << 20));
    CHECK(box.read("memory", "memory.memsw.limit_in_bytes") == cat(96 << 20));
    CHECK(box.read("memory", "memory.soft_limit_in_bytes") == cat(32 << 20));
  }
  if (v2 && box.has("memory")) {
    CHECK(box.read("memory", "memory.max") == cat(64 << 20));
    CHECK(box.read("memory", "memory.low") == cat(32 << 20));
  }
  if (!v2) CHECK(box.read("cpu", "cpu.cfs_quota_us") == "20000");
  if (v2 && box.has("cpu")) CHECK(box.read("cpu", "cpu.max") == "20000 50000");

  for (const int64_t megabytes : {200, 20, -1}) {
    Resources change;
    change.memory.limit = megabytes < 0 ? -1 : megabytes << 20;
    if (megabytes > 0) change.memory.swap = *change.memory.limit * 2;
    change.cpu.period = 40'000;
    change.pids_limit = -1;
    if (!box.has("memory")) change.memory = {};
    if (!box.has("cpu")) change.cpu = {};
    if (!box.has("pids")) change.pids_limit.reset();
    need(box.cgroup->update(change, box.warnings));
    if (!v2 && megabytes > 0) CHECK(box.read("memory", "memory.memsw.limit_in_bytes") == cat(megabytes << 21));
  }
  if (box.has("pids")) CHECK(box.read("pids", "pids.max") == "max");
  if (v2 && box.has("cpu")) CHECK(box.read("cpu", "cpu.max") == "20000 40000");
  if (!v2) CHECK(box.read("cpu", "cpu.cfs_period_us") == "40000");
}

TEST_CASE("host: device rules hold, the last one decides, updates leave them alone", "[.][host]") {
  Sandbox box("devices");
  Resources r;
  r.devices = {rule(false, 'a', {}, {}), rule(true, 'c', 10, {})};
  need(box.cgroup->apply(r, box.warnings));
  Resources change;
  if (box.has("pids")) change.pids_limit = 50;
  need(box.cgroup->update(change, box.warnings));
  const pid_t child = box.spawn([] {
    if (!can_open(makedev(1, 3), O_RDWR)) return 1;   // null: the runtime's
    if (can_open(makedev(1, 1), O_RDONLY)) return 2;  // mem: nobody's
    if (!can_open(makedev(10, 1), O_RDWR)) return 3;  // the config's
    if (can_open(makedev(4, 64), O_RDWR)) return 4;   // ttyS0
    return 0;
  });
  CHECK(WEXITSTATUS(box.reap(child)) == 0);

  Resources open_all;
  open_all.devices = {rule(true, 'a', {}, {}), rule(false, 'c', 1, 1)};
  Sandbox wide("wide");
  need(wide.cgroup->apply(open_all, wide.warnings));
  const pid_t other = wide.spawn([] {
    if (can_open(makedev(1, 1), O_RDONLY)) return 1;
    return can_open(makedev(4, 64), O_RDWR) ? 0 : 2;
  });
  CHECK(WEXITSTATUS(wide.reap(other)) == 0);
}

TEST_CASE("host: the device program is replaced, never piled up", "[.][host]") {
  Sandbox box("bpf");
  const std::string dir = box.dir("");
  if (dir.empty()) return;
  const sys::Fd cgroup(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int round = 0; round < 70; ++round) {
    // r0 = round; exit: every program is another one.
    const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, round & 1}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    const sys::Fd program = need(sys::bpf_load_device_program(code));
    need(sys::bpf_attach_device_program(cgroup, program, round == 0));
    REQUIRE(need(sys::bpf_device_programs(cgroup)).size() == 1);
  }
  const bpf_insn bad[] = {{BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const auto refused = sys::bpf_load_device_program(bad);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.find("R0 !read_ok") != std::string::npos);
}

TEST_CASE("host: exec joins existing sub-cgroups only below the container's", "[.][host]") {
  Sandbox box("sub");
  for (const auto& [controller, path] : box.paths.dirs) REQUIRE(::mkdir((path + "/in").c_str(), 0755) == 0);
  const auto in = need(parse_sub_cgroups(box.host.mode, {"in"}));
  CHECK(need(box.cgroup->join_fds(in)).size() == need(box.cgroup->join_fds()).size());
  CHECK(need(box.cgroup->unified_dir(in)).valid() == (box.host.mode != CgroupMode::kV1));
  const auto absent = box.cgroup->join_fds(need(parse_sub_cgroups(box.host.mode, {"out"})));
  REQUIRE_FALSE(absent);
  CHECK(absent.error().text.starts_with("openat2 /sys/fs/cgroup"));
  CHECK(absent.error().text.ends_with("/out/cgroup.procs: no such file or directory") +
            absent.error().text.ends_with("/out/tasks: no such file or directory") ==
        1);
  std::vector<SubCgroup> evil{{{}, "../" + box.name.substr(box.name.rfind('/') + 1)}};
  CHECK_FALSE(box.cgroup->join_fds(evil));
}

}  // namespace gantry
