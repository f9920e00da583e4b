"""Trouble of one container is nobody else's: what hangs, what cannot start, what crashes again and again."""
import os
import time

import pytest

from lib import host
from lib.stage import BYSTANDERS, cast, endless, hung, slow, stage  # noqa: F401

# Silences of a tenth of a second are judged: nothing else may run beside it.
pytestmark = pytest.mark.alone


# --- hooks, mounts, bundles ------------------------------------------------------------------------------------------

def test_nothing_happens_and_nobody_notices(stage):
    """The measure itself: without any trouble it must not find any."""
    stage.unmoved()


def test_stuck_hooks_hold_up_only_their_containers(stage, cast):
    stuck = [cast.bundle("true").hook("createRuntime", "sleep 1000") for _ in range(10)]
    box = endless(cast)

    def trouble():
        calls = [cast.begin_up(each) for each in stuck]
        host.eventually(lambda: cast.supervised.status()["containers"] == BYSTANDERS + len(stuck), what="ten starts")
        cast.up(box, timeout=8).ok()
        cast.rm(box, *stuck).ok()
        for call in calls:
            cast.runtime.finish(call).fails("stopped while it was being started").one_line()
    stage.unmoved(trouble)


def test_a_restart_that_hangs_is_stopped_and_the_exit_before_stays_on_record(cast, work):
    box = cast.bundle().sh("exit 4").hook("createRuntime", f"test ! -e {work}/stuck || sleep 1000; : > {work}/stuck")
    cast.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: cast.supervised.definition(box)["restarts"] == 1, what="a restart")
    time.sleep(0.3)
    cast.runtime.call("stop", box.id).ok()
    cast.supervised.wait(box).ok("4\n")


def test_a_hook_with_a_timeout_fails_its_container(stage, cast):
    box = cast.bundle("true").hook("createRuntime", "sleep 1000 & sleep 1000", timeout=1)
    stage.unmoved(lambda: cast.up(box).fails("createRuntime", "timeout of 1").one_line())


@pytest.mark.parametrize("mode", ["pending", "taken"])
def test_a_mount_source_that_never_answers(stage, cast, hung, mode):
    hung.begin(mode)
    box = cast.bundle("true").mount("/data", f"{hung.point}/data", "bind", ["bind"])
    box.file("data/.keep")

    def trouble():
        call = cast.begin_up(box)
        host.eventually(lambda: os.path.exists(hung.asked), what="a request to the file system")
        time.sleep(0.2)
        if mode == "taken":
            hung.end()  # nothing else ends who waits for a request that was taken
        else:
            cast.rm(box).ok()
        cast.runtime.finish(call).fails().one_line()
        hung.begin(mode)
    stage.unmoved(trouble)


@pytest.mark.parametrize("what", ["rootfs", "bundle", "netns", "log", "log directory", "namespace", "agent"])
def test_paths_of_a_call_that_lead_to_a_file_system_that_never_answers(stage, cast, hung, work, what):
    """As a client that lies would send them, or one whose file system has gone away since."""
    hung.begin("pending")
    box = cast.bundle("true")
    there = f"{hung.point}/there"
    up = {"id": box.id, "bundle": box.path, "rootfs": box.rootfs, "restart": "no", "log": "", "netns": ""}
    if what in ("rootfs", "bundle", "netns"):
        up[what] = there
    elif what == "log":
        up["log"] = f"cri,path={there}"
    elif what == "log directory":
        os.symlink(there, f"{work}/logs")
        up["log"] = f"cri,path={work}/logs/deep/er/log"
    elif what == "namespace":
        box.namespace("uts", there)
    else:
        box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": there,
                                "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"}]}
    box.write()

    def trouble():
        with open(f"{box.path}/config.json", "rb") as config, cast.supervised.api() as asked:
            asked.send("Up", [config.fileno()], **up)
            time.sleep(0.1)
            cast.rm(box).ok()
            answer = asked.receive()
        # The bundle's directory is only what hooks start in.
        assert bool(answer.get("error")) == (what != "bundle"), answer
        if what.startswith("log"):  # a process of its own has asked there
            text = f"fuse.hung at {hung.point} has not answered for 5 s"
        elif what not in ("bundle", "rootfs"):
            text = f"{hung.point} is on fuse.hung"
        assert not answer.get("error") or what == "rootfs" or text in answer["parameters"]["message"], answer
    stage.unmoved(trouble, 0.3)


@pytest.mark.parametrize("how", ["hang", "take"])
def test_logs_on_a_server_that_hangs(stage, cast, slow, how):
    def log(box):
        return ("--log", f"cri,path={slow.point}/{box.id}")

    def trouble():
        box, late = cast.bundle().sh("while :; do echo tick; sleep 0.01; done"), cast.bundle("true")
        cast.up(box, flags=log(box)).ok()
        slow.hang(how)
        call = cast.begin_up(late, flags=log(late))
        cast.runtime.call("stop", "--time", "0", box.id).ok()
        local = endless(cast)
        cast.up(local).ok()
        cast.rm(box).fails("removed, but its log stays")
        cast.runtime.finish(call).fails("has not answered")
        slow.go()
        cast.rm(local).ok()
        host.eventually(lambda: os.listdir(slow.behind) == [], what="the end of both logs")
    stage.unmoved(trouble)


def test_a_bundle_that_never_answers_hangs_its_client_only(stage, cast, hung):
    hung.begin("pending")
    call = cast.runtime.spawn("up", "--id", "never", f"{hung.point}/bundle")
    cast.calls.append(call)
    host.eventually(lambda: os.path.exists(hung.asked), what="a request to the file system")
    stage.unmoved()
    assert call.poll() is None


# --- what cannot start -----------------------------------------------------------------------------------------------

def spoil_missing_program(box):
    box.args("/no/such/program")
    return ("no such file",)


def spoil_hook(box):
    box.hook("createRuntime", "echo why >&2; exit 9")
    return ("createRuntime", "exit status 9", "why")


def spoil_container_hook(box):
    box.hook("createContainer", "exit 8")
    return ("createContainer", "exit status 8")


def spoil_start_hook(box):
    box.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    return ("startContainer",)


def spoil_poststart_hook(box):
    box.sh("sleep 1000").hook("poststart", "exit 7")
    return ("poststart",)


def spoil_hook_path(box):
    box.config["hooks"] = {"prestart": [{"path": "/no/such/hook"}]}
    return ("/no/such/hook",)


def spoil_uid(box):
    box.user_namespace(100000, 10)
    box.process["user"]["uid"] = 1000
    return ("uid",)


def spoil_mount(box):
    box.mount("/data", "/no/such/source", "bind", ["bind"])
    return ("/no/such/source",)


def spoil_cwd(box):
    box.process["cwd"] = "/etc/passwd"
    return ("/etc/passwd",)


@pytest.mark.parametrize("spoil", [spoil_missing_program, spoil_hook, spoil_container_hook, spoil_start_hook,
                                   spoil_poststart_hook, spoil_hook_path, spoil_uid, spoil_mount, spoil_cwd])
@pytest.mark.parametrize("policy", ["no", "always"])
def test_what_cannot_start_leaves_nothing(cast, spoil, policy):
    box = cast.bundle("true")
    texts = spoil(box)
    cast.up(box, flags=("--restart", policy)).fails(*texts).one_line()
    assert cast.supervised.status()["containers"] == cast.before["containers"]
    assert not os.path.exists(f"{cast.supervised.state_dir}/{box.id}")
    assert not os.path.exists(f"{cast.runtime.root}/{box.id}")
    assert not os.path.exists(box.cgroup("pids"))


# --- crash loops -----------------------------------------------------------------------------------------------------

def test_a_crash_loop_backs_off(cast):
    box = cast.bundle().sh("echo again; exit 1")

    def starts():
        with open(f"{cast.supervised.state_dir}/{box.id}/container.log", "rb") as file:
            return [line.split(b" ")[0].decode() for line in file.read().splitlines()]
    cast.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: len(starts()) >= 5, 6, "five starts")
    times = [int(text[14:16]) * 60 + float(text[17:29]) for text in starts()]
    pauses = [(b - a) % 3600 for a, b in zip(times, times[1:])]
    for pause, wanted in zip(pauses, (0.1, 0.2, 0.4, 0.8)):
        assert wanted * 0.95 <= pause <= wanted + 0.5, pauses
    cast.rm(box).ok()


def test_what_ends_and_what_is_removed_costs_nothing(cast):
    """Also when it is about to be started again."""
    ended, looping = cast.bundle().sh("echo done"), cast.bundle().sh("echo again")
    cast.up(ended).ok()
    cast.up(looping, flags=("--restart", "always")).ok()
    cast.supervised.wait(ended).ok("0\n")
    host.eventually(lambda: cast.same("keeper's files", "supervisor's files"), what="the descriptors of both")
    cast.rm(looping).ok()
