"""SIGKILL of the runtime at any step (issue: kill-safe): no running orphan, and delete --force leaves nothing.

The steps are the system calls of the runtime's process, one run for each; the calls of its helpers are killed too, in
runs of their own.
"""
import collections
import json
import os
import shutil
import subprocess
import time

import pytest

from lib import host
from lib.marks import differs_from
from lib.stepper import count_calls, killed_at, steps

# The kill-points of one verb that a run of the suite visits; set GANTRY_KILL_STEPS=100000 for all of them.
BUDGET = int(os.environ.get("GANTRY_KILL_STEPS", "60"))

pytestmark = [differs_from("runc", "leaves live processes that no delete finds (#4757)"),
              pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


class Killer:
    def __init__(self, runtime, work):
        self.runtime, self.work = runtime, work

    def argv(self, *words):
        return [self.runtime.program, "--root", self.runtime.root, *words]

    def steps(self, prepare, words, undo):
        """All kill-points of one call; it is counted on a run that succeeds."""
        prepare()
        with open(f"{self.work}/count.out", "wb") as out:
            counts = count_calls(self.argv(*words), f"{self.work}/count", stdout=out, stderr=out)
        undo()
        return steps(counts, BUDGET)

    def kill(self, name, number, *words):
        """True when the process was killed (and not done before)."""
        with open(f"{self.work}/kill.out", "wb") as out:
            code = subprocess.run(killed_at(name, number, self.argv(*words)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  check=False, timeout=20).returncode
        return code < 0 or code == 137


@pytest.fixture
def killer(runtime, work):
    return Killer(runtime, work)


def settled(runtime, b):
    """No process is left, or the container is a whole one that `state` knows with a live init."""
    def check():
        pids = set()
        for directory in host.cgroup_dirs(b.id):
            pids.update(host.cgroup_procs(directory))
        pids.update(pid for pid in host.descendants() if "strace" not in host.describe(pid))
        pids = {pid for pid in pids if host.alive(pid)}
        if not pids:
            return "dead"
        result = runtime.call("state", b.id)
        if result.code == 0:
            state = json.loads(result.out)
            if state["status"] in ("created", "running", "paused") and state["pid"] in pids:
                return "whole"
        return None
    return host.eventually(check, 3, f"either no process or a whole container ({[host.describe(p) for p in host.descendants()]})")


def all_gone(runtime, b):
    assert not os.path.exists(f"{runtime.root}/{b.id}"), os.listdir(f"{runtime.root}/{b.id}")
    host.reap()
    assert host.cgroup_dirs(b.id) == []
    left = [host.describe(pid) for pid in host.descendants() if host.alive(pid)]
    assert not left, left


def full(bundle, work):
    """A container with something of everything that must be undone."""
    b = bundle("/bin/probe", "idle", linux={"resources": {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}}})
    b.mount("/mnt", work, "bind", ["rbind", "ro"]).namespace("cgroup")
    b.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]}
    b.hook("createRuntime", "true")
    return b.write()


@pytest.mark.parametrize("kind", ["plain", "user namespace"])
def test_create_killed_at_every_step(runtime, bundle, killer, work, kind):
    b = full(bundle, work)
    if kind == "user namespace":
        b.user_namespace().write()
    runtime.track(b.id)
    words = ["create", "--bundle", b.path, "--pid-file", f"{work}/pid", b.id]

    def undo():
        runtime.delete(b, "--force").ok()
    mounts = host.mount_table()
    hits = 0
    points = killer.steps(lambda: None, words, undo)
    for name, number in points if kind == "plain" else points[::3]:
        if os.path.exists(f"{work}/pid"):
            os.unlink(f"{work}/pid")
        hits += killer.kill(name, number, *words)
        try:
            outcome = settled(runtime, b)
            if os.path.exists(f"{work}/pid") and outcome == "dead":
                assert not host.alive(int(host.read(f"{work}/pid") or 0) or -1)
            listing = runtime.call("list", "-q")
            assert listing.code == 0, listing
            undo()
            all_gone(runtime, b)
            assert host.mount_table() == mounts
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {name} #{number}: {error}") from error
    assert hits > len(points) // 6, "the kills missed"
    runtime.create(b).ok()
    runtime.delete(b, "--force").ok()


@pytest.mark.parametrize("where", ["everywhere", "cgroup2", "freezer"])
def test_create_killed_in_a_foreign_cgroup(runtime, bundle, killer, where):
    """The cgroup that the config asks for is somebody else's: what a killed create leaves is no right to kill there."""
    b = bundle("true").write()
    runtime.track(b.id)
    trees = {name: base for name, base in host.hierarchies().items()
             if name == where or where == "everywhere" and name != "cpuset" or (where == "cgroup2" and name in ("", "unified"))}
    if not trees:
        pytest.skip(f"no {where} here")
    places = [f"{base}/{host.CGROUP_PARENT}/{b.id}" for base in set(trees.values())]
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        for place in places:
            os.mkdir(place)
            with open(f"{place}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(stranger.pid))
        words = ["create", "--bundle", b.path, b.id]
        refused = runtime.create(b)
        assert refused.code == 1 and "not empty" in refused.message, refused
        strace = subprocess.run(["strace", "-qq", "-o", f"{b.path}/calls", "-e", "trace=?mkdir,mkdirat,openat,rename,renameat,close",
                                 *killer.argv(*words)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert strace.returncode == 1
        counts = collections.Counter(line.split("(")[0] for line in host.read(f"{b.path}/calls").splitlines() if "(" in line)
        left = 0
        for name, number in steps(counts, 1000):
            killer.kill(name, number, *words)
            left += os.path.exists(f"{runtime.root}/{b.id}")
            for verb in (["kill", "--all", b.id, "KILL"], ["delete", "--force", b.id]):
                runtime.call(*verb)
                assert stranger.poll() is None, f"{verb} after SIGKILL at {name} #{number}"
            assert not os.path.exists(f"{runtime.root}/{b.id}"), f"after SIGKILL at {name} #{number}"
            assert all(str(stranger.pid) in host.read(f"{place}/cgroup.procs").split() for place in places)
            assert sorted(host.cgroup_dirs(b.id)) == sorted(places), f"after SIGKILL at {name} #{number}"
        assert left > 5, "the kills missed"
    finally:
        stranger.kill()
        stranger.wait()
        host.purge_cgroups(b.id)


@pytest.mark.parametrize("verb", ["start", "delete", "delete --force", "kill", "pause", "resume"])
def test_other_verbs_killed_at_every_step(runtime, bundle, killer, work, verb):
    b = full(bundle, work)
    words = [*verb.split(), b.id]

    def prepare():
        runtime.create(b).ok()
        if verb in ("kill", "pause", "resume", "delete --force"):
            runtime.start(b).ok()
        if verb == "resume":
            runtime.call("pause", b.id).ok()

    def undo():
        runtime.delete(b, "--force").ok()
    for name, number in killer.steps(prepare, words, undo)[::2 if verb in ("start", "delete --force") else 4]:
        prepare()
        killer.kill(name, number, *words)
        try:
            result = runtime.call("state", b.id)
            assert result.code == 0 or "does not exist" in result.message, result
            if verb == "start" and result.code == 0 and json.loads(result.out)["status"] == "created":
                runtime.start(b).ok()
            undo()
            all_gone(runtime, b)
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL of {verb} at {name} #{number}: {error}") from error


def test_exec_killed_at_every_step(runtime, bundle, killer, work):
    """The container lives on; the new process either runs whole or is gone."""
    b = full(bundle, work)
    pid = runtime.idle(b)
    words = ["exec", "--detach", "--pid-file", f"{work}/pid", b.id, "sleep", "1000"]

    def undo():
        for process in json.loads(runtime.call("ps", "-f", "json", b.id).ok().out):
            if process != pid:
                host.kill_quietly(process)
        host.eventually(lambda: json.loads(runtime.call("ps", "-f", "json", b.id).ok().out) == [pid])
    for name, number in killer.steps(lambda: None, words, undo)[::2]:
        killer.kill(name, number, *words)

        def clean():
            left = [p for p in json.loads(runtime.call("ps", "-f", "json", b.id).ok().out) if p != pid]
            return all("sleep" in host.describe(p) for p in left)
        try:
            host.eventually(clean, 3, "no half-made process in the container")
            assert runtime.status(b) == "running"
            undo()
            strangers = [host.describe(p) for p in host.descendants() if p != pid and host.alive(p)]
            assert not strangers, strangers
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {name} #{number}: {error}") from error


def test_run_killed_at_every_step(runtime, bundle, killer, work):
    """Foreground run: its container may outlive it, but delete --force finds it."""
    b = full(bundle, work)
    b.args("true").write()
    runtime.track(b.id)
    words = ["run", "--bundle", b.path, b.id]
    for name, number in killer.steps(lambda: None, words, lambda: None)[::2]:
        killer.kill(name, number, *words)
        try:
            settled(runtime, b)
            runtime.delete(b, "--force").ok()
            all_gone(runtime, b)
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {name} #{number}: {error}") from error


@pytest.mark.parametrize("verb", ["create", "run"])
def test_killed_after_growing_delays(runtime, bundle, work, verb):
    """Also between the steps of the helpers, which the stepper does not see."""
    b = full(bundle, work)
    for index in range(25):
        process = runtime.spawn(verb, "--bundle", b.path, b.id)
        runtime.track(b.id)
        time.sleep(index * 0.001)
        process.kill()
        process.wait()
        runtime.running.pop(process.pid, None)
        settled(runtime, b)
        runtime.delete(b, "--force").ok()
        all_gone(runtime, b)


@pytest.mark.parametrize("which", ["launcher", "init"])
def test_helpers_killed_at_every_step(runtime, bundle, work, which):
    """A helper that dies on its way: create fails by itself, says something, and undoes everything."""
    b = full(bundle, work)
    calls = ["clone3", "unshare", "setns", "mount", "move_mount", "open_tree", "fsmount", "mount_setattr", "pivot_root",
             "umount2", "capset", "seccomp", "prctl", "sendmsg", "write", "setresuid", "setgroups", "mkdirat", "mknodat"]
    done = 0
    for name in calls if which == "init" else ["clone3", "sendmsg", "write", "setns", "unshare"]:
        for number in (1, 2, 5):
            runtime.track(b.id)
            argv = ["strace", "-D", "-qq", "-f", "-o", "/dev/null", "-e", f"trace={name}",
                    "-e", f"inject={name}:signal=KILL:when={number}"]
            # -f counts per process: whichever helper gets there first dies, and the runtime itself may, too.
            result = runtime.in_view(argv).call("create", "--bundle", b.path, b.id, timeout=15)
            done += 1
            settled(runtime, b)
            if result.code == 1:
                assert not os.path.exists(f"{runtime.root}/{b.id}"), result
                assert result.err.strip(), result
            runtime.delete(b, "--force").ok()
            host.eventually(lambda: all_gone(runtime, b) is None, 3, "nothing left")
    assert done


# --- torn and hostile state files ------------------------------------------------------------------------------------

def state_file(runtime, b):
    return f"{runtime.root}/{b.id}/state.json"


@pytest.mark.parametrize("damage", ["empty", "half", "end cut", "flipped", "garbage", "missing"])
@pytest.mark.parametrize("status", ["created", "running"])
def test_torn_state_reads_as_crashed_and_can_be_removed(runtime, bundle, damage, status):
    b = bundle("/bin/probe", "idle")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    if status == "running":
        runtime.start(b).ok()
    path = state_file(runtime, b)
    with open(path, "rb") as file:
        data = file.read()
    damaged = {"empty": b"", "half": data[:len(data) // 2], "end cut": data.rstrip()[:-1],
               "flipped": data.replace(str(pid).encode(), str(pid ^ 1).encode(), 1), "garbage": os.urandom(300)}.get(damage)
    if damage == "missing":
        os.unlink(path)
    else:
        with open(path, "wb") as file:
            file.write(damaged)
    result = runtime.call("state", b.id)
    assert result.code == 1 or json.loads(result.out)["status"] not in ("created", "running"), result
    other = bundle("true")
    runtime.create(other).ok()
    listing = runtime.call("list", "-q")
    assert listing.code == 0 and other.id in listing.out, listing
    assert host.alive(pid), "looking must not kill"
    runtime.create(bundle("true"), id=b.id).fails("container with given ID already exists")
    runtime.delete(b, "--force").ok()
    assert not host.alive(pid)
    all_but_other = [path for path in host.cgroup_dirs(b.id)]
    assert all_but_other == [] and not os.path.exists(f"{runtime.root}/{b.id}")
    runtime.delete(other, "--force").ok()


@pytest.mark.parametrize("pid", [0, -1, 1, "other"])
def test_state_that_names_a_foreign_process_signals_nobody(runtime, bundle, pid):
    """Semantic lies in the file: whatever the file says, only processes of the container may be signalled."""
    b = bundle()
    init = runtime.idle(b)
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        path = state_file(runtime, b)
        text = host.read(path)
        lie = victim.pid if pid == "other" else pid
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(str(init), str(lie)))
        runtime.call("kill", b.id, "KILL")
        runtime.call("delete", "--force", b.id)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_left_over_temporary_file_does_no_harm(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    for name in ("state.json.tmp", "state-123", ".state.json.x"):
        with open(f"{runtime.root}/{b.id}/{name}", "wb") as file:
            file.write(b"x" * 100000)
    assert runtime.status(b) == "created"
    runtime.delete(b, "--force").ok()


@pytest.mark.parametrize("times", [3])
def test_delete_force_is_idempotent_and_concurrent(runtime, bundle, times):
    b = bundle()
    runtime.idle(b)
    calls = [runtime.spawn("delete", "--force", b.id) for _ in range(8)]
    assert [runtime.finish(call).code for call in calls] == [0] * 8
    for _ in range(times):
        runtime.delete(b, "--force").ok()
    all_gone(runtime, b)


def test_create_of_one_id_by_many_callers(runtime, bundle):
    """The directory is the claim: exactly one wins and is whole."""
    bundles = [bundle("true").write() for _ in range(6)]
    name = bundles[0].id
    runtime.track(name)
    calls = [runtime.spawn("create", "--bundle", b.path, name) for b in bundles]
    results = [runtime.finish(call) for call in calls]
    assert sorted(r.code for r in results) == [0] + [1] * 5, results
    assert runtime.status(name) == "created"
    assert all("already exists" in r.message for r in results if r.code)


def test_start_by_many_callers(runtime, bundle):
    b = bundle("echo", "once")
    runtime.create(b).ok()
    calls = [runtime.spawn("start", b.id) for _ in range(6)]
    codes = [runtime.finish(call).code for call in calls]
    assert codes.count(0) == 1, codes
    runtime.wait_stopped(b)
    assert b.out() == "once\n"
