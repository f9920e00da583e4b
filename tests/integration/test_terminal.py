"""Terminals: console sockets (CO), foreground terminals (RN-04, RN-06), exec -t (EX-05, EX-10, EX-28), sizes (PR-02)."""
import json
import os
import signal

import pytest

from lib import host
from lib.marks import OLD, differs_from
from lib.terminal import fd_socket, pty, read_all, read_until, set_window_size, window_size


def terminal_bundle(bundle, *args, **process):
    return bundle(*args, process={"terminal": True, **process})


def with_console(runtime, b, work, verb="create", name="console.sock", start=True):
    """Runs create or run -d with a console socket; returns (message, master)."""
    b.write()
    runtime.track(b.id)
    with fd_socket(f"{work}/{name}") as server:
        flags = ["-d"] if verb == "run" else []
        runtime.call(verb, *flags, "--bundle", b.path, "--console-socket", f"{work}/{name}", b.id).ok()
        data, fds, carriers = server.receive()
        assert (len(fds), carriers) == (1, 1)
        master = os.dup(fds[0])
    if verb == "create" and start:
        runtime.start(b).ok()
    return data, master


# --- console socket --------------------------------------------------------------------------------------------------

def test_co02_one_message_with_the_master(runtime, bundle, work):
    data, master = with_console(runtime, terminal_bundle(bundle, "sh", "-c", "echo hello; tty"), work)
    assert data.decode().startswith("/dev/") and len(data) < 4096
    text = read_all(master)
    assert text == "hello\r\n/dev/pts/0\r\n"
    os.close(master)


def test_co02_run_detached(runtime, bundle, work):
    _, master = with_console(runtime, terminal_bundle(bundle, "echo", "hello"), work, "run")
    assert read_all(master) == "hello\r\n"
    os.close(master)


def test_co02_master_and_slave_belong_together(runtime, bundle, work):
    b = terminal_bundle(bundle, "sh", "-c", "read line; echo \"got $line\"")
    _, master = with_console(runtime, b, work)
    os.write(master, b"something\n")
    assert "got something\r\n" in read_all(master)
    os.close(master)


def test_co03_stdio_and_console_are_the_slave(runtime, bundle, work):
    b = terminal_bundle(bundle, "sh", "-c", "readlink /proc/self/fd/0; readlink /proc/self/fd/2; stat -c '%t:%T' /dev/console")
    _, master = with_console(runtime, b, work)
    lines = read_all(master).split()
    assert lines[:2] == ["/dev/pts/0"] * 2
    assert lines[2] == "88:0"
    os.close(master)


@pytest.mark.parametrize("uid", [0, 1000])
def test_co03_owner_of_the_slave(runtime, bundle, work, uid):
    b = terminal_bundle(bundle, "sh", "-c", "stat -c '%u %g %a' $(tty); echo x > $(tty)", user={"uid": uid, "gid": uid})
    _, master = with_console(runtime, b, work)
    first, second = read_all(master).split("\r\n")[:2]
    assert first.split()[:2] == [str(uid), "5"] and int(first.split()[2], 8) & 0o600 == 0o600
    assert second == "x"
    os.close(master)


def test_co03_controlling_terminal(runtime, bundle, work):
    """Ctrl-C on the master reaches the foreground group of the container."""
    _, master = with_console(runtime, terminal_bundle(bundle, "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; read x"), work)
    read_until(master, "up")
    os.write(master, b"\x03")
    assert "caught" in read_all(master)
    os.close(master)


def test_pr02_console_size(runtime, bundle, work):
    b = terminal_bundle(bundle, "stty", "size", consoleSize={"height": 10, "width": 110})
    _, master = with_console(runtime, b, work)
    assert read_all(master) == "10 110\r\n"
    assert window_size(master) == (10, 110)
    os.close(master)


@differs_from(OLD, "limited to 107 bytes")
@differs_from("runc", "limited to 107 bytes")
@pytest.mark.parametrize("length", [107, 108, 200])
def test_co04_long_socket_paths(runtime, bundle, work, length):
    directory = f"{work}/{'d' * (length - len(work) - 2 - 4)}"
    os.mkdir(directory)
    path = f"{os.path.basename(directory)}/s.k"
    _, master = with_console(runtime, terminal_bundle(bundle, "echo", "far"), work, name=path)
    assert read_all(master) == "far\r\n"
    os.close(master)


def test_cr08_terminal_without_socket(runtime, bundle):
    b = terminal_bundle(bundle, "true")
    result = runtime.create(b).fails("cannot allocate tty if ", " will detach without setting console socket").one_line()
    assert f"if {runtime.name} will" in result.message or "if runc will" in result.message
    assert os.listdir(runtime.root) == []


def test_cr08_socket_without_terminal(runtime, bundle, work):
    with fd_socket(f"{work}/c.sock"):
        runtime.create(bundle("true"), "--console-socket", f"{work}/c.sock").fails(
            "cannot use console socket if ", " will not detach or allocate tty")


def test_cr08_absent_socket(runtime, bundle, work):
    b = terminal_bundle(bundle, "true")
    runtime.create(b, "--console-socket", f"{work}/none").fails(
        f"dial unix {work}/none: connect: no such file or directory")
    assert os.listdir(runtime.root) == []


@pytest.mark.parametrize("make", ["file", "nobody listens"])
def test_e_bad_console_sockets(runtime, bundle, work, make):
    import socket
    path = f"{work}/c.sock"
    if make == "file":
        open(path, "wb").close()
    else:
        with socket.socket(socket.AF_UNIX) as unheard:
            unheard.bind(path)
    result = runtime.create(terminal_bundle(bundle, "true"), "--console-socket", path, timeout=10)
    assert result.code == 1, result
    assert os.listdir(runtime.root) == []


def test_e_console_socket_that_never_accepts(runtime, bundle, work):
    """The connection waits in the backlog: create must not depend on the receiver's pace."""
    with fd_socket(f"{work}/c.sock") as server:
        b = terminal_bundle(bundle, "echo", "late").write()
        runtime.track(b.id)
        runtime.call("create", "--bundle", b.path, "--console-socket", server.path, b.id, timeout=10).ok()
        _, fds, _ = server.receive()
        runtime.start(b).ok()
        assert read_all(fds[0]) == "late\r\n"


def test_co_relative_console_socket_belongs_to_the_callers_directory(runtime, bundle, work):
    b = terminal_bundle(bundle, "echo", "here").write()
    runtime.track(b.id)
    with fd_socket(f"{work}/rel.sock") as server:
        result = runtime.call("create", "--bundle", b.path, "--console-socket", "rel.sock", b.id, cwd=work)
        if runtime.peer:
            pytest.skip("runc looks in the bundle")
        result.ok()
        server.receive()


# --- foreground ------------------------------------------------------------------------------------------------------

@differs_from(OLD, "sets the size only after start")
def test_rn04_foreground_terminal(runtime, bundle):
    with pty(31, 97) as tty:
        before = tty.attributes()
        b = terminal_bundle(bundle, "sh", "-c", "tty; stty size; read line; echo \"got $line\"; exit 9")
        process = runtime.spawn_run(b, **tty.stdio())
        text = read_until(tty.master, "31 97\r\n")
        assert "/dev/pts/0\r\n" in text
        host.eventually(tty.is_raw, what="raw mode")
        tty.write("words\r")
        read_until(tty.master, "got words\r\n")
        assert runtime.finish(process).code == 9
        assert tty.attributes() == before


def test_rn04_newlines_are_translated_once(runtime, bundle):
    """The caller's terminal is raw, so the container's does the one translation to CR LF."""
    with pty() as tty:
        process = runtime.spawn_run(terminal_bundle(bundle, "printf", "a\\nb\\n"), **tty.stdio())
        assert runtime.finish(process).code == 0
        assert read_until(tty.master, "b").rstrip("\r\n").replace("\r\n", "\n") == "a\nb"


def test_rn04_control_characters_go_to_the_container(runtime, bundle):
    with pty() as tty:
        b = terminal_bundle(bundle, "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; read x")
        process = runtime.spawn_run(b, **tty.stdio())
        read_until(tty.master, "up")
        host.eventually(tty.is_raw)
        tty.write("\x03")
        read_until(tty.master, "caught")
        assert runtime.finish(process).code == 3


def test_rn06_resize(runtime, bundle):
    with pty(20, 60) as tty:
        b = terminal_bundle(bundle, "sh", "-c", "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.05; done")
        process = runtime.spawn_run(b, **tty.stdio())
        read_until(tty.master, "up")
        host.eventually(tty.is_raw)
        set_window_size(tty.slave, 44, 133)
        process.send_signal(signal.SIGWINCH)
        read_until(tty.master, "44 133")
        assert runtime.finish(process).code == 0


def test_rn04_mode_is_restored_after_sigterm(runtime, bundle):
    with pty() as tty:
        before = tty.attributes()
        b = terminal_bundle(bundle, "/bin/probe", "idle")
        process = runtime.spawn_run(b, **tty.stdio())
        read_until(tty.master, "ready")
        host.eventually(tty.is_raw)
        process.send_signal(signal.SIGTERM)
        assert runtime.finish(process).code == 15
        assert tty.attributes() == before


def test_rn04_mode_is_restored_after_a_failed_create(runtime, bundle):
    with pty() as tty:
        before = tty.attributes()
        process = runtime.spawn_run(terminal_bundle(bundle, "no-such-program"), **tty.stdio())
        assert runtime.finish(process).code == 1
        assert tty.attributes() == before


def test_rn04_last_output_is_never_lost(runtime, bundle):
    with pty() as tty:
        for number in range(10):
            process = runtime.spawn_run(terminal_bundle(bundle, "sh", "-c", f"seq 1 2000; echo end{number}"), **tty.stdio())
            read_until(tty.master, f"end{number}")
            assert runtime.finish(process).code == 0


def test_rn04_without_any_terminal(runtime, bundle):
    b = terminal_bundle(bundle, "true")
    process = runtime.spawn_run(b, start_new_session=True)
    runtime.finish(process).fails("run failed: open /dev/tty: no such device or address")
    assert os.listdir(runtime.root) == []


def test_rn04_stdin_may_be_a_pipe_when_stdout_is_a_terminal(runtime, bundle):
    with pty() as tty:
        b = terminal_bundle(bundle, "sh", "-c", "read line; echo \"got $line\"")
        stdio = tty.stdio()
        stdio["stdin"] = "from a pipe\n"
        process = runtime.spawn_run(b, **stdio)
        read_until(tty.master, "got from a pipe")
        assert runtime.finish(process).code == 0


def test_rn04_fast_output_to_a_slow_terminal_is_whole(runtime, bundle):
    with pty() as tty:
        process = runtime.spawn_run(terminal_bundle(bundle, "seq", "1", "30000"), **tty.stdio())
        text = read_until(tty.master, "\n30000\r\n", timeout=15)
        assert [int(word) for word in text.split()] == list(range(1, 30001))
        assert runtime.finish(process).code == 0


def test_at22_terminal_false_has_no_terminal(runtime, bundle):
    with pty() as tty:
        process = runtime.spawn_run(bundle("sh", "-c", "tty; test -e /dev/console || echo none"), **tty.stdio())
        assert runtime.finish(process).code in (0, 1)
        text = read_until(tty.master, "none")
        assert "not a tty" in text or "/dev/" in text


# --- exec ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def box(runtime, bundle):
    b = bundle().writable()
    b.pid = runtime.idle(b)
    return b


def test_ex05_exec_with_a_terminal(runtime, box):
    with pty(17, 71) as tty:
        before = tty.attributes()
        process = runtime.spawn("exec", "-t", box.id, "sh", "-c", "tty; stty size; exit 4", **tty.stdio())
        read_until(tty.master, "/dev/pts/0\r\n17 71\r\n")
        assert runtime.finish(process).code == 4
        assert tty.attributes() == before


def test_ex05_terminal_is_off_by_default(runtime, bundle, work):
    b = terminal_bundle(bundle, "sleep", "1000")
    _, master = with_console(runtime, b, work)
    assert runtime.exec(b, ["tty"]).out == "not a tty\n"
    os.close(master)


def test_ex05_without_any_terminal(runtime, box):
    process = runtime.spawn("exec", "-t", box.id, "true", start_new_session=True)
    runtime.finish(process).fails("exec failed: open /dev/tty: no such device or address", code=255)


def test_ex10_console_socket(runtime, box, work):
    with fd_socket(f"{work}/c.sock") as server:
        runtime.call("exec", "-t", "-d", "--console-socket", server.path, box.id, "sh", "-c", "tty; echo hi").ok()
        _, fds, _ = server.receive()
        assert read_all(fds[0]) == "/dev/pts/0\r\nhi\r\n"


def test_ex28_console_size_from_the_process_file(runtime, box, work):
    process = {**box.process, "terminal": True, "args": ["stty", "size"], "consoleSize": {"height": 10, "width": 110}}
    with open(f"{work}/p.json", "w", encoding="utf-8") as file:
        json.dump(process, file)
    with fd_socket(f"{work}/c.sock") as server:
        runtime.call("exec", "-t", "-d", "--console-socket", server.path, "-p", f"{work}/p.json", box.id).ok()
        _, fds, _ = server.receive()
        assert read_all(fds[0]) == "10 110\r\n"


@pytest.mark.parametrize("flags, text", [
    (["-t", "-d"], " will detach without setting console socket"),
    (["--console-socket", "/x"], " will not detach or allocate tty")])
def test_cr08_exec_rules(runtime, box, flags, text):
    if runtime.peer == OLD:
        pytest.skip("runc 1.1.5 checks in another order")
    runtime.exec(box, *flags, ["true"]).fails("exec failed: cannot ", text, code=255)


def test_exec_terminal_owner(runtime, box, work):
    with fd_socket(f"{work}/c.sock") as server:
        runtime.call("exec", "-t", "-d", "-u", "1000", "--console-socket", server.path, box.id,
                     "sh", "-c", "stat -c %u $(tty)").ok()
        _, fds, _ = server.receive()
        assert read_all(fds[0]) == "1000\r\n"


def test_exec_terminal_in_a_user_namespace(runtime, bundle, work):
    b = bundle().user_namespace()
    runtime.idle(b)
    with fd_socket(f"{work}/c.sock") as server:
        runtime.call("exec", "-t", "-d", "--console-socket", server.path, b.id, "sh", "-c", "stat -c %u $(tty)").ok()
        _, fds, _ = server.receive()
        assert read_all(fds[0]) == "0\r\n"


def test_terminal_in_a_user_namespace(runtime, bundle, work):
    b = terminal_bundle(bundle, "sh", "-c", "tty; stat -c %u $(tty) /dev/console").user_namespace()
    _, master = with_console(runtime, b, work)
    assert read_all(master) == "/dev/pts/0\r\n0\r\n0\r\n"
    os.close(master)


# --- hostile images --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", ["{work}/canary", "../../../../../../{work}/canary"])
def test_b_console_symlink_does_not_reach_the_host(runtime, bundle, work, target):
    """CVE-2026-88264: /dev/console in the image is a link and nothing is mounted on /dev."""
    b = terminal_bundle(bundle, "true").without_mount("/dev", "/dev/shm", "/dev/mqueue").writable()
    os.symlink(target.format(work=work), f"{b.rootfs}/dev/console")
    b.write()
    runtime.track(b.id)
    with fd_socket(f"{work}/c.sock") as server:
        runtime.call("create", "--bundle", b.path, "--console-socket", server.path, b.id, timeout=10)
    assert not os.path.lexists(f"{work}/canary")


def test_e_image_devpts_cannot_redirect_the_console(runtime, bundle, work):
    """CVE-2025-52565: the slave is not looked up by a name the image controls."""
    b = terminal_bundle(bundle, "sh", "-c", "stat -c %t /dev/console; tty").without_mount("/dev/pts").writable()
    b.mount("/dev/pts", "fake", "tmpfs")
    b.write()
    runtime.track(b.id)
    with fd_socket(f"{work}/c.sock") as server:
        result = runtime.call("create", "--bundle", b.path, "--console-socket", server.path, b.id, timeout=10)
        assert result.code == 1, "a terminal cannot come from a tmpfs"


def test_tiocsti_does_not_reach_the_callers_terminal(runtime, bundle):
    with pty() as tty:
        b = bundle("/bin/probe", "tiocsti")
        runtime.create(b, **{k: tty.stdio()[k] for k in ("stdin", "stdout", "stderr")}).ok()
        runtime.start(b).ok()
        runtime.wait_stopped(b)
        assert read_until(tty.master, "E").split()[0] == "0"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_callers_terminal_stays_the_callers(runtime, bundle, verb):
    """Its new owner would be a user of the host, who could go on reading from it afterwards."""
    master, slave = os.openpty()
    before = os.fstat(slave)
    stdio = {"stdin": slave, "stdout": slave, "stderr": slave}
    if verb == "run":
        runtime.run(bundle("true", process={"user": {"uid": 1000, "gid": 1000}}), **stdio).ok()
    else:
        box = bundle()
        runtime.idle(box)
        runtime.exec(box, "--user", "1000:1000", ["true"], **stdio).ok()
    after = os.fstat(slave)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    os.close(slave)
    os.close(master)
