// The signal that asks a container to end.
#pragma once

#include "engine/container.h"

namespace gantry {

/// The one of the annotation org.opencontainers.image.stopSignal, a number or a name with or without SIG; SIGTERM when
/// there is none or it cannot be read.
int stop_signal(const ContainerRecord& record);

/// Whether somebody who sends this signal wants the container to end, so that no restart policy may undo it: KILL,
/// TERM, INT, QUIT and its own stop signal.
bool means_the_end(int signo, const ContainerRecord& record);

}  // namespace gantry
