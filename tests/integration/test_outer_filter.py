"""In a container whose seccomp filter hides newer system calls: what has a fall-back works, the rest is named."""
import os
import sys

import pytest

from lib import host
from lib.marks import differs_from

FILTER = os.path.join(os.path.dirname(__file__), "lib", "outer_filter.py")


def behind(runtime, calls, code="ENOSYS"):
    return runtime.in_view([sys.executable, FILTER, calls, code])


@pytest.mark.parametrize("code", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("calls", ["clone3", "close_range", "clone3,close_range"])
def test_a_container_lives_without(runtime, bundle, work, calls, code):
    hidden = behind(runtime, calls, code)
    b = bundle().namespace("cgroup")
    b.hook("createContainer", "true")
    b.config["hooks"]["startContainer"] = [{"path": "/bin/true"}]
    pid = hidden.idle(b)
    for base in set(host.hierarchies().values()):
        assert pid in host.cgroup_procs(f"{base}{b.linux['cgroupsPath']}"), base
    assert os.readlink(f"/proc/{pid}/ns/cgroup") != os.readlink("/proc/self/ns/cgroup")
    with open("/etc/passwd", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        listing = hidden.exec(b, ["sh", "-c", "ls /proc/self/fd"], pass_fds=[file.fileno()]).ok().out.split()
    assert listing == ["0", "1", "2", "3"], "3 is ls's own"
    assert hidden.exec(b, ["sh", "-c", "cat /proc/self/cgroup"]).ok().out.count("..") == 0
    hidden.delete(b, "--force").ok()
    b = bundle("id", "-u").user_namespace()
    assert hidden.run(b).ok().out == "0\n"


@pytest.mark.parametrize("call", ["openat2", "open_tree", "fsopen", "mount_setattr"])
@differs_from("runc", "has older ways, or other texts")
def test_what_is_needed_is_named(runtime, bundle, call):
    b = bundle("true")
    result = behind(runtime, call).run(b)
    result.fails("function not implemented (the kernel is older than 5.14, or a seccomp filter hides it)", call).one_line()
    assert not os.path.exists(f"{runtime.root}/{b.id}") and host.cgroup_dirs(b.id) == []
