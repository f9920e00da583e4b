// Running hooks: all six kinds but startContainer, which init runs itself.
//
// Every hook goes through the launch path: state on a memfd as stdin, output bounded, a timeout kills the whole group
// (design §4, HK-*).
#pragma once

#include <string>
#include <vector>

#include "engine/container.h"
#include "engine/spec.h"
#include "engine/verbs.h"
#include "io/event.h"

namespace gantry {

/// The poststop hooks that run at the moment, of all containers of a process that is to end some day: whoever ends it
/// waits for them. The container is gone, so that nobody else would run them again.
struct PoststopHooks {
  explicit PoststopHooks(io::Loop& loop) : idle(loop) { idle.set(); }
  unsigned running = 0;   ///< containers, not hooks
  io::Event idle;         ///< none are running
  io::CancelSource over;  ///< cancelled when nobody can wait any longer: they are killed, and no further ones begin
};

/// The OCI state as hooks, seccomp agents and `state` see it: ociVersion (that of the state, ours, and not that of
/// the config), id, status, pid (absent when 0), bundle, annotations (HK-02).
std::string state_json(const ContainerRecord& record, Status status, pid_t pid);

/// Runs hooks of one kind in their order, in the runtime's namespaces; stops at the first failure with
/// "error running KIND hook #N: ...". `cwd` empty: the caller's.
io::Task<Result<>> run_hooks(Env& env, std::string_view kind, const std::vector<Hook>& hooks, std::string state,
                             std::string cwd);

/// createContainer hooks: entered into init's namespaces before the pivot (HK-04).
io::Task<Result<>> run_create_container(Env& env, const Spec& spec, const ContainerRecord& record,
                                        const sys::Fd& init_pidfd);

/// poststart: after the program was executed (HK-06). On failure the container is killed (LC-04).
io::Task<Result<>> run_poststart(Env& env, const Hooks& hooks, const ContainerRecord& record,
                                 const sys::Fd& init_pidfd);

/// poststop: failures are warnings and the rest still runs (LC-05), also when the task is cancelled: only
/// env.poststop->over cuts them short.
io::Task<> run_poststop(Env& env, const Hooks& hooks, const ContainerRecord& record, std::string cwd);

}  // namespace gantry
