// What may be done to a container in which state: the only lifecycle rules in the project.
#pragma once

#include <cstdint>
#include <string_view>

namespace gantry {

/// A container's status. kCreating is seen by hooks only (SL-02).
enum class Status : uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };

enum class Verb : uint8_t { kStart, kExec, kKill, kDelete, kPause, kResume, kUpdate };

/// The spec's word: "created", "running", ...
std::string_view status_name(Status status);

/// Whether `verb` is allowed in `status`. exec is allowed in created (EX-21), delete only when stopped or created
/// (KD-07).
bool permits(Status status, Verb verb);

}  // namespace gantry
