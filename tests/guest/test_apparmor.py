"""AppArmor, which only a kernel that runs it can show."""
import os
import subprocess

import pytest

from conftest import PATIENCE, call, read

PROFILE = """
profile gantry-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  deny /tmp/secret rw,
}
"""


@pytest.fixture(scope="module", autouse=True)
def loaded():
    if read("/sys/module/apparmor/parameters/enabled") != "Y\n":
        pytest.fail("the kernel runs without AppArmor")
    call("apparmor_parser", "-r", "-W", input=PROFILE)


CURRENT = "cat /proc/self/attr/apparmor/current"


@pytest.fixture
def box(bundle, request):
    """box(script, ...): a bundle with a writable /tmp, and its cgroup."""
    def make(script, **process):
        return bundle("box", script, process, cgroupsPath="/gantry-test/box")
    yield make
    call("gantry", "delete", "--force", "box", check=False)


def detached(path):
    """Its output would keep a pipe of ours open."""
    subprocess.run(["gantry", "run", "--detach", "--bundle", path, "box"], stdin=subprocess.DEVNULL, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE)


def test_a_profile_confines(box):
    done = call("gantry", "run", "--bundle", box(f"{CURRENT}; echo fine > /dev/null; cat /tmp/secret; true",
                                                 apparmorProfile="gantry-test"), "box")
    assert done.stdout.strip() == "gantry-test (enforce)"
    assert "Permission denied" in done.stderr


def test_without_a_profile_there_is_none(box):
    done = call("gantry", "run", "--bundle", box(f"{CURRENT}; cat /tmp/secret; true"), "box")
    assert done.stdout.splitlines() == ["unconfined", "a secret"]


def test_an_unknown_profile_is_an_error(box):
    done = call("gantry", "run", "--bundle", box("true", apparmorProfile="not-there"), "box", check=False)
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "apparmor" in lines[0] and "not-there" in lines[0]
    assert call("gantry", "list", "-q").stdout == "" and not os.path.exists("/sys/fs/cgroup/gantry-test/box")


def test_exec_has_the_containers_profile_or_its_own(box):
    detached(box("sleep 1000", apparmorProfile="gantry-test"))
    assert call("gantry", "exec", "box", "sh", "-c", CURRENT).stdout.strip() == "gantry-test (enforce)"
    done = call("gantry", "exec", "--apparmor", "not-there", "box", "true", check=False)
    assert done.returncode != 0 and "not-there" in done.stderr
    # The profile allows no signal from outside, but the cgroup can be killed.
    assert "permission denied" in call("gantry", "kill", "box", "KILL", check=False).stderr
    call("gantry", "delete", "--force", "box")


def test_exec_into_an_unconfined_container_with_a_profile(box):
    detached(box("sleep 1000"))
    assert call("gantry", "exec", "box", "sh", "-c", CURRENT).stdout.strip() == "unconfined"
    assert call("gantry", "exec", "--apparmor", "gantry-test", "box", "sh", "-c", CURRENT).stdout.strip() == "gantry-test (enforce)"
    call("gantry", "kill", "box", "KILL")
