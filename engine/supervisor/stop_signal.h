// The signal that asks a container to end.
#pragma once

#include "engine/container.h"

namespace gantry {

/// The one of the annotation org.opencontainers.image.stopSignal, a number or a name with or without SIG; SIGTERM when
/// there is none or it cannot be read.
int stop_signal(const ContainerRecord& record);

}  // namespace gantry
