"""state, list and ps (SL, SD rows)."""
import json
import os
import re
import stat
import subprocess
import time

from lib import host
from lib.marks import OLD, differs_from


# --- state, list, ps -------------------------------------------------------------------------------------------------

def test_sl01_state_document(runtime, bundle):
    b = bundle("true", annotations={"z.key": "1", "a.key": "two"})
    before = time.time()
    runtime.create(b).ok()
    text = runtime.call("state", b.id).ok().out
    state = json.loads(text)
    assert list(state) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
    assert not text.endswith("\n") and text.startswith('{\n  "ociVersion"')
    assert state["id"] == b.id
    assert state["bundle"] == b.path
    assert state["rootfs"] == b.rootfs
    assert state["owner"] == ""
    assert list(state["annotations"].items()) == [("a.key", "two"), ("z.key", "1")]
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", state["created"])
    assert match, state["created"]
    made = time.mktime(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 2 <= made <= time.time() + 2
    # What the state complies with, which the config's version says nothing about.
    assert b.config["ociVersion"] == "1.0.2"
    own = re.search(r"^spec: (\S+)$", runtime.call("--version").out, re.M)[1]
    assert state["ociVersion"] == own


def test_sl01_no_annotations_key_without_annotations(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    assert "annotations" not in runtime.state(b)


def test_sl03_status_over_a_life(runtime, bundle):
    b = bundle("/bin/probe", "idle")
    seen = []
    runtime.create(b).ok()
    seen.append(runtime.status(b))
    runtime.start(b).ok()
    seen.append(runtime.status(b))
    runtime.call("pause", b.id).ok()
    seen.append(runtime.status(b))
    runtime.call("resume", b.id).ok()
    seen.append(runtime.status(b))
    runtime.kill(b).ok()
    runtime.wait_stopped(b)
    state = runtime.state(b)
    seen.append(state["status"])
    assert seen == ["created", "running", "paused", "running", "stopped"]
    assert state["pid"] == 0


def test_sd06_zombie_counts_as_stopped(runtime, bundle):
    b = bundle("true")
    with host.no_reaping():
        pid = runtime.up(b)
        host.eventually(lambda: host.proc_stat(pid)["state"] == "Z")
        assert runtime.status(b) == "stopped"
        assert host.proc_stat(pid)["state"] == "Z"


def test_lc07_state_of_unknown_id(runtime):
    runtime.call("state", "nobody").fails("container does not exist").one_line()


def test_sd01_modes_of_the_state_directory(runtime, bundle):
    b = bundle("true")
    runtime.create(b, umask=0).ok()
    directory = f"{runtime.root}/{b.id}"
    assert stat.S_IMODE(os.stat(directory).st_mode) in (0o711, 0o700)
    for name in os.listdir(directory):
        info = os.lstat(f"{directory}/{name}")
        if stat.S_ISREG(info.st_mode):
            assert info.st_mode & 0o022 == 0, name


def test_sd03_names_other_tools_read(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    text = host.read(f"{runtime.root}/{b.id}/state.json")
    pid = runtime.state(b)["pid"]
    for key in ("init_process_pid", "init_process_start", "cgroup_paths", "namespace_paths"):
        assert f'"{key}"' in text
    assert re.search(rf'"init_process_pid":\s*{pid}\b', text)


def test_sl05_list_table(runtime, bundle):
    b, other = bundle("true"), bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    runtime.create(other).ok()
    runtime.kill(other).ok()
    runtime.wait_stopped(other)
    lines = runtime.call("list").ok().out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows[b.id][:3] == [str(pid), "created", b.path]
    assert rows[b.id][-1] == "root"
    assert rows[other.id][:3] == ["0", "stopped", other.path]
    # Columns: as wide as the longest cell but at least 12, then 3 blanks.
    width = max(12, 3 + max(len(b.id), len(other.id)))
    assert lines[0].index("PID") == width
    assert lines[0].index("STATUS") - lines[0].index("PID") == 12


def test_sl05_list_json_is_one_line(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    text = runtime.call("list", "--format", "json").ok().out
    assert text.count("\n") <= 1
    (entry,) = json.loads(text)
    assert entry["id"] == b.id and entry["status"] == "created" and entry["owner"] == "root"
    assert entry["pid"] == runtime.state(b)["pid"]


def test_sl05_empty_list_json_is_null(runtime):
    assert runtime.call("list", "-f", "json").ok().out.strip() == "null"


def test_sl06_quiet(runtime, bundle):
    a, b = bundle("true"), bundle("true")
    runtime.create(a).ok()
    runtime.create(b).ok()
    assert sorted(runtime.call("list", "-q").ok().out.splitlines()) == sorted([a.id, b.id])


@differs_from(OLD, "makes the directory")
def test_sl07_missing_explicit_root_is_an_error(runtime, work):
    runtime.root = f"{work}/none"
    runtime.call("list").fails(f"open {work}/none: no such file or directory")
    runtime.root = f"{work}/root"


def test_sl07_unreadable_entries_do_not_hide_others(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    os.mkdir(f"{runtime.root}/half")
    result = runtime.call("list", "-q")
    assert result.code == 0 and result.out == f"{b.id}\n", result
    assert "load container half: " in result.err
    os.rmdir(f"{runtime.root}/half")


def test_sl08_bad_formats(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    runtime.call("list", "--format", "xml").fails("invalid format option")
    runtime.call("ps", "--format", "xml", b.id).fails("invalid format option")


def test_sl09_ps_json_lists_every_process(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    assert json.loads(runtime.call("ps", "--format", "json", b.id).ok().out) == [pid]
    runtime.exec(b, "-d", ["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).ok()
    text = runtime.call("ps", "--format", "json", b.id).ok().out
    assert text.count("\n") == 1 and text.endswith("]\n")
    assert len(json.loads(text)) == 2 and pid in json.loads(text)


def test_sl09_ps_table(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    lines = runtime.call("ps", b.id).ok().out.splitlines()
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"]
    assert [line.split()[1] for line in lines[1:]] == [str(pid)]


def test_sl09_ps_arguments_go_to_ps(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    lines = runtime.call("ps", b.id, "-e", "-o", "pid,comm").ok().out.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert [line.split() for line in lines[1:]] == [[str(pid), "probe"]]


def test_sl09_ps_errors(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.call("ps", b.id, "-e", "-o", "comm").fails("couldn't find PID field in ps output")
    runtime.call("ps", b.id, "--no-such-option").fails("exit status 1")


def test_sl09_ps_of_a_stopped_container(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    assert runtime.call("ps", "-f", "json", b.id).ok().out.strip() == "null"
    assert len(runtime.call("ps", b.id).ok().out.splitlines()) == 1
