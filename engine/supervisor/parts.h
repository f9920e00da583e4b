// What a Supervisor consists of, in the order in which it is made. Only for the .cc files of Supervisor.
#pragma once

#include "engine/hooks.h"
#include "engine/supervisor/handover.h"
#include "engine/supervisor/output_device.h"
#include "engine/supervisor/supervisor.h"

namespace gantry {

struct Supervisor::Parts {
  Parts(io::Loop& loop, const SupervisorOptions& options, KeeperView keeper_table, DefinitionStore definition_store,
        Suspects noted, Copier copying)
      : table(std::move(keeper_table)),
        store(options.root, true),
        keeper(loop, sys::Fd(init::kSupervisorSocketFd)),
        spawner(keeper),
        exits(loop, keeper),
        poststop(loop),
        env{loop, store, spawner, exits, options.program, 0, &poststop},
        definitions(std::move(definition_store)),
        slots(table.head().slot_count < kCopySlots ? table.head().slot_count : kCopySlots),
        suspects(std::move(noted)),
        admission(loop, options.parallel),
        copier(std::move(copying)),
        devices(loop, keeper, slots),
        flusher(loop),
        host{env,       table,  keeper,  definitions, slots,          suspects,
             admission, copier, devices, flusher,     options.socket, options.cgroup_parent} {}

  KeeperView table;
  StateStore store;
  KeeperLink keeper;
  KeeperSpawner spawner;
  KeeperExits exits;
  PoststopHooks poststop;
  Env env;
  DefinitionStore definitions;
  SlotNumbers slots;
  Suspects suspects;
  io::Semaphore admission;
  Copier copier;
  OutputDevices devices;
  io::Flusher flusher;
  SupervisorHost host;
  std::optional<Server> server;
  std::optional<HandoverDesk> desk;
  bool all_known = true;             ///< every definition could be read
  bool fresh_copier = true;          ///< the journal is new: slots of runs in progress are to be opened
  bool fresh_listeners = true;       ///< the keeper does not have both sockets yet
  std::map<uint32_t, HeldRun> held;  ///< by Definition::key: what the keeper had at the start
  std::vector<uint32_t> guilty;      ///< keys that go into quarantine
};

}  // namespace gantry
