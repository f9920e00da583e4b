"""Who the program is and what it may do (PR rows): user, groups, umask, env, cwd, limits, capabilities, NNP, oom."""
import json
import os
import stat

import pytest

from lib import host
from lib.bundle import DROP
from lib.marks import OLD, differs_from

CAPS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETUID": 7, "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18, "SYS_ADMIN": 21,
        "SYS_RESOURCE": 24, "MKNOD": 27, "AUDIT_WRITE": 29, "SETPCAP": 8}


def mask(*names):
    return sum(1 << CAPS[name] for name in names)


def caps(seen):
    return {kind: int(seen["status"][f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def caps_of_root():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))


def env_of(seen):
    return dict(entry.split("=", 1) for entry in seen["env"])


# --- user, groups, umask ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("uid, gid", [(0, 0), (1000, 1234), (0, 5), (65536, 70000), ((1 << 31) - 1, 1)])
def test_pr21_uid_and_gid(runtime, bundle, uid, gid):
    seen = runtime.probe(bundle(process={"user": {"uid": uid, "gid": gid}}))
    assert (seen["uids"], seen["gids"]) == ([uid] * 3, [gid] * 3)


@pytest.mark.parametrize("uid", [1 << 31, (1 << 32) - 2, (1 << 32) - 1])
def test_f_large_uids_are_exact_or_refused(runtime, bundle, uid):
    """CVE-2024-40635: a number must never wrap round to another user."""
    result = runtime.run(bundle("/bin/probe", process={"user": {"uid": uid, "gid": 7}}))
    assert result.code == 1 or json.loads(result.out)["uids"] == [uid] * 3, result


def test_pr21_passwd_does_not_rename_numbers(runtime, bundle):
    """CVE-2016-3697: an entry named "1000" is not uid 1000."""
    b = bundle(process={"user": {"uid": 1000, "gid": 1000}})
    b.file("etc/passwd", "1000:x:0:0::/evil:/bin/sh\n")
    assert runtime.probe(b)["uids"] == [1000] * 3


@pytest.mark.parametrize("groups", [[], [7], [1234, 10, 65536]])
def test_pr23_additional_groups_are_exact(runtime, bundle, groups):
    seen = runtime.probe(bundle(process={"user": {"uid": 1000, "gid": 1000, "additionalGids": groups}}))
    assert sorted(set(seen["groups"]) - {1000}) == sorted(groups)


def test_pr23_groups_of_the_caller_are_dropped(runtime, bundle):
    b = bundle("/bin/probe", process={"user": {"uid": 1000, "gid": 1000}})
    result = runtime.run(b, preexec_fn=lambda: os.setgroups([4, 20, 27]))
    assert set(json.loads(result.ok().out)["groups"]) <= {1000}


@pytest.mark.parametrize("value, expected", [(0o77, 0o77), (0, 0), (DROP, 0o22)], ids=str)
def test_pr22_umask(runtime, bundle, value, expected):
    assert runtime.probe(bundle(process={"user": {"umask": value}}), umask=0o137)["umask"] == expected


# --- environment and directory ---------------------------------------------------------------------------------------

def test_pr04_env_is_the_configs_only(runtime, bundle):
    b = bundle(process={"env": ["PATH=/bin", "A=1", "HOME=/x"]})
    seen = runtime.probe(b, env={"SECRET": "1", "LD_PRELOAD": ""})
    assert sorted(seen["env"]) == ["A=1", "HOME=/x", "PATH=/bin"]


@differs_from(OLD, "keeps the first")
def test_pr04_last_duplicate_wins(runtime, bundle):
    seen = runtime.probe(bundle(process={"env": ["PATH=/bin", "A=1", "A=2"]}))
    assert [entry for entry in seen["env"] if entry.startswith("A=")] == ["A=2"]


def test_pr04_values_may_hold_anything(runtime, bundle):
    seen = runtime.probe(bundle(process={"env": ["PATH=/bin", "A=x=y z\nnext", "EMPTY="]}))
    env = env_of(seen)
    assert (env["A"], env["EMPTY"]) == ("x=y z\nnext", "")


@pytest.mark.parametrize("uid, given, home", [
    (0, [], "/root"), (1000, [], "/home/user"), (4242, [], "/"), (1000, ["HOME=/mine"], "/mine"),
    pytest.param(1000, ["HOME="], "/home/user", marks=differs_from(OLD, "keeps the empty value"))])
def test_pr04_home(runtime, bundle, uid, given, home):
    b = bundle(process={"user": {"uid": uid, "gid": 0}, "env": ["PATH=/bin", *given]})
    assert env_of(runtime.probe(b))["HOME"] == home


@pytest.mark.parametrize("make", ["missing", "directory", "fifo", "huge", "long line", "device link"])
def test_pr04_hostile_passwd_neither_hangs_nor_bloats(runtime, bundle, tool, work, make):
    """CVE-2026-61801, CVE-2025-4437."""
    if runtime.peer and make in ("fifo", "long line", "huge", "device link"):
        pytest.skip("old runtimes hang or bloat")
    b = bundle("sh", "-c", "echo $HOME")
    path = f"{b.rootfs}/etc/passwd"
    os.unlink(path)
    if make == "directory":
        os.mkdir(path)
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    elif make == "long line":
        with open(path, "wb") as file:
            file.write(b"x" * (64 << 20))
    elif make == "device link":
        os.symlink("/dev/zero", path)
    report = f"{work}/report"
    result = runtime.in_view([tool("measure"), report]).run(b, timeout=10)
    peak, milliseconds = (int(word) for word in host.read(report).split())
    assert peak < 100 * 1024 and milliseconds < 3000, (peak, milliseconds)
    assert result.code != 0 or result.out.strip() == "/", result


def test_pr05_path_is_the_containers(runtime, bundle):
    b = bundle("tool", process={"env": ["PATH=/opt/own"]})
    b.file("opt/own/tool", "#!/bin/sh\necho own\n", 0o755)
    runtime.run(b).ok("own\n")


def test_pr05_argv_is_exact(runtime, bundle):
    words = ["/bin/probe", "", " a b ", "ü", "x\ny", "-flag", "--"]
    assert json.loads(runtime.run(bundle(*words)).ok().out)["args"] == [
        w if w.isascii() else w.encode().decode("latin-1") for w in words]


def test_pr05_many_arguments(runtime, bundle):
    words = ["/bin/probe", "exit", "0"] + ["x" * 100] * 5000
    runtime.run(bundle(*words)).ok()


def test_pr03_cwd(runtime, bundle):
    assert runtime.probe(bundle(process={"cwd": "/tmp"}))["cwd"] == "/tmp"


def test_pr03_cwd_is_created(runtime, bundle):
    b = bundle("sh", "-c", "pwd; stat -c %a:%u /new/deep", process={"cwd": "/new/deep"}).writable()
    runtime.run(b, umask=0o22).ok("/new/deep\n755:0\n")


def test_pr03_cwd_only_the_user_may_enter(runtime, bundle):
    b = bundle("pwd", process={"cwd": "/home/user", "user": {"uid": 1000, "gid": 1000}})
    os.chmod(f"{b.rootfs}/home/user", 0o700)
    os.chown(f"{b.rootfs}/home/user", 1000, 1000)
    runtime.run(b).ok("/home/user\n")


def test_pr03_cwd_the_user_may_not_enter(runtime, bundle):
    b = bundle("pwd", process={"cwd": "/root", "user": {"uid": 1000, "gid": 1000}})
    os.chmod(f"{b.rootfs}/root", 0o700)
    result = runtime.run(b)
    assert result.code != 0 or result.out == "/root\n", result


def test_cl_file_only_the_user_may_execute(runtime, bundle):
    """hello as non-root: the look-up happens with the rights of the user."""
    b = bundle("/home/user/tool", process={"user": {"uid": 1000, "gid": 1000}})
    path = b.file("home/user/tool", "#!/bin/sh\necho mine\n", 0o700)
    os.chown(path, 1000, 1000)
    os.chown(f"{b.rootfs}/home/user", 1000, 1000)
    runtime.run(b).ok("mine\n")


# --- limits ----------------------------------------------------------------------------------------------------------

KINDS = ["AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO",
         "RTTIME", "SIGPENDING", "STACK"]


def test_pr07_all_sixteen_limits(runtime, bundle):
    """Values below the host's hard limits: CAP_SYS_RESOURCE may be missing."""
    import resource
    wanted = {}
    own = runtime.probe(bundle(process={"rlimits": []}))["rlimits"]
    for index, kind in enumerate(KINDS):
        hard = own[kind][1]
        big = {"AS": 1 << 33, "DATA": 1 << 33, "STACK": 1 << 23, "FSIZE": 1 << 30, "CPU": 1000, "MEMLOCK": 1 << 16,
               "RTTIME": 1 << 20}.get(kind, 100)
        hard = big + index if hard == -1 else min(hard, big + index)
        wanted[kind] = [max(hard - 1, 0), hard]
    b = bundle(process={"rlimits": [{"type": f"RLIMIT_{k}", "soft": s, "hard": h} for k, (s, h) in wanted.items()]})
    assert runtime.probe(b)["rlimits"] == wanted
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > wanted["NOFILE"][1]


def test_pr07_unset_limits_are_the_callers(runtime, bundle):
    import resource
    seen = runtime.probe(bundle(process={"rlimits": DROP}),
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (555, 5555)))
    assert seen["rlimits"]["NOFILE"][1] == 5555


def test_pr07_limits_are_raised_for_a_user_namespace(runtime, bundle):
    """Nobody may raise them in there, so it is done outside; where root may (a capability that some hosts withhold)."""
    import resource
    low = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (500, 500))}
    b = bundle("/bin/probe", "idle", process={"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 600, "hard": 700}]})
    b.user_namespace()
    result = runtime.create(b, **low)
    if not caps_of_root() & mask("SYS_RESOURCE"):
        result.fails("RLIMIT_NOFILE")
        pytest.skip("the hard limit cannot be raised without CAP_SYS_RESOURCE")
    runtime.start(b.id).ok()
    assert runtime.exec_probe(b, **low)["rlimits"]["NOFILE"] == [600, 700]


def test_pr07_infinity(runtime, bundle):
    b = bundle(process={"rlimits": [{"type": "RLIMIT_CPU", "soft": 5, "hard": (1 << 64) - 1}]})
    assert runtime.probe(b)["rlimits"]["CPU"] == [5, -1]


# --- capabilities ----------------------------------------------------------------------------------------------------

def test_pr10_five_sets_are_exact(runtime, bundle):
    b = bundle(process={"capabilities": {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SYS_CHROOT"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}})
    b.process["user"] = {"uid": 1000, "gid": 1000}
    seen = caps(runtime.probe(b))
    # A non-root program keeps what execve lets through: ambient only; the bounding set is as asked.
    assert seen == {"Inh": mask("KILL"), "Amb": mask("KILL"), "Prm": mask("KILL"), "Eff": mask("KILL"),
                    "Bnd": mask("CHOWN", "KILL", "SETUID", "SYS_CHROOT")}


def test_pr10_root_gets_the_bounding_set(runtime, bundle):
    seen = caps(runtime.probe(bundle()))
    want = mask("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE")
    assert seen == {"Inh": 0, "Amb": 0, "Prm": want, "Eff": want, "Bnd": want}


def test_pr10_empty_object_drops_all(runtime, bundle):
    seen = caps(runtime.probe(bundle(process={"capabilities": {k: [] for k in ("bounding", "effective", "permitted")}})))
    assert set(seen.values()) == {0}
    b = bundle()
    b.process["capabilities"] = {}
    assert set(caps(runtime.probe(b)).values()) == {0}


def test_pr10_absent_means_none(runtime, bundle):
    """CVE-2016-8867 and others: root without a word on capabilities must not have all of them."""
    assert set(caps(runtime.probe(bundle(process={"capabilities": DROP}))).values()) == {0}


def test_pr10_non_root_has_none(runtime, bundle):
    seen = caps(runtime.probe(bundle(process={"user": {"uid": 1000, "gid": 1000}})))
    assert (seen["Eff"], seen["Prm"], seen["Inh"], seen["Amb"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", ["CAP_NOPE", "CAP_SYS_RESOURCE"])
def test_pr10_unknown_or_unavailable_is_a_warning(runtime, bundle, name):
    """CAP_SYS_RESOURCE may be outside the caller's bounding set (it is on some hosts)."""
    own = int(host.read("/proc/self/status").split("CapBnd:")[1].split()[0], 16)
    if name == "CAP_SYS_RESOURCE":
        if own & mask("SYS_RESOURCE"):
            pytest.skip("the host has CAP_SYS_RESOURCE")
        if runtime.peer:
            pytest.skip("runc fails instead of warning")
    result = runtime.run(bundle("/bin/probe").add_capabilities(name)).ok()
    assert caps(json.loads(result.out))["Eff"] == mask("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE")
    assert any(name in text for text in result.warnings), result.err


@differs_from(OLD, "other wording")
def test_pr10_ambient_without_inheritable_is_a_warning(runtime, bundle):
    b = bundle("/bin/probe", process={"user": {"uid": 1000, "gid": 1000}})
    b.process["capabilities"]["ambient"] = ["CAP_KILL"]
    result = runtime.run(b).ok()
    assert caps(json.loads(result.out))["Amb"] == 0
    assert any("can't raise ambient capability CAP_KILL" in text for text in result.warnings), result.err


def test_f_inheritable_is_empty_unless_asked(runtime, bundle):
    """CVE-2022-29162."""
    b = bundle()
    runtime.idle(b)
    for flags in ([], ["--cap", "CAP_CHOWN"], ["--user", "1000"]):
        if runtime.peer == OLD and "--cap" in flags:
            continue
        seen = caps(runtime.exec_probe(b, *flags))
        assert (seen["Inh"], seen["Amb"]) == (0, 0), flags


@pytest.mark.parametrize("value", [True, False])
def test_pr11_no_new_privileges(runtime, bundle, value):
    seen = runtime.probe(bundle(process={"noNewPrivileges": value}))
    assert seen["status"]["NoNewPrivs"] == str(int(value))


@pytest.mark.parametrize("value, out", [(False, "0"), (True, "1000")])
def test_pr11_setuid_programs(runtime, bundle, value, out):
    b = bundle("/tmp/suid", process={"noNewPrivileges": value, "user": {"uid": 1000, "gid": 1000}})
    # A real copy: the mode of a hard link would change the other bundles' program as well.
    with open(f"{b.rootfs}/bin/probe", "rb") as source, open(f"{b.rootfs}/tmp/suid", "wb") as target:
        target.write(source.read())
    os.chmod(f"{b.rootfs}/tmp/suid", 0o4755)
    seen = json.loads(runtime.run(b).ok().out)
    assert str(seen["uids"][1]) == out


def later(result):
    """Skips while the property is still refused by name (test_errors.py holds the refusal itself)."""
    if result.code == 1 and "is not supported yet" in result.message:
        pytest.skip(result.message)
    return result


# --- oom, scheduling, io, personality --------------------------------------------------------------------------------

@pytest.mark.parametrize("value", [0, 500, 1000])
def test_pr12_oom_score_adj(runtime, bundle, value):
    assert runtime.probe(bundle(process={"oomScoreAdj": value}))["oom_score_adj"] == str(value)


def test_pr12_unset_is_untouched(runtime, bundle):
    def set_own():
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("123")
    assert runtime.probe(bundle(), preexec_fn=set_own)["oom_score_adj"] == "123"


@differs_from(OLD, "unknown property")
def test_pr13_scheduler(runtime, bundle):
    seen = json.loads(later(runtime.run(bundle("/bin/probe", process={"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}))).ok().out)
    assert (seen["scheduler"], seen["nice"]) == (3, 5)


@pytest.mark.parametrize("scheduler, text", [
    ({"nice": 1}, "scheduler policy is required"),
    ({"policy": "SCHED_OTHER", "nice": 20}, "invalid scheduler.nice: 20"),
    ({"policy": "SCHED_OTHER", "priority": 5},
     "scheduler.priority can only be specified for SchedFIFO or SchedRR policy")], ids=["policy", "nice", "priority"])
@differs_from(OLD, "unknown property")
def test_pr14_bad_scheduler(runtime, bundle, scheduler, text):
    later(runtime.run(bundle("true", process={"scheduler": scheduler}))).fails(text)


@differs_from(OLD, "unknown property")
def test_pr18_io_priority(runtime, bundle):
    b = bundle("/bin/probe", process={"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}})
    seen = json.loads(later(runtime.run(b)).ok().out)
    assert seen["ioprio"] == (2 << 13) | 6


@pytest.mark.parametrize("value, text", [
    ({"class": "IOPRIO_CLASS_X", "priority": 1}, "invalid ioPriority.Class"),
    ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "invalid ioPriority.Priority: 8")], ids=["class", "priority"])
@differs_from(OLD, "unknown property")
def test_pr18_bad_io_priority(runtime, bundle, value, text):
    later(runtime.run(bundle("true", process={"ioPriority": value}))).fails(text)


@differs_from(OLD, "unknown property")
def test_lx18_personality(runtime, bundle):
    seen = json.loads(later(runtime.run(bundle("/bin/probe", linux={"personality": {"domain": "LINUX32"}}))).ok().out)
    assert seen["personality"] == 8 and seen["machine"] != "x86_64"


@differs_from(OLD, "inherits the caller's mask")
def test_rs29_affinity_is_reset(runtime, bundle):
    """The caller's own CPU mask is not the container's."""
    total = os.cpu_count()
    if total < 2:
        pytest.skip("one CPU")
    seen = runtime.probe(bundle(), preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    assert seen["cpus"] == total


def test_ls01_session_keyring_is_the_containers_own(runtime, bundle):
    b = bundle()
    assert runtime.probe(b)["keyring"].endswith(f";_ses.{b.id}")
    b.id += "-second"
    runtime.idle(b)
    assert runtime.exec_probe(b)["keyring"].endswith(f";_ses.{b.id}")


def test_cr06_no_new_keyring(runtime, bundle):
    b = bundle("/bin/probe")
    result = runtime.run(b, "--no-new-keyring").ok()
    assert not json.loads(result.out)["keyring"].endswith(f";_ses.{b.id}")


# --- signals and terminals of the caller -----------------------------------------------------------------------------

@differs_from(OLD, "keeps the mask of the caller")
def test_signal_state_of_the_caller_is_not_inherited(runtime, bundle):
    import signal

    def hostile():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD, signal.SIGTERM})
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    b = bundle("/bin/probe")
    runtime.create(b, preexec_fn=hostile).ok()
    runtime.start(b, preexec_fn=hostile).ok()
    runtime.wait_stopped(b)
    status = json.loads(b.out())["status"]
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0


def test_program_leads_its_own_session(runtime, bundle):
    seen = runtime.probe(bundle())
    assert seen["pid"] == 1 and seen["sid"] == 1
    b = bundle()
    runtime.idle(b)
    seen = runtime.exec_probe(b)
    assert seen["sid"] == seen["pid"]


def test_stdio_pipe_can_be_reopened_by_the_user(runtime, bundle):
    b = bundle("sh", "-c", "echo again > /dev/stdout; echo err > /dev/stderr",
               process={"user": {"uid": 1000, "gid": 1000}})
    result = runtime.run(b).ok()
    assert (result.out, result.err) == ("again\n", "err\n")


def test_stdio_of_a_detached_container_belongs_to_the_user(runtime, bundle):
    b = bundle("sh", "-c", "echo again > /dev/stdout", process={"user": {"uid": 1000, "gid": 1000}})
    runtime.up(b, umask=0o77)
    runtime.wait_stopped(b)
    assert b.out() == "again\n"
    assert stat.S_IMODE(os.stat(b.stdout).st_mode) & 0o600
