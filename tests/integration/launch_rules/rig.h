// Drives one launch of gantry-init by hand: a Plan, the frames, the processes. Used by the cases of launch_rules.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/plan_writer.h"
#include "sys/fd.h"
#include "sys/init/plan.h"
#include "sys/init/wire.h"
#include "sys/launch.h"

namespace gantry::rules {

/// A case fails by throwing; the text says what was expected.
struct Failed {
  std::string text;
};
struct Skipped {
  std::string text;
};

[[noreturn]] void failed(const std::string& text);
void expect(bool holds, const std::string& text);
template <class A, class B>
void expect_equal(const A& got, const B& wanted, const std::string& what);

/// A received frame.
struct Message {
  init::Frame frame{};
  std::vector<sys::Fd> fds;
  std::string text() const { return {frame.text, frame.text_length}; }
  init::Tag tag() const { return frame.tag; }
};

/// How a process ended, as a shell would say it; nothing while it runs.
std::optional<int> ended(const sys::Fd& pidfd, int wait_ms);

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);
std::string read_link(const std::string& path);
/// The value of "Name:\tvalue" in /proc/PID/status.
std::string status_field(pid_t pid, const std::string& name);

/// A pipe; what is written to it can be read as a whole.
struct Pipe {
  sys::Fd read, write;
  Pipe();
  std::string drain();
};

/// One launch.
class Rig {
 public:
  explicit Rig(std::string rootfs);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  PlanWriter plan;
  Pipe out, err;

  // Pieces of Plans.
  init::Step& step(init::Op op, std::string_view label = {});
  init::Step& step(init::Op op, std::string_view label, std::string_view first);
  void mount(const std::string& type, const std::string& source, const std::string& destination, uint64_t attr,
             const std::vector<std::string>& data, uint32_t flags = 0);
  void bind(const std::string& source, const std::string& destination, uint64_t attr, uint32_t flags = 0,
            const std::string& uid_map = {}, const std::string& gid_map = {});
  /// Session, rootfs, the mounts, devices, links, pivot, masks of `runc spec`.
  void default_rootfs();
  /// The same where sysfs needs no new network namespace's owner and devices are bound from the host.
  void default_rootfs_in_user_namespace();
  void identity(uint32_t uid, uint32_t gid, uint64_t caps, uint32_t flags = 0);
  /// kIdentity to kExec; with `fifo` the program waits for start().
  void finish(const std::vector<std::string>& argv, bool fifo = true,
              const std::vector<std::string>& env = {"PATH=/bin"});
  void exec(const std::vector<std::string>& argv, const std::vector<std::string>& env = {"PATH=/bin"});
  void ready_and_wait() {
    ready_and_wait_after([] {});
  }
  /// `between` adds the steps between kReady and kWaitStart.
  void ready_and_wait_after(const std::function<void()>& between);
  uint64_t add_slot(sys::Fd fd);
  void set_namespaces(uint64_t flags) { plan.header().clone_flags = flags; }

  // The dialogue.
  void launch();
  Message receive(int wait_ms = 5000);
  /// Receives a frame that must be `tag`; an error frame of the child fails the case with its text.
  Message expect_tag(init::Tag tag);
  /// As expect_tag, but the dialogue's other frames (Born, warnings) are kept and skipped.
  Message until(init::Tag tag);
  void send(init::Tag tag, uint64_t arg = 0, const std::vector<int>& fds = {});
  /// Born to Commit, answering Hooks with Go.
  void commit();
  void hang_up() { sync_.reset(); }
  bool at_end(int wait_ms = 5000);
  void start();
  /// Waits for the program and returns its shell status.
  int wait(int wait_ms = 5000);
  std::string output() { return out.drain(); }
  std::string errors() { return err.drain(); }
  std::string status_text();

  const std::string& rootfs() const { return rootfs_; }
  pid_t pid() const { return pid_; }
  const sys::Fd& pidfd() const { return pidfd_; }
  const sys::Child& launcher() const { return launcher_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  const Message& born() const { return born_; }
  void keep_stdin(sys::Fd fd) { stdin_ = std::move(fd); }

 private:
  void take(Message& message);
  void add_mount(const init::MountArgs& args, const std::string& source, const std::string& destination);

  std::string rootfs_, directory_;
  sys::Fd stdin_, sync_, status_read_, fifo_write_;
  uint64_t fifo_slot_ = 0, status_slot_ = 0;
  std::vector<sys::Fd> slots_;
  sys::Child launcher_;
  bool launcher_reaped_ = false;
  pid_t pid_ = 0;
  sys::Fd pidfd_;
  Message born_;
  std::vector<std::string> warnings_;
};

/// A named case. `rootfs` is a busybox rootfs that the case may write to.
struct Case {
  const char* name;
  void (*run)(const std::string& rootfs);
};
std::vector<Case>& cases();
struct Register {
  Register(const char* name, void (*run)(const std::string&)) { cases().push_back({name, run}); }
};
#define RULE(name)                                                            \
  static void rule_##name(const std::string& rootfs);                         \
  static const ::gantry::rules::Register register_##name(#name, rule_##name); \
  static void rule_##name([[maybe_unused]] const std::string& rootfs)

inline std::string shown(const std::string& text) {
  return text;
}
inline std::string shown(const char* text) {
  return text;
}
template <class T>
  requires std::is_arithmetic_v<T>
inline std::string shown(T number) {
  return std::to_string(number);
}
template <class A, class B>
void expect_equal(const A& got, const B& wanted, const std::string& what) {
  if (!(got == wanted)) failed(what + ": got \"" + shown(got) + "\", wanted \"" + shown(wanted) + "\"");
}

}  // namespace gantry::rules
