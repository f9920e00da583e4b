"""Descriptors: what reaches the program and what must not (EN, CR-03, CR-07, PF rows; AT-05)."""
import json
import os
import socket
import threading

import pytest

from lib import host
from lib.marks import OLD, differs_from
from lib.terminal import fd_socket

def holding(work, count, export_pid=False):
    """A wrapper command: the program starts with files keep0, keep1… open at 3, 4…, and with LISTEN_PID if asked for.
    The shell does it, because the numbers may be in use between fork and exec of our own process."""
    redirections = "".join(f" {3 + n}<>{work}/keep{n}" for n in range(count))
    export = "export LISTEN_PID=$$; " if export_pid else ""
    return ["bash", "-c", f'{export}exec "$@"{redirections}', "bash"]


def fds(result):
    return json.loads(result.ok().out)["fds"]


# --- nothing leaks ---------------------------------------------------------------------------------------------------

def test_at05_program_sees_only_its_stdio(runtime, bundle):
    assert sorted(runtime.probe(bundle())["fds"]) == ["0", "1", "2"]


def test_at05_created_program_sees_only_its_stdio(runtime, bundle):
    b = bundle("/bin/probe")
    runtime.up(b)
    runtime.wait_stopped(b)
    assert sorted(json.loads(b.out())["fds"]) == ["0", "1", "2"]


def test_at05_exec_sees_only_its_stdio(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    assert sorted(runtime.exec_probe(b)["fds"]) == ["0", "1", "2"]


def test_at05_descriptors_of_the_caller_are_not_passed_on(runtime, bundle, work):
    seen = fds(runtime.in_view(holding(work, 10)).run(bundle("/bin/probe")))
    assert sorted(seen) == ["0", "1", "2"]


def test_at05_idle_init_of_a_created_container_holds_little(runtime, bundle):
    """Stdio, what it waits on, and nothing of the host's file system but that."""
    b = bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    links = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    extra = {fd: link for fd, link in links.items() if int(fd) > 2}
    for link in extra.values():
        assert "/sys/fs/cgroup" not in link and b.path not in link, links
    if not runtime.peer:
        assert len(extra) <= 4, links


def test_at05_runtime_keeps_no_descriptor_of_a_detached_container(runtime, bundle):
    """The caller reads the container's pipe to its end: the runtime must not hold a copy."""
    b = bundle("echo", "text").write()
    runtime.track(b.id)
    read_end, write_end = os.pipe()
    runtime.call("run", "-d", "--bundle", b.path, b.id, stdout=write_end).ok()
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        assert reader.read() == "text\n"


# --- preserve-fds ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", ["run", "create"])
def test_cr07_preserve_fds(runtime, bundle, work, verb):
    b, view = bundle("/bin/probe"), runtime.in_view(holding(work, 3))
    if verb == "run":
        seen = fds(view.run(b, "--preserve-fds", "2"))
    else:
        view.create(b, "--preserve-fds", "2").ok()
        runtime.start(b).ok()
        runtime.wait_stopped(b)
        seen = json.loads(b.out())["fds"]
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert seen["3"].endswith("keep0") and seen["4"].endswith("keep1")


@differs_from(OLD, "other wording")
def test_cr07_missing_descriptor(runtime, bundle):
    runtime.create(bundle("true"), "--preserve-fds", "60").fails(
        "unable to stat preserved-fd", "(of 60): no such file or directory")


@differs_from("runc", "hides behind its own descriptors (CR-07)")
def test_cr07_missing_low_descriptor(runtime, bundle):
    runtime.create(bundle("true"), "--preserve-fds", "1").fails(
        "unable to stat preserved-fd 0 (of 1): no such file or directory")


def test_cr07_many(runtime, bundle, work):
    seen = fds(runtime.in_view(holding(work, 40)).run(bundle("/bin/probe"), "--preserve-fds", "40"))
    assert sorted(map(int, seen)) == list(range(43))
    assert all(seen[str(3 + n)].endswith(f"keep{n}") for n in range(40))


# --- socket activation -----------------------------------------------------------------------------------------------

def test_en02_listen_fds(runtime, bundle, work):
    view = runtime.in_view(holding(work, 3, export_pid=True))
    result = view.run(bundle("/bin/probe"), env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"})
    seen = json.loads(result.ok().out)
    assert sorted(seen["fds"]) == ["0", "1", "2", "3", "4"]
    assert seen["fds"]["3"].endswith("keep0") and seen["fds"]["4"].endswith("keep1")
    env = [entry for entry in seen["env"] if entry.startswith("LISTEN")]
    assert sorted(env) == ["LISTEN_FDS=2", "LISTEN_PID=1"]


def test_en03_listen_fds_come_before_preserved_ones(runtime, bundle, work):
    view = runtime.in_view(holding(work, 3, export_pid=True))
    result = view.run(bundle("/bin/probe"), "--preserve-fds", "1", env={"LISTEN_FDS": "2"})
    seen = json.loads(result.ok().out)["fds"]
    assert sorted(seen) == ["0", "1", "2", "3", "4", "5"] and seen["5"].endswith("keep2")


@pytest.mark.ours("counts in 32 bits")
def test_en02_more_descriptors_than_there_can_be(runtime, bundle, work):
    view = runtime.in_view(holding(work, 3, export_pid=True))
    view.run(bundle("true"), "--preserve-fds", "2", env={"LISTEN_FDS": "4294967295"}).fails("preserved-fd 0 (of 2)")


@pytest.mark.parametrize("env", [{"LISTEN_FDS": "2", "LISTEN_PID": "1"}, {"LISTEN_FDS": "2"}, {"LISTEN_FDS": "x"},
                                 {"LISTEN_FDS": "-1"}], ids=str)
def test_en01_only_for_the_own_pid(runtime, bundle, work, env):
    result = runtime.in_view(holding(work, 2)).run(bundle("/bin/probe"), env=env)
    seen = json.loads(result.ok().out)
    assert sorted(seen["fds"]) == ["0", "1", "2"]
    assert not [entry for entry in seen["env"] if entry.startswith("LISTEN")]


def test_en04_hooks_get_neither(runtime, bundle, work):
    b = bundle("true").hook("createRuntime", f"env > {work}/env; ls -l /proc/self/fd > {work}/fds")
    runtime.in_view(holding(work, 2, export_pid=True)).run(b, env={"LISTEN_FDS": "2"}).ok()
    assert "keep" not in host.read(f"{work}/fds")
    if not runtime.peer:
        assert "LISTEN_" not in host.read(f"{work}/env")


# --- pidfd socket ----------------------------------------------------------------------------------------------------

def pid_of(pidfd):
    return int(host.read(f"/proc/self/fdinfo/{pidfd}").split("Pid:")[1].split()[0])


@differs_from(OLD, "unknown flag")
@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_pf01_pidfd_socket(runtime, bundle, work, verb):
    b = bundle("sleep", "1000")
    if verb == "exec":
        runtime.idle(b)
    b.write()
    runtime.track(b.id)
    with fd_socket(f"{work}/p.sock") as server:
        if verb == "exec":
            runtime.call("exec", "-d", "--pid-file", f"{work}/pid", "--pidfd-socket", server.path, b.id, "sleep", "1000",
                         stdout=2).ok()
            pid = int(host.read(f"{work}/pid"))
        else:
            flags = ["-d"] if verb == "run" else []
            with open(b.stdout, "wb") as out:
                runtime.call(verb, *flags, "--bundle", b.path, "--pidfd-socket", server.path, b.id, stdout=out, stderr=out).ok()
            pid = runtime.state(b)["pid"]
        data, (pidfd,), _ = server.receive()
        assert data.decode() == ("setns" if verb == "exec" else "standard")
        assert pid_of(pidfd) == pid


@differs_from(OLD, "unknown flag")
def test_cr03_absent_socket(runtime, bundle, work):
    runtime.create(bundle("true"), "--pidfd-socket", f"{work}/none").fails(
        f"failed to dail {work}/none: dial unix {work}/none: connect: no such file or directory")
    assert os.listdir(runtime.root) == []


# --- systemd notification --------------------------------------------------------------------------------------------

class Notified:
    """The host's side of NOTIFY_SOCKET: collects messages, releases barriers."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.messages = []
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        while True:
            data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(64))
            if data == b"stop":
                return
            self.messages.append(data.decode())
            for _, _, payload in ancillary:
                for offset in range(0, len(payload), 4):
                    os.close(int.from_bytes(payload[offset:offset + 4], "little"))

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"stop", self.path)
        self.thread.join(5)
        self.socket.close()


@pytest.fixture
def notified(work):
    server = Notified(f"{work}/notify.sock")
    yield server
    server.close()


@differs_from(OLD, "no barrier")
def test_en05_run_relays_ready(runtime, bundle, notified):
    b = bundle("sh", "-c", "/bin/probe notify IGNORED=1 READY=1; sleep 0.2; exit 5")
    assert runtime.run(b, env={"NOTIFY_SOCKET": notified.path}).code == 5
    text = "\n".join(notified.messages)
    assert "READY=1" in text and "MAINPID=" in text and "IGNORED" not in text
    assert any("BARRIER=1" in message for message in notified.messages)


def test_en05_environment_and_mount(runtime, bundle, notified):
    b = bundle("sh", "-c", "echo $NOTIFY_SOCKET; stat -c %a /run/notify/notify.sock; grep ' /run/notify ' /proc/self/mountinfo; "
                           "/bin/probe notify READY=1")
    out = runtime.run(b, env={"NOTIFY_SOCKET": notified.path}).ok().out.splitlines()
    assert out[0] == "/run/notify/notify.sock"
    assert out[1] == "777"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(out[2].split()[5].split(","))


def test_en06_start_waits_for_ready(runtime, bundle, notified):
    b = bundle("sh", "-c", "while ! test -e /tmp/go; do sleep 0.02; done; /bin/probe notify READY=1; sleep 1000").writable()
    env = {"NOTIFY_SOCKET": notified.path}
    runtime.create(b, env=env).ok()
    pid = runtime.state(b)["pid"]
    start = runtime.spawn("start", b.id, env=env)
    host.eventually(lambda: runtime.status(b) == "running")
    assert start.poll() is None
    b.file("tmp/go")
    runtime.finish(start).ok()
    host.eventually(lambda: f"MAINPID={pid}" in "\n".join(notified.messages))


@differs_from(OLD, "waits for ever")
def test_en08_death_ends_the_wait(runtime, bundle, notified):
    b = bundle("sh", "-c", "exit 3")
    assert runtime.run(b, env={"NOTIFY_SOCKET": notified.path}, timeout=10).code == 3
    assert not any("READY" in message for message in notified.messages)


def test_en_variable_is_absent_without_the_hosts(runtime, bundle):
    seen = runtime.probe(bundle())
    assert not [entry for entry in seen["env"] if entry.startswith("NOTIFY")]
