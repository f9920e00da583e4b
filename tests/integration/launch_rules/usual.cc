#include "usual.h"

#include <sys/mount.h>

#include <filesystem>

namespace gantry::rules {

void begin_rootfs(Rig& rig, bool with_proc) {
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root.path", rig.rootfs());
  if (with_proc) rig.mount("proc", "proc", "/proc", 0, {}, init::kMountRealDirectory);
}

std::string run_script(Rig& rig, const std::string& script) {
  rig.step(init::Op::kReady);
  rig.exec({"/bin/sh", "-c", script});
  rig.launch();
  rig.commit();
  const int status = rig.wait();
  const std::string out = rig.output();
  expect_equal(status, 0, "exit status of the script (" + out + rig.errors() + ")");
  return out;
}

std::string first_error(Rig& rig) {
  rig.ready_and_wait();
  rig.exec({"/bin/true"});
  rig.launch();
  for (;;) {
    Message message = rig.receive();
    if (message.tag() == init::Tag::kBorn || message.tag() == init::Tag::kWarning) continue;
    expect_equal(static_cast<int>(message.tag()), static_cast<int>(init::Tag::kError), "frame");
    return message.text() + (message.frame.err != 0 ? " " + std::string(errno_name(message.frame.err)) : "");
  }
}

void relink(const std::string& target, const std::string& path) {
  std::filesystem::remove_all(path);
  std::filesystem::create_symlink(target, path);
}

}  // namespace gantry::rules
