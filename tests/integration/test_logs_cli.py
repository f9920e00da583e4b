"""`logs` on log files that the test has written; no supervisor is there."""
import os
import subprocess
import threading

import pytest

from conftest import PROGRAM
from lib.player import write_definition

pytestmark = pytest.mark.ours("has no logs command")

T1, T2, T3 = (f"2026-08-19T12:34:5{i}.000000000Z" for i in (1, 2, 3))


@pytest.fixture
def state(work):
    return f"{work}/definitions"


@pytest.fixture
def start(work, state):
    def call(*words, **options):
        return subprocess.Popen([PROGRAM, "--root", f"{work}/root", "logs", "--state-dir", state, *words],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=work, **options)
    return call


@pytest.fixture
def logs(start):
    """logs(*words): stdout, stderr and exit status."""
    def call(*words):
        process = start(*words)
        out, err = process.communicate(timeout=20)
        return out, err, process.returncode
    return call


@pytest.fixture
def web(state):
    """A container that has ended, with a log in two files."""
    write_definition(state, "web", last_run=1)
    write(f"{state}/web/container.log.1", f"{T1} stdout F one\n{T1} stderr F oops\n")
    write(f"{state}/web/container.log", f"{T2} stdout P tw\n{T2} stdout F o\n{T3} stdout F three\n")


def write(path, text, mode="w"):
    with open(path, mode, encoding="utf-8") as file:
        file.write(text)


def test_the_bytes_of_the_container(logs, web):
    assert logs("web") == (b"one\ntwo\nthree\n", b"oops\n", 0)


@pytest.mark.parametrize("words, out", [
    (["--tail", "1"], b"three\n"),
    (["-n", "2"], b"two\nthree\n"),
    (["--tail", "0"], b""),
    (["--since", "2026-08-19T12:34:53Z"], b"three\n"),
    (["--since", "1s"], b""),
    (["--timestamps"], f"{T1} one\n{T2} two\n{T3} three\n".encode()),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_choices(logs, web, words, out):
    assert logs(*words, "web")[0] == out


def test_several_have_their_names_in_front(logs, web, state):
    write_definition(state, "json", last_run=1, log="json,files=2")
    write(f"{state}/json/container.log", f'{{"log":"hello\\n","stream":"stdout","time":"{T1}"}}\n')
    out, err, status = logs("web", "json", "nobody")
    assert out == b"web | one\nweb | two\nweb | three\njson | hello\n"
    assert status == 1 and b"web | oops\n" in err and b"nobody: container does not exist" in err


def test_a_log_elsewhere_and_none_at_all(logs, state, work):
    write_definition(state, "a", last_run=1, log=f"cri,path={work}/a.log")
    write(f"{work}/a.log", f"{T1} stdout F there\n")
    assert logs("a") == (b"there\n", b"", 0)
    write_definition(state, "b", last_run=1, log="none")
    out, err, status = logs("b")
    assert (out, status) == (b"", 1) and b"b: has no log: it was started with --log none" in err


def test_a_kept_log_of_a_removed_container(logs, web, state):
    os.remove(f"{state}/web/definition.json")
    assert logs("-f", "web")[0] == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("words, text", [
    (["--tail=-1"], b"--tail -1: must not be negative"),
    (["--since", "yesterday"], b"--since yesterday: must be a time like"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_words_that_are_refused(logs, web, words, text):
    out, err, status = logs(*words, "web")
    assert (out, status) == (b"", 1) and text in err


def test_follow_shows_what_comes_until_the_container_has_ended(start, state):
    write_definition(state, "web")
    log = f"{state}/web/container.log"
    write(log, f"{T1} stdout F one\n")
    process = start("-f", "web")
    guard = threading.Timer(20, process.kill)
    guard.start()
    try:
        assert process.stdout.readline() == b"one\n"
        write(log, f"{T2} stdout F two\n", "a")
        assert process.stdout.readline() == b"two\n"
        os.rename(log, f"{log}.1")
        write(log, f"{T3} stdout F three\n")
        assert process.stdout.readline() == b"three\n"
        write(log, f"{T3} stdout F last\n", "a")
        write_definition(state, "web", last_run=1)
        assert process.stdout.read() == b"last\n"
        assert process.wait() == 0 and process.stderr.read() == b""
    finally:
        guard.cancel()
        process.kill()
        process.wait()


def test_follow_several(start, state):
    for name in ("a", "b"):
        write_definition(state, name)
        write(f"{state}/{name}/container.log", f"{T1} stdout F one\n")
    process = start("-f", "a", "b")
    guard = threading.Timer(20, process.kill)
    guard.start()
    try:
        assert sorted([process.stdout.readline(), process.stdout.readline()]) == [b"a | one\n", b"b | one\n"]
        for name in ("b", "a"):
            write(f"{state}/{name}/container.log", f"{T1} stdout F two\n", "a")
            assert process.stdout.readline() == f"{name} | two\n".encode()
            write_definition(state, name, last_run=1)
        assert process.wait() == 0
    finally:
        guard.cancel()
        process.kill()
        process.wait()


def test_a_reader_that_has_seen_enough(state, work, web):
    write(f"{state}/web/container.log", f"{T1} stdout F line\n" * 100_000)
    script = f"{PROGRAM} --root {work}/root logs --state-dir {state} web | head -n 1"
    result = subprocess.run(["sh", "-c", script], capture_output=True, timeout=20, check=True)
    assert (result.stdout, result.stderr.replace(b"oops\n", b"")) == (b"one\n", b"")
