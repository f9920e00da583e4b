// The ordinary way: a container from `runc spec`, from launch to exec.
#include <sched.h>

#include "rig.h"

namespace gantry::rules {
namespace {

constexpr uint64_t kUsual = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

void usual_start(Rig& rig) {
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kLoopback);
}

}  // namespace

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
}

}  // namespace gantry::rules
