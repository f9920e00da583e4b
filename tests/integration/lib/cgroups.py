"""What the cgroup tests share."""
import os

import pytest

from . import host

V1 = not os.path.exists(f"{host.CGROUP_ROOT}/cgroup.controllers")
MIB = 1 << 20
needs_v1 = pytest.mark.skipif(not V1, reason="the host has no v1 hierarchies")


def freeze(directory, frozen=True):
    """Freezes or thaws a cgroup of either version."""
    name, value = ("freezer.state", "FROZEN" if frozen else "THAWED") if V1 else ("cgroup.freeze", str(int(frozen)))
    with open(f"{directory}/{name}", "w", encoding="ascii") as file:
        file.write(value)


def is_frozen(directory):
    if V1:
        return host.read(f"{directory}/freezer.state") == "FROZEN\n"
    return "frozen 1\n" in host.read(f"{directory}/cgroup.events")


def memberships(pid):
    return {line.split(":")[1]: line.split(":", 2)[2] for line in host.read(f"/proc/{pid}/cgroup").split()}
