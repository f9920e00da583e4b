"""A supervisor of many containers: what people do with it, and what is left when it is killed."""
import os
import signal
import subprocess
import time

from lib import host

STORM_CONTAINERS = int(os.environ.get("GANTRY_STORM_CONTAINERS", "12"))
STORM_KILLS = int(os.environ.get("GANTRY_STORM_KILLS", "8"))


def first_difference(got, want):
    """Where two texts part, with some of each."""
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return at, got[max(0, at - 30):at + 60], want[max(0, at - 30):at + 60]


def test_a_container_comes_up_ends_and_leaves_its_output_and_its_exit_code(supervised, bundle):
    supervised.begin()
    box = bundle().sh("echo one; echo two >&2; sleep 0.1; printf three; exit 7")
    supervised.up(box).ok(f"{box.id}\n")
    supervised.wait(box).ok("7\n")
    assert sorted(supervised.log(box).split()) == ["one", "three", "two"]
    supervised.rm(box).ok()
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")
    assert not os.path.exists(f"{supervised.runtime.root}/{box.id}")


def test_up_without_a_supervisor_says_how_to_start_one(supervised, bundle):
    supervised.up(bundle().sh("true")).fails("no supervisor is running", "supervise").one_line()


def test_one_shot_verbs_work_on_supervised_containers(supervised, bundle):
    supervised.begin()
    box = bundle().sh("trap 'exit 3' TERM; while :; do sleep 0.05; done")
    supervised.up(box).ok()
    runtime = supervised.runtime
    assert runtime.state(box)["status"] == "running"
    assert box.id in runtime.call("list", "-q").ok().out.split()
    runtime.call("exec", box.id, "true").ok()
    runtime.call("pause", box.id).ok()
    assert runtime.status(box) == "paused"
    runtime.call("resume", box.id).ok()
    runtime.call("kill", box.id, "TERM").ok()
    supervised.wait(box).ok("3\n")
    runtime.call("delete", box.id).ok()
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")


def test_a_killed_supervisor_costs_nothing(supervised, bundle):
    supervised.begin()
    box = bundle().sh("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); usleep 3000; done; exit 9")
    supervised.up(box).ok()
    pid = supervised.runtime.state(box)["pid"]
    waiting = supervised.runtime.spawn("wait", box.id)
    for _ in range(3):
        supervised.await_supervisor(supervised.kill_supervisor())
        assert supervised.runtime.state(box)["pid"] == pid
    assert supervised.runtime.finish(waiting).ok().out == "9\n"
    host.eventually(lambda: supervised.log(box).count("\n") >= 300, what="the whole log")
    assert supervised.log(box) == "".join(f"line {i}\n" for i in range(300))


def test_what_ends_while_there_is_no_supervisor_is_known(supervised, bundle):
    supervised.begin()
    box = bundle().sh("read line < /gate/fifo; echo last words; exit 42")
    gate = f"{supervised.work}/gate"
    os.mkdir(gate)
    os.mkfifo(f"{gate}/fifo")
    box.mount("/gate", gate, "bind", ["bind"])
    supervised.up(box).ok()
    former = supervised.supervisor()
    os.kill(former, signal.SIGSTOP)
    with open(f"{gate}/fifo", "w", encoding="ascii") as fifo:
        fifo.write("go\n")
    pid = supervised.runtime.state(box)["pid"]
    if pid:
        host.eventually(lambda: not os.path.exists(f"/proc/{pid}") or " Z " in host.read(f"/proc/{pid}/stat"), what="end")
    os.kill(former, signal.SIGKILL)
    supervised.wait(box).ok("42\n")
    host.eventually(lambda: supervised.log(box) == "last words\n", what="the log")


def test_restart_policies(supervised, bundle):
    supervised.begin()
    always, failing, fine = bundle().sh("exit 0"), bundle().sh("exit 5"), bundle().sh("exit 0")
    supervised.up(always, flags=("--restart", "always")).ok()
    supervised.up(failing, flags=("--restart", "on-failure:2")).ok()
    supervised.up(fine, flags=("--restart", "on-failure")).ok()
    supervised.wait(fine).ok("0\n")
    supervised.wait(failing).ok("5\n")
    assert supervised.definition(failing)["restarts"] == 2
    assert supervised.definition(fine)["restarts"] == 0
    host.eventually(lambda: supervised.definition(always)["restarts"] >= 2, what="restarts")
    supervised.runtime.call("stop", always.id).ok()
    supervised.wait(always).ok("0\n")


def test_stop_wants_first_and_kills_then_and_no_policy_undoes_it(supervised, bundle):
    supervised.begin()
    polite = bundle().sh("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    deaf = bundle().sh("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    supervised.up(polite, deaf, flags=("--restart", "always")).ok()
    for box in (polite, deaf):
        host.eventually(lambda b=box: supervised.log(b) == "ready\n", what="its trap")
    supervised.runtime.call("stop", "--time", "1", polite.id, deaf.id).ok()
    supervised.wait(polite, deaf).ok("4\n137\n")
    supervised.await_supervisor(supervised.kill_supervisor())
    assert supervised.runtime.status(polite) == "stopped"
    assert supervised.runtime.status(deaf) == "stopped"


def test_a_container_on_which_supervisors_crash_is_put_in_quarantine(supervised, bundle):
    supervised.begin()
    good = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(good).ok()
    bad = bundle().sh("true")
    hook = f"{supervised.work}/hook"
    with open(hook, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nfor p in $(cat /proc/%d/task/%d/children); do\n"
                   "  tr '\\0' ' ' < /proc/$p/cmdline | grep -q under-keeper && kill -SEGV $p\ndone\nsleep 1\n"
                   % (supervised.keeper, supervised.keeper))
    os.chmod(hook, 0o755)
    bad.config["hooks"] = {"createRuntime": [{"path": hook}]}
    supervised.up(bad, flags=("--restart", "always"))
    host.eventually(lambda: supervised.definition(bad)["quarantined"], 20, "quarantine")
    supervised.await_supervisor(0)
    assert supervised.runtime.status(good) == "running"
    assert bad.id in host.read(supervised.errors)


def test_keeper_and_supervisor_killed_together_the_next_ones_take_over(supervised, bundle):
    supervised.begin()
    box = bundle().sh("while :; do sleep 0.05; done")
    again = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box).ok()
    supervised.up(again, flags=("--restart", "always")).ok()
    pids = [supervised.runtime.state(b)["pid"] for b in (box, again)]
    former = supervised.supervisor()
    os.kill(supervised.keeper, signal.SIGKILL)
    os.kill(former, signal.SIGKILL)
    supervised.process.wait()
    supervised.begin()
    assert [supervised.runtime.state(b)["pid"] for b in (box, again)] == pids
    supervised.await_supervisor(supervised.kill_supervisor())
    assert [supervised.runtime.state(b)["pid"] for b in (box, again)] == pids
    supervised.runtime.call("stop", "--time", "0", box.id, again.id).ok()


def test_a_log_that_somebody_else_rotates_is_opened_anew(supervised, bundle):
    supervised.begin()
    gate = f"{supervised.work}/gate"
    os.mkdir(gate)
    os.mkfifo(f"{gate}/fifo")
    box = bundle().sh("echo before; read line < /gate/fifo; echo after").mount("/gate", gate, "bind", ["bind"])
    supervised.up(box).ok()
    log = f"{supervised.state_dir}/{box.id}/container.log"
    host.eventually(lambda: "before" in host.read(log), what="the first line")
    os.rename(log, f"{log}.moved")
    supervised.runtime.call("logs", "--reopen", box.id).ok("")
    with open(f"{gate}/fifo", "w", encoding="ascii") as fifo:
        fifo.write("go\n")
    supervised.wait(box).ok("0\n")
    assert host.read(log).endswith(" stdout F after\n")
    assert host.read(f"{log}.moved").endswith(" stdout F before\n")
    supervised.runtime.call("logs", "--reopen", "nobody").fails("nobody", "does not exist")


def test_after_a_reboot_what_should_run_is_started(supervised, bundle):
    supervised.begin()
    wanted, plain, stopped = (bundle().sh("while :; do sleep 0.05; done") for _ in range(3))
    supervised.up(wanted, stopped, flags=("--restart", "always")).ok()
    supervised.up(plain).ok()
    supervised.runtime.call("stop", "--time", "0", stopped.id).ok()
    kept = {box.id: {name: host.read(f"{supervised.state_dir}/{box.id}/{name}")
                     for name in ("definition.json", "config.json")} for box in (wanted, plain, stopped)}
    # What a reboot does: all processes are gone, the root on tmpfs is empty, and the boot has another id.
    pids = [supervised.runtime.state(box)["pid"] for box in (wanted, plain)]
    former = supervised.supervisor()
    for pid in (supervised.keeper, former, *pids):
        os.kill(pid, signal.SIGKILL)
    supervised.process.wait()
    host.eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (former, *pids)), what="the end of all")
    for box in (wanted, plain, stopped):
        supervised.runtime.delete(box, "--force").ok()
        os.makedirs(f"{supervised.state_dir}/{box.id}", exist_ok=True)
    boot = host.read("/proc/sys/kernel/random/boot_id").strip()
    for box, files in kept.items():
        for name, text in files.items():
            with open(f"{supervised.state_dir}/{box}/{name}", "w", encoding="utf-8") as file:
                file.write(text.replace(boot, "00000000-0000-4000-8000-000000000000"))
    supervised.begin()
    host.eventually(lambda: supervised.runtime.status(wanted) == "running", what="what is always to run")
    ended = supervised.wait(plain, stopped)
    assert (ended.code, ended.out) == (1, "unknown\n137\n"), ended
    assert supervised.definition(wanted)["run"] == 2
    assert supervised.definition(wanted)["restarts"] == 0, "a boot is no failure"
    assert supervised.definition(plain)["run"] == 1


def test_two_supervisors_with_one_state_directory(supervised, runtime, work, bundle):
    supervised.begin()
    box = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box).ok()
    errors = f"{work}/second.err"
    with open(errors, "wb") as file:
        second = subprocess.Popen([runtime.program, "--root", f"{work}/root2", "supervise", "--state-dir",
                                   supervised.state_dir], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                  env=runtime.environment(None))
    try:
        host.eventually(lambda: "in use by another supervisor" in host.read(errors), 15, "a refusal")
    finally:
        second.kill()
        second.wait()
    assert runtime.status(box) == "running"


def test_a_failed_up_leaves_a_log_alone_that_was_there(supervised, bundle):
    supervised.begin()
    precious = f"{supervised.work}/precious"
    with open(precious, "w", encoding="ascii") as file:
        file.write("precious\n")
    box = bundle().args("/nonexistent")
    supervised.up(box, flags=("--log", f"cri,path={precious}")).fails(box.id, "/nonexistent")
    assert host.read(precious) == "precious\n"
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")


def test_a_damaged_definition_can_be_removed(supervised, bundle):
    supervised.begin()
    ended, living = bundle().sh("true"), bundle().sh("while :; do sleep 0.05; done")
    supervised.up(ended, living).ok()
    supervised.wait(ended).ok("0\n")
    pid = supervised.runtime.state(living)["pid"]
    for box in (ended, living):
        with open(f"{supervised.state_dir}/{box.id}/definition.json", "a", encoding="ascii") as file:
            file.write("x")
    supervised.await_supervisor(supervised.kill_supervisor())
    assert supervised.runtime.state(living)["pid"] == pid
    supervised.rm("--force", ended, living).ok()
    assert not os.path.exists(f"/proc/{pid}")
    supervised.up(ended, living).ok()


def test_a_reload_with_output_that_no_log_takes(supervised, bundle):
    supervised.begin()
    small = f"{supervised.work}/small"
    os.mkdir(small)
    host.mount("gantry-test", small, "tmpfs", data="size=64k")
    try:
        box = bundle().sh("yes 01234567890123456789 | head -c 4000000")
        supervised.up(box, flags=("--log", f"cri,path={small}/log")).ok()
        host.eventually(lambda: os.statvfs(small).f_bavail == 0, what="a full log")
        supervised.runtime.call("kill", box.id, "KILL").ok()
        supervised.wait(box).ok("137\n")
        former = supervised.supervisor()
        os.kill(supervised.keeper, signal.SIGHUP)
        supervised.await_supervisor(former)
        supervised.rm("--force", box).ok()
    finally:
        host.umount(small)


def test_a_damaged_definition_costs_no_container(supervised, bundle):
    supervised.begin()
    box, other = bundle().sh("while :; do sleep 0.05; done"), bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box, other).ok()
    path = f"{supervised.state_dir}/{box.id}/definition.json"
    good = host.read(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(good[:100])
    supervised.await_supervisor(supervised.kill_supervisor())
    assert supervised.runtime.status(box) == "running"
    assert f"definition.json of {box.id} is damaged" in host.read(supervised.errors)
    with open(path, "w", encoding="utf-8") as file:
        file.write(good)
    supervised.await_supervisor(supervised.kill_supervisor())
    supervised.runtime.call("stop", "--time", "0", box.id, other.id).ok()
    supervised.wait(box, other).ok("137\n137\n")


def seccomp_of(pid):
    return [line.split()[1] for line in host.read(f"/proc/{pid}/status").splitlines() if line.startswith("Seccomp:")][0]


def test_only_the_supervisor_carries_a_filter_of_ours(supervised, bundle):
    supervised.begin()
    box = bundle().sh("grep Seccomp: /proc/self/status; while :; do sleep 0.05; done")
    supervised.up(box).ok()
    assert seccomp_of(supervised.supervisor()) == "2"
    assert seccomp_of(supervised.keeper) == "0"
    assert seccomp_of(supervised.runtime.state(box)["pid"]) == "0"
    host.eventually(lambda: supervised.log(box) == "Seccomp:\t0\n", what="what the program sees")
    supervised.await_supervisor(supervised.kill_supervisor())
    assert seccomp_of(supervised.supervisor()) == "2"


def test_a_storm_of_kills_loses_nothing(supervised, bundle):
    """kill -9 of the supervisor at random moments while containers write numbered lines, end and are started again."""
    supervised.begin("--parallel", "4")
    lines = 400
    boxes = []
    for number in range(STORM_CONTAINERS):
        box = bundle().sh(f"i=0; while [ $i -lt {lines} ]; do echo {number} $i; i=$((i+1)); usleep 2000; done; "
                          f"exit {number % 50 + 1}")
        boxes.append(box)
    supervised.up(*boxes, flags=("--restart", "on-failure:1")).ok()
    for _ in range(STORM_KILLS):
        former = supervised.kill_supervisor()
        host.eventually(lambda: supervised.supervisor() not in (0, former), 10, "the next supervisor")
        time.sleep((former * 7919 % 100) / 1000)  # a random moment, not a wait for something
    codes = supervised.wait(*boxes, timeout=120).ok().out.split()
    assert codes == [str(number % 50 + 1) for number in range(STORM_CONTAINERS)]
    for number, box in enumerate(boxes):
        want = "".join(f"{number} {i}\n" for i in range(lines)) * 2
        try:
            host.eventually(lambda b=box, w=want: len(supervised.log(b)) >= len(w), 10, "the whole log")
        except AssertionError:
            pass  # what is missing is told below
        got = supervised.log(box)
        assert got == want, (len(got), len(want), got.count(f"{number} 0\n"), first_difference(got, want),
                             supervised.definition(box), host.read(supervised.errors))
        assert supervised.definition(box)["restarts"] == 1
