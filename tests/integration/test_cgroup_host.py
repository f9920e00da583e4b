"""The engine's cgroup layer on the host's real cgroups: hybrid as it is, and as pure v1 and pure v2.

The tests themselves are C++ (tests/unit/cgroup_host.cc); each view is a private mount namespace.
"""
import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def unit_program():
    """unit_cgroup of any build tree, or $GANTRY_UNIT_CGROUP."""
    named = os.environ.get("GANTRY_UNIT_CGROUP")
    build = os.path.abspath(f"{HERE}/../../build")
    trees = sorted(os.listdir(build)) if os.path.isdir(build) else []
    paths = [named] if named else [f"{build}/{tree}/tests/unit/unit_cgroup" for tree in ("dev", *trees)]
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    return pytest.skip("unit_cgroup is not built (preset dev)")


def is_v2():
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def has_unified():
    return os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers")


VIEWS = {
    "as it is": ":",
    "pure v1": "umount /sys/fs/cgroup/unified",
    "pure v2": "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup",
}


@pytest.mark.parametrize("view", VIEWS)
def test_cgroups_of_this_host(view):
    if view != "as it is" and (is_v2() or not has_unified()):
        pytest.skip("needs a hybrid host")
    script = f'{VIEWS[view]} && exec "$@"'
    run = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", unit_program(), "[host]"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All tests passed" in done.stdout
