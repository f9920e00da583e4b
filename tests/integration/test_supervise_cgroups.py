"""Where the cgroups of supervised containers are."""
import pytest

from lib import host
from lib.cgroups import memberships

PARENT = f"/{host.CGROUP_PARENT}/{host.SESSION}-all"
SLEEP = "while :; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def no_parents(runtime):
    yield
    runtime.cleanup()
    host.purge_cgroups()


@pytest.mark.parametrize("path, below", [
    (None, "ID"), ("", "ID"), ("in/../ner", "ner"), ("../../../up", "up"),
], ids=str)
def test_containers_without_a_path_of_their_own_get_the_given_parent(supervised, bundle, path, below):
    supervised.begin("--cgroup-parent", f"{PARENT}/./")
    box, own = bundle().sh(SLEEP), bundle().sh(SLEEP)
    box.config["linux"].pop("cgroupsPath")
    if path is not None:
        box.config["linux"]["cgroupsPath"] = path
    supervised.up(box, own).ok()
    runtime = supervised.runtime
    wanted = f"{PARENT}/{below.replace('ID', box.id)}"
    assert set(memberships(runtime.state(box)["pid"]).values()) - {"/"} == {wanted}
    assert set(memberships(runtime.state(own)["pid"]).values()) - {"/"} == {own.config["linux"]["cgroupsPath"]}
    pid = runtime.state(box)["pid"]
    runtime.call("exec", box.id, "true").ok()
    # Also when its record cannot be read any more.
    with open(f"{runtime.root}/{box.id}/state.json", "w", encoding="ascii") as file:
        file.write("{")
    supervised.rm("--force", box).ok()
    assert not host.alive(pid)
    assert not [path for path in host.cgroup_dirs() if path.endswith(wanted)]
    supervised.rm("--force", own).ok()


@pytest.mark.parametrize("path", ["relative", "/", "/..", ""])
def test_a_parent_that_is_none(supervised, path):
    supervised.runtime.call("supervise", "--state-dir", supervised.state_dir, "--cgroup-parent", path).fails(
        f"--cgroup-parent {path}: must be an absolute path below the root cgroup, such as /containers").one_line()
