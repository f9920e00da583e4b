"""Hooks (HK, HI rows): order, input, environment, failure, timeouts."""
import json
import os
import time

import pytest

from lib import host
from lib.marks import OLD, differs_from

CREATE_KINDS = ["prestart", "createRuntime", "createContainer"]
HOST_KINDS = ["prestart", "createRuntime", "poststart", "poststop"]


def note(work, word):
    return f"echo {word} >> {work}/notes"


def notes(work):
    try:
        return host.read(f"{work}/notes").split()
    except FileNotFoundError:
        return []


# --- order -----------------------------------------------------------------------------------------------------------

@differs_from("runc", "runs poststart in create (HK-06)")
def test_lc03_order_over_a_life(runtime, bundle, work):
    b = bundle("sh", "-c", "echo program >> /mnt/notes").mount("/mnt", work, "bind", ["bind"])
    for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        b.hook(kind, note(work, f"{kind}.0")).hook(kind, note(work, f"{kind}.1"))
    for number in range(2):
        b.hook("startContainer", f"echo startContainer.{number} >> /mnt/notes")
    before = ["prestart.0", "prestart.1", "createRuntime.0", "createRuntime.1", "createContainer.0", "createContainer.1"]
    runtime.create(b).ok()
    assert notes(work) == before
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    seen = notes(work)
    assert seen[6:8] == ["startContainer.0", "startContainer.1"]
    assert sorted(seen[8:]) == ["poststart.0", "poststart.1", "program"]
    runtime.delete(b).ok()
    assert notes(work)[-2:] == ["poststop.0", "poststop.1"]


def test_lc03_order_in_run(runtime, bundle, work):
    b = bundle("sh", "-c", "echo program >> /mnt/notes").mount("/mnt", work, "bind", ["bind"])
    for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        b.hook(kind, note(work, kind))
    b.hook("startContainer", "echo startContainer >> /mnt/notes")
    runtime.run(b).ok()
    seen = notes(work)
    assert [word for word in seen if word != "poststart"] == [
        "prestart", "createRuntime", "createContainer", "startContainer", "program", "poststop"]
    assert seen.count("poststart") == 1


@differs_from("runc", "runs it in create, status created")
def test_hk06_poststart_after_the_program_runs(runtime, bundle, work):
    b = bundle("/bin/probe", "idle")
    b.hook("poststart", f"cat > {work}/state; pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' {work}/state | head -1); "
                        f"cat /proc/$pid/comm > {work}/comm")
    runtime.create(b).ok()
    assert not os.path.exists(f"{work}/state")
    runtime.start(b).ok()
    state = json.loads(host.read(f"{work}/state"))
    assert state["status"] == "running"
    assert host.read(f"{work}/comm") == "probe\n"


def test_hk07_poststop_after_everything_is_gone(runtime, bundle, work):
    b = bundle("true")
    b.hook("poststop", f"cat > {work}/state; test -d {b.cgroup('pids')} && echo there > {work}/left; true")
    runtime.run(b).ok()
    state = json.loads(host.read(f"{work}/state"))
    assert (state["status"], state["id"], state["bundle"]) == ("stopped", b.id, b.path)
    assert "pid" not in state or state["pid"] == 0
    assert not os.path.exists(f"{work}/left")


# --- input -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_hk02_state_of_runtime_hooks(runtime, bundle, work, kind):
    b = bundle("true", annotations={"key": "value"}).hook(kind, f"cat > {work}/state; pwd > {work}/cwd")
    runtime.create(b).ok()
    text = host.read(f"{work}/state")
    state = json.loads(text)
    assert list(state) == ["ociVersion", "id", "status", "pid", "bundle", "annotations"]
    assert (state["id"], state["status"], state["bundle"]) == (b.id, "creating", b.path)
    assert state["pid"] == runtime.state(b)["pid"]
    assert state["annotations"] == {"key": "value"}
    assert host.read(f"{work}/cwd").strip() == b.path


def test_hk04_create_container_hook_runs_inside_before_pivot(runtime, bundle, work):
    """A path of the host, the container's namespaces, its mounts made, the pid of the container's view."""
    b = bundle("true").mount("/mnt", "x", "tmpfs")
    b.hook("createContainer", f"cat > {work}/state; readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/uts > {work}/ns; "
                              f"grep -c {b.rootfs}/mnt /proc/self/mountinfo > {work}/mounts; "
                              f"cat {b.rootfs}/etc/passwd | head -1 > {work}/passwd; readlink /proc/self/ns/pid > {work}/pidns")
    runtime.create(b).ok()
    state = json.loads(host.read(f"{work}/state"))
    assert state["status"] == "creating" and state["pid"] == 1
    pid = runtime.state(b)["pid"]
    inside = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "uts")]
    lines = host.read(f"{work}/ns").split()
    assert lines[1:] == inside or lines[1:] == [os.readlink(f"/proc/{pid}/ns/{k}") for k in ("net", "uts")]
    assert lines[0] != os.readlink("/proc/self/ns/mnt")
    assert int(host.read(f"{work}/mounts")) >= 1
    assert host.read(f"{work}/passwd").startswith("root:")


def test_at11_create_container_hook_may_change_the_root(runtime, bundle, work):
    """Engines inject libraries this way: what the hook mounts is in the container."""
    os.mkdir(f"{work}/lib")
    with open(f"{work}/lib/file", "w", encoding="ascii") as file:
        file.write("injected\n")
    b = bundle("cat", "/mnt/file")
    b.hook("createContainer", f"mount --bind {work}/lib {b.rootfs}/mnt")
    runtime.run(b).ok("injected\n")
    assert str(b.rootfs) not in host.read("/proc/self/mountinfo")


def test_hk05_start_container_hook_runs_inside(runtime, bundle):
    b = bundle("true").writable()
    b.hook("startContainer", "cat > /state; env > /env; id -u > /uid; echo $$ > /pid; readlink /proc/self/root > /root-link")
    runtime.create(b).ok()
    assert not os.path.exists(f"{b.rootfs}/state")
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    state = json.loads(host.read(f"{b.rootfs}/state"))
    assert (state["status"], state["pid"]) == ("created", 1)
    env = host.read(f"{b.rootfs}/env").splitlines()
    assert "TERM=xterm" in env and "HOME=/root" in env
    assert host.read(f"{b.rootfs}/uid") == "0\n"


# --- argv and environment --------------------------------------------------------------------------------------------

def test_hk01_argv_is_kept_exactly(runtime, bundle, work):
    b = bundle("true")
    b.config["hooks"] = {"createRuntime": [
        {"path": "/bin/sh", "args": ["strange name", "-c", f'printf "%s|" "$0" "$@" > {work}/args', "zero", "a b", ""]}]}
    runtime.create(b).ok()
    assert host.read(f"{work}/args") == "zero|a b||"


def test_hk01_no_args(runtime, bundle, work):
    script = f"{work}/hook"
    with open(script, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\necho $# > {work}/count\n")
    os.chmod(script, 0o755)
    b = bundle("true", hooks={"createRuntime": [{"path": script}]})
    runtime.create(b).ok()
    assert host.read(f"{work}/count") == "0\n"


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_hk10_env_absent_is_the_runtimes(runtime, bundle, work, kind):
    b = bundle("true").hook(kind, f"env > {work}/env")
    b.env("IMAGE_VAR=1", "LD_PRELOAD=./evil.so")
    runtime.run(b, env={"RUNTIME_VAR": "1"})
    env = host.read(f"{work}/env").splitlines()
    assert "RUNTIME_VAR=1" in env
    assert not any(entry.startswith(("IMAGE_VAR", "LD_PRELOAD")) for entry in env)


@pytest.mark.parametrize("kind", [*HOST_KINDS, "createContainer"])
def test_hk10_env_given_is_exact(runtime, bundle, work, kind):
    b = bundle("true").hook(kind, f"cat /proc/self/environ > {work}/env", env=["PATH=/usr/bin:/bin", "ONE=1"])
    runtime.run(b, env={"RUNTIME_VAR": "1"})
    assert sorted(host.read(f"{work}/env").strip("\0").split("\0"))[:2] == ["ONE=1", "PATH=/usr/bin:/bin"]
    assert "RUNTIME_VAR" not in host.read(f"{work}/env")


@differs_from(OLD, "gives it the runtime's or image's environment")
def test_b_create_container_hook_gets_no_image_environment(runtime, bundle, work):
    """CVE-2025-23266: image variables must not steer a hook that runs with the host's rights."""
    b = bundle("true").hook("createContainer", f"/usr/bin/tr '\\0' '\\n' < /proc/self/environ > {work}/env")
    b.env("LD_PRELOAD=./evil.so", "IMAGE_VAR=1")
    runtime.run(b, env={"RUNTIME_VAR": "1"}).ok()
    text = host.read(f"{work}/env")
    assert "LD_PRELOAD" not in text and "IMAGE_VAR" not in text and "RUNTIME_VAR" not in text


@differs_from(OLD, "leaks its own to createContainer")
def test_hook_inherits_no_descriptors(runtime, bundle, work):
    b = bundle("true")
    for kind in ("createRuntime", "createContainer", "poststop"):
        b.hook(kind, f"ls -l /proc/self/fd > {work}/{kind}.fds; true")
    runtime.run(b).ok()
    for kind in ("createRuntime", "createContainer", "poststop"):
        links = [line.split(" -> ")[1] for line in host.read(f"{work}/{kind}.fds").splitlines() if " -> " in line]
        assert len(links) <= 4, (kind, links)


# --- failure ---------------------------------------------------------------------------------------------------------

@differs_from(OLD, "other wording")
@pytest.mark.parametrize("kind", CREATE_KINDS)
def test_hk08_failure_text_index_and_undo(runtime, bundle, work, kind):
    b = bundle("true").hook(kind, "true").hook(kind, "echo OUT; echo ERR >&2; exit 3").hook(kind, note(work, "third"))
    b.hook("poststop", note(work, "poststop"))
    result = runtime.create(b).fails(
        f"{runtime.name} create failed: unable to start container process: error during container init: ",
        f"error running {kind} hook #1: exit status 3, stdout: OUT\n, stderr: ERR\n")
    assert result.code == 1
    assert notes(work) == ["poststop"]
    assert os.listdir(runtime.root) == [] and host.cgroup_dirs(b.id) == []


def test_lc04_failing_create_hook_stops_create(runtime, bundle, work):
    for kind in CREATE_KINDS:
        b = bundle("true").hook(kind, "exit 1").hook("poststop", note(work, kind))
        runtime.create(b).fails("exit status 1")
        assert os.listdir(runtime.root) == []
    assert notes(work) == CREATE_KINDS


@differs_from("runc", "start succeeds (HK-05)")
def test_gp07_start_container_failure_reaches_start(runtime, bundle, work):
    b = bundle("sh", "-c", "echo program >> /mnt/notes").mount("/mnt", work, "bind", ["bind"])
    b.hook("startContainer", "echo SAID >&2; exit 5")
    runtime.create(b).ok()
    runtime.start(b).fails("error running startContainer hook #0: exit status 5")
    runtime.wait_stopped(b)
    assert notes(work) == []
    runtime.delete(b).ok()


def test_hk05_start_container_failure_in_run(runtime, bundle):
    b = bundle("echo", "ran").hook("startContainer", "exit 5")
    result = runtime.run(b)
    assert result.code != 0 and "ran" not in result.out, result
    if not runtime.peer:
        assert result.code == 255 and "error running startContainer hook #0: exit status 5" in result.err, result
    assert os.listdir(runtime.root) == []


@differs_from("runc", "runs poststart hooks in create")
def test_hk08_poststart_failure(runtime, bundle, work):
    """LC-04: start fails, the container is stopped."""
    b = bundle("/bin/probe", "idle").hook("poststart", "exit 3").hook("poststop", note(work, "poststop"))
    runtime.create(b).ok()
    runtime.start(b).fails("error running poststart hook #0: exit status 3")
    host.eventually(lambda: b.id not in os.listdir(runtime.root) or runtime.status(b) == "stopped")


@differs_from(OLD, "fails delete")
@differs_from("runc", "fails delete (LC-05)")
def test_lc05_poststop_failure_is_a_warning_and_the_rest_runs(runtime, bundle, work):
    b = bundle("true").hook("poststop", "echo BAD >&2; exit 3").hook("poststop", note(work, "second"))
    runtime.up(b)
    runtime.wait_stopped(b)
    result = runtime.delete(b).ok()
    assert any("poststop" in text for text in result.warnings), result
    assert notes(work) == ["second"]


def test_rn07_poststop_failure_leaves_the_status_of_run(runtime, bundle):
    b = bundle("sh", "-c", "exit 6").hook("poststop", "exit 3")
    result = runtime.run(b)
    assert result.code == 6 and any("poststop" in t for t in result.warnings + result.logs("error")) or \
        runtime.peer == OLD, result


@pytest.mark.parametrize("path", ["rel/path", "/no/such/hook", ""])
def test_hk01_bad_path(runtime, bundle, path):
    runtime.create(bundle("true", hooks={"createRuntime": [{"path": path}]})).fails("create failed: ")


# --- timeouts and hostile hooks --------------------------------------------------------------------------------------

def test_hk09_timeout(runtime, bundle):
    b = bundle("true").hook("createRuntime", "exec sleep 30", timeout=1)
    result = runtime.create(b).fails("hook ran past specified timeout of 1.0s")
    assert 0.9 < result.seconds < 5
    assert os.listdir(runtime.root) == []


@differs_from("runc", "kills only the hook's first process (HK-09)")
def test_hk09_timeout_kills_the_whole_group(runtime, bundle, work):
    b = bundle("true").hook("createRuntime", f"sleep 1000 & echo $! > {work}/pid; sleep 1000; true", timeout=1)
    result = runtime.create(b).fails("hook ran past specified timeout of 1.0s")
    assert result.seconds < 5
    pid = int(host.read(f"{work}/pid"))
    host.eventually(lambda: not host.alive(pid))


@differs_from("runc", "no check")
@pytest.mark.parametrize("timeout", [0, -1])
def test_hk01_timeout_must_be_positive(runtime, bundle, timeout):
    runtime.create(bundle("true").hook("createRuntime", "true", timeout=timeout)).fails("timeout")


def test_hook_that_never_reads_its_input(runtime, bundle):
    """A megabyte of annotations does not fit a pipe: no deadlock."""
    b = bundle("true", annotations={f"key{n}": "x" * 1000 for n in range(1000)}).hook("createRuntime", "true")
    runtime.create(b, timeout=10).ok()


@differs_from(OLD, "needs half a minute")
def test_hook_with_much_output_is_bounded(runtime, bundle, tool, work):
    b = bundle("true").hook("createRuntime", "head -c 100000000 /dev/zero; exit 1").write()
    report = f"{work}/report"
    result = runtime.in_view([tool("measure"), report]).call("create", "--bundle", b.path, b.id, timeout=20)
    runtime.track(b.id)
    assert result.code == 1
    assert int(host.read(report).split()[0]) < 100 * 1024
    assert len(result.err) < 1 << 20


@differs_from("runc", "waits for the daemon (HK-09)")
def test_hook_daemon_that_keeps_the_pipes_does_not_delay(runtime, bundle, work):
    b = bundle("true").hook("createRuntime", f"sleep 1000 & echo $! > {work}/pid")
    try:
        result = runtime.create(b, timeout=10).ok()
        assert result.seconds < 5
    finally:
        host.kill_quietly(int(host.read(f"{work}/pid")))


def test_hook_may_call_the_runtime(runtime, bundle, work):
    """state inside a hook: the container's lock must not deadlock."""
    b = bundle("true")
    b.hook("createRuntime", f"timeout 5 {runtime.program} --root {runtime.root} state {b.id} > {work}/out 2>&1; echo $? > {work}/code")
    runtime.create(b, timeout=15).ok()
    assert host.read(f"{work}/code").strip() in ("0", "1")


@differs_from("runc", "makes the host's mounts slaves and leaves its own")
def test_hk11_hooks_run_without_a_mount_namespace(runtime, bundle, work):
    b = bundle("true", hooks={}, mounts=[]).writable()
    b.config["linux"] = {"namespaces": [{"type": "pid"}, {"type": "uts"}], "cgroupsPath": b.linux["cgroupsPath"]}
    kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    for kind in kinds:
        b.hook(kind, note(work, kind))
    mounts = host.mount_table()
    runtime.run(b).ok()
    assert notes(work) == kinds
    assert host.mount_table() == mounts


def test_hook_time_is_not_polled(runtime, bundle):
    """A quick hook does not cost a polling interval."""
    b = bundle("true").hook("createRuntime", "true")
    started = time.monotonic()
    runtime.run(b).ok()
    assert time.monotonic() - started < 3
