"""sysctl (LX-13): allow-list, both spellings, and names that try to leave /proc/sys."""
import os

import pytest

from lib import host
from lib.marks import OLD, differs_from


@pytest.mark.parametrize("name, path, value", [
    ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"), ("net/ipv4/ip_forward", "net/ipv4/ip_forward", "1"),
    ("net.ipv4.conf.lo.forwarding", "net/ipv4/conf/lo/forwarding", "1"),
    ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced", "1"), ("kernel.msgmax", "kernel/msgmax", "4096"),
    ("kernel.sem", "kernel/sem", "100\t200\t50\t60"), ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "15"),
    ("kernel.domainname", "kernel/domainname", "example")])
def test_lx13_allowed(runtime, bundle, name, path, value):
    before = host.read(f"/proc/sys/{path}")
    b = bundle("cat", f"/proc/sys/{path}", linux={"sysctl": {name: value.replace("\t", " ")}})
    runtime.run(b).ok(f"{value}\n")
    assert host.read(f"/proc/sys/{path}") == before


@differs_from(OLD, "no user namespace sysctls")
def test_lx13_user_namespace(runtime, bundle):
    b = bundle("cat", "/proc/sys/user/max_ipc_namespaces", linux={"sysctl": {"user.max_ipc_namespaces": "7"}}).user_namespace()
    runtime.run(b).ok("7\n")


@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.core_pattern", "kernel.panic", "fs.file-max", "user.max_ipc_namespaces",
                                  "kernel.yama.ptrace_scope"])
def test_lx13_refused(runtime, bundle, name):
    b = bundle("true", linux={"sysctl": {name: "1"}})
    runtime.run(b).fails(f'sysctl "{name}" is not in a separate kernel namespace')


def test_lx13_hostname_conflicts(runtime, bundle):
    runtime.run(bundle("true", linux={"sysctl": {"kernel.hostname": "x"}})).fails("kernel.hostname")


@pytest.mark.parametrize("name, kind", [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc"), ("kernel.domainname", "uts")])
def test_lx13_needs_the_namespace(runtime, bundle, name, kind):
    b = bundle("true", linux={"sysctl": {name: "1"}}).without_namespace(kind)
    b.config.pop("hostname")
    runtime.run(b).fails("sysctl", name)


def test_lx13_own_namespace_by_path_is_the_host(runtime, bundle):
    b = bundle("true", linux={"sysctl": {"net.ipv4.ip_forward": "1"}})
    b.namespace("network", f"/proc/{os.getpid()}/ns/net")
    result = runtime.run(b)
    assert result.code == 1 and "not allowed in host network namespace" in result.message, result


@pytest.mark.parametrize("name", ["net", "", "kernel", "net/../kernel/core_pattern", "net.ipv4/../../kernel/panic", "net//ipv4/../../vm/swappiness",
                                  "fs.mqueue.../../../vm/swappiness", "net/ipv4/ip_forward\n", "net/ipv4/\0", "net..ipv4"])
def test_c_names_cannot_leave_their_tree(runtime, bundle, name):
    before = [host.read(f"/proc/sys/{p}") for p in ("kernel/core_pattern", "kernel/panic", "vm/swappiness")]
    result = runtime.run(bundle("true", linux={"sysctl": {name: "1"}}))
    assert result.code == 1, result
    assert [host.read(f"/proc/sys/{p}") for p in ("kernel/core_pattern", "kernel/panic", "vm/swappiness")] == before


@pytest.mark.parametrize("value", ["not a number", "1" * 70000], ids=["word", "long"])
def test_c_bad_values(runtime, bundle, value):
    result = runtime.run(bundle("true", linux={"sysctl": {"net.ipv4.ip_forward": value}}))
    assert result.code == 1 and "ip_forward" in result.message, result.code


def test_lx13_unknown_name(runtime, bundle):
    runtime.run(bundle("true", linux={"sysctl": {"net.no.such": "1"}})).fails("no such file or directory")
