"""exec (EX rows) and what it shares with the container's own process."""
import json
import os
import signal
import stat
import subprocess

import pytest

from lib import host
from lib.bundle import DROP
from lib.cgroups import needs_v1
from lib.marks import OLD, differs_from

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def box(runtime, bundle):
    """A running container with a writable root."""
    b = bundle().writable()
    b.pid = runtime.idle(b)
    return b


def process_file(b, name="process.json", **changes):
    """A process object like the config's with some keys changed; DROP removes one."""
    process = dict(b.process)
    for key, value in changes.items():
        if value is DROP:
            process.pop(key, None)
        else:
            process[key] = value
    path = f"{b.path}/{name}"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(process, file)
    return path


# --- exit status and output ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_ex22_exit_status(runtime, box, code):
    assert runtime.exec(box, ["sh", "-c", f"exit {code}"]).code == code


@pytest.mark.parametrize("signo", [9, 15, 6])
def test_ex22_death_by_signal(runtime, box, signo):
    assert runtime.exec(box, ["/bin/probe", "signal", str(signo)]).code == 128 + signo


def test_ex_output_and_input(runtime, box):
    result = runtime.exec(box, ["sh", "-c", "cat; echo err >&2"], stdin="in\n")
    assert (result.code, result.out, result.err) == (0, "in\n", "err\n")


def test_ex_large_output_is_whole(runtime, box):
    data = "0123456789abcde\n" * 65536
    assert runtime.exec(box, ["cat"], stdin=data).ok().out == data


def test_cl03_flags_after_the_id_belong_to_the_command(runtime, box):
    assert runtime.call("exec", box.id, "echo", "--cwd", "/x", "-d").ok().out == "--cwd /x -d\n"


def test_ex_runs_in_the_containers_namespaces_and_cgroup(runtime, box):
    seen = runtime.exec_probe(box)
    for kind in ("ipc", "mnt", "net", "pid", "uts"):
        assert seen["ns"][kind] == os.readlink(f"/proc/{box.pid}/ns/{kind}"), kind
    lines = [line for line in seen["cgroup"] if "unified" not in line and ":hugetlb" not in line]
    assert all(line.endswith(box.linux["cgroupsPath"]) or line.startswith("0::") for line in lines)
    assert seen["pid"] > 1


# --- where the process comes from ------------------------------------------------------------------------------------

def test_ex01_process_file(runtime, box):
    path = process_file(box, args=["/bin/probe", "x"], cwd="/tmp", env=["A=b"], user={"uid": 7, "gid": 8})
    seen = json.loads(runtime.exec(box, "--process", path, []).ok().out)
    assert seen["args"] == ["/bin/probe", "x"]
    assert seen["cwd"] == "/tmp"
    assert "A=b" in seen["env"] and not any(e.startswith("TERM=") for e in seen["env"])
    assert (seen["uids"], seen["gids"]) == ([7] * 3, [8] * 3)


@pytest.mark.parametrize("changes, text", [
    ({"cwd": DROP}, "Cwd property must not be empty"),
    ({"cwd": "tmp"}, "Cwd must be an absolute path"),
    ({"args": []}, "args must not be empty"),
    ({"args": DROP}, "args must not be empty"),
    ({"env": [], "args": ["true"]}, "executable file not found in $PATH"),
], ids=["no cwd", "relative cwd", "empty args", "no args", "no PATH"])
def test_ex01_bad_process_file(runtime, box, changes, text):
    runtime.exec(box, "-p", process_file(box, **changes), []).fails("exec failed: ", text, code=255).one_line()


def test_ex01_process_file_without_restrictions_gets_the_containers(runtime, bundle):
    """Above all the capabilities: the program of an exec must not be mightier than the container."""
    b = bundle(process={"oomScoreAdj": 200, "user": {"uid": 0, "gid": 0, "umask": 0o77}})
    runtime.idle(b)
    path = process_file(b, args=["/bin/probe"], capabilities=DROP, oomScoreAdj=DROP, user={"uid": 0, "gid": 0})
    seen = json.loads(runtime.exec(b, "--process", path, []).ok().out)
    own = runtime.exec_probe(b)
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert seen["status"][key] == own["status"][key], key
    assert int(own["status"]["CapBnd"], 16) == 1 << 29 | 1 << 10 | 1 << 5
    assert seen["oom_score_adj"] == "200"
    if runtime.peer != OLD:
        assert seen["umask"] == 0o77


def test_ex01_missing_process_file(runtime, box):
    runtime.exec(box, "-p", "/no/such.json", []).fails("/no/such.json", "no such file or directory", code=255)


def test_ex01_process_file_that_is_not_json(runtime, box):
    with open(f"{box.path}/bad.json", "w", encoding="ascii") as file:
        file.write("{nope")
    runtime.exec(box, "-p", f"{box.path}/bad.json", []).fails(code=255).one_line()


@differs_from("runc", "reads the bundle's config.json again")
def test_gp08_exec_uses_the_config_frozen_at_create(runtime, box):
    box.process["env"] = ["PATH=/bin", "CHANGED=1"]
    box.process["cwd"] = "/tmp"
    box.write()
    seen = runtime.exec_probe(box)
    assert "CHANGED=1" not in seen["env"] and seen["cwd"] == "/"
    os.unlink(f"{box.path}/config.json")
    runtime.exec(box, ["true"]).ok()


# --- flags -----------------------------------------------------------------------------------------------------------

def test_ex03_cwd(runtime, box):
    assert runtime.exec(box, "--cwd", "/tmp", ["pwd"]).ok("/tmp\n")


@differs_from(OLD, "other wording")
def test_ex03_missing_cwd(runtime, box):
    runtime.exec(box, "--cwd", "/x", ["pwd"]).fails(
        "exec failed: unable to start container process: ",
        'chdir to cwd ("/x") set in config.json failed: no such file or directory', code=255).one_line()


@differs_from(OLD, "keeps both entries")
def test_ex04_env_is_appended_and_the_last_wins(runtime, box):
    seen = runtime.exec_probe(box, "-e", "A=1", "-e", "TERM=dumb", "-e", "A=2", "-e", "B=x y")
    env = dict(entry.split("=", 1) for entry in seen["env"])
    assert (env["A"], env["TERM"], env["B"]) == ("2", "dumb", "x y")
    assert len([e for e in seen["env"] if e.startswith("A=")]) == 1


def test_ex04_long_form(runtime, box):
    assert "B=x y" in runtime.exec_probe(box, "--env=B=x y", "--env", "C=1")["env"]


def test_pr04_env_newline_is_kept(runtime, box):
    assert runtime.exec(box, "-e", "A=one\ntwo", ["sh", "-c", 'echo "$A"']).ok().out == "one\ntwo\n"


@pytest.mark.parametrize("flag, uid, gid", [("1000:1234", 1000, 1234), ("1000", 1000, 0), ("0:5", 0, 5)])
def test_ex06_user(runtime, box, flag, uid, gid):
    seen = runtime.exec_probe(box, "--user", flag)
    assert (seen["uids"], seen["gids"]) == ([uid] * 3, [gid] * 3)


@pytest.mark.parametrize("flag, text", [
    ("foo", 'bad uid: strconv.Atoi: parsing "foo": invalid syntax'),
    ("1:bar", 'bad gid: strconv.Atoi: parsing "bar": invalid syntax'),
    ("1abc", "bad uid"), ("0x1", "bad uid"), (" 1", "bad uid"), ("1 ", "bad uid"), ("1:", "bad gid"), (":1", "bad uid"),
    ("root", "bad uid")])
@differs_from(OLD, "other wording")
def test_ex06_bad_user(runtime, box, flag, text):
    """CVE-2016-3697, CVE-2026-30892: nothing that is not a number becomes one, and none becomes root."""
    box.file("etc/passwd", "1:x:0:0::/:/bin/sh\nfoo:x:0:0::/:/bin/sh\n")
    runtime.exec(box, "--user", flag, ["id"]).fails("exec failed: ", text, code=255).one_line()


@pytest.mark.parametrize("flag", [
    "4294967295", pytest.param("4294967296", marks=differs_from(OLD, "wraps round to root")), "9223372036854775808", "-1"])
def test_ex06_users_out_of_range_never_become_root(runtime, box, flag):
    result = runtime.exec(box, f"--user={flag}", ["id", "-u"])
    assert result.code != 0 or result.out.strip() not in ("0", ""), result


def test_ex07_additional_groups(runtime, bundle):
    b = bundle(process={"user": {"uid": 0, "gid": 0, "additionalGids": [10]}})
    runtime.idle(b)
    seen = runtime.exec_probe(b, "-g", "20", "-g", "30")
    assert set(seen["groups"]) == {10, 20, 30}


@pytest.mark.parametrize("value", ["-1", "x"])
def test_ex07_bad_additional_group(runtime, box, value):
    result = runtime.exec(box, f"--additional-gids={value}", ["true"])
    assert result.code != 0, result
    if value == "-1":
        result.fails("additional-gids must be a positive number -1", code=255)


def test_ex08_detach_and_ex09_pid_file(runtime, box, work):
    runtime.exec(box, "-d", "--pid-file", f"{work}/pid", ["sleep", "1000"], **QUIET).ok()
    pid = int(host.read(f"{work}/pid"))
    host.eventually(lambda: host.read(f"/proc/{pid}/cmdline") == "sleep\x001000\x00")
    assert host.proc_stat(pid)["ppid"] == os.getpid()
    assert pid in host.cgroup_procs(box.cgroup("pids"))
    assert stat.S_IMODE(os.stat(f"{work}/pid").st_mode) == 0o644


def test_ex08_status_of_a_detached_process_reaches_the_subreaper(runtime, box, work):
    with open(f"{work}/out", "wb") as out:
        runtime.exec(box, "-d", "--pid-file", f"{work}/pid", ["sh", "-c", "echo done; exit 3"], stdout=out).ok()
    assert host.wait_status(int(host.read(f"{work}/pid"))) == 3
    assert host.read(f"{work}/out") == "done\n"


def test_ex09_foreground_pid_file(runtime, box, work):
    runtime.exec(box, "--pid-file", f"{work}/pid", ["true"]).ok()
    assert int(host.read(f"{work}/pid")) > 1


def test_ex14_no_new_privs(runtime, bundle):
    b = bundle(process={"noNewPrivileges": False})
    runtime.idle(b)
    assert runtime.exec_probe(b)["status"]["NoNewPrivs"] == "0"
    assert runtime.exec_probe(b, "--no-new-privs")["status"]["NoNewPrivs"] == "1"


def test_ex14_no_new_privs_may_be_taken_back(runtime, box):
    assert runtime.exec_probe(box)["status"]["NoNewPrivs"] == "1"
    assert runtime.exec_probe(box, "--no-new-privs=false")["status"]["NoNewPrivs"] == "0"


def caps(seen, kind):
    return int(seen["status"][kind], 16)


CHOWN, KILL, BIND, AUDIT_WRITE, SYS_CHROOT = 1 << 0, 1 << 5, 1 << 10, 1 << 29, 1 << 18


@differs_from(OLD, "adds to the inheritable set as well")
def test_ex15_cap_is_added_to_three_sets(runtime, box):
    seen = runtime.exec_probe(box, "--cap", "CAP_SYS_CHROOT")
    want = KILL | BIND | AUDIT_WRITE | SYS_CHROOT
    assert (caps(seen, "CapBnd"), caps(seen, "CapEff"), caps(seen, "CapPrm")) == (want,) * 3
    assert (caps(seen, "CapInh"), caps(seen, "CapAmb")) == (0, 0)


def test_ex15_unknown_cap_is_a_warning(runtime, box):
    result = runtime.exec(box, "--cap", "CAP_NOPE", ["true"]).ok()
    assert any("CAP_NOPE" in text for text in result.warnings), result


def test_ex_default_caps_are_the_containers(runtime, box):
    seen = runtime.exec_probe(box)
    want = KILL | BIND | AUDIT_WRITE
    assert (caps(seen, "CapBnd"), caps(seen, "CapEff"), caps(seen, "CapPrm")) == (want,) * 3


def test_ex16_preserve_fds(runtime, box, work):
    view = runtime.in_view(["bash", "-c", f'exec "$@" 3<>{work}/keep0 4<>{work}/keep1 5<>{work}/keep2', "bash"])
    result = view.exec(box, "--preserve-fds", "2", ["/bin/probe"]).ok()
    seen = json.loads(result.out)["fds"]
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert seen["3"].endswith("keep0") and seen["4"].endswith("keep1")


def test_ex16_missing_fd(runtime, box):
    runtime.exec(box, "--preserve-fds", "60", ["true"]).fails("unable to stat preserved-fd", code=255)


# --- sub-cgroups -----------------------------------------------------------------------------------------------------

@needs_v1
def test_ex17_sub_cgroup(runtime, box):
    for controller, base in host.hierarchies().items():
        os.makedirs(f"{box.cgroup(controller)}/sub", exist_ok=True)
    seen = runtime.exec_probe(box, "--cgroup", "memory:sub", "--cgroup", "pids:/sub")
    lines = {line.split(":")[1]: line.split(":", 2)[2] for line in seen["cgroup"]}
    assert lines["memory"] == f"{box.linux['cgroupsPath']}/sub"
    assert lines["pids"] == f"{box.linux['cgroupsPath']}/sub"
    assert lines["cpu"] == box.linux["cgroupsPath"]


@needs_v1
@pytest.mark.parametrize("words, text", [
    (["pids:../other"], "bad sub cgroup path: ../other"),
    (["pids:a/../../other"], "bad sub cgroup path"),
    (["nope:x"], "unknown controller nope in SubCgroupPaths"),
    (["pids:absent"], "no such file or directory"),
    (["plain", "pids:x"], "invalid --cgroup argument: plain (missing <controller>: prefix)"),
    ([":x"], "invalid --cgroup argument: :x (empty <controller> prefix)"),
    (["pids:a", "pids:b"], "invalid --cgroup argument(s): controller pids specified multiple times"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_ex17_bad_sub_cgroups(runtime, box, words, text):
    if runtime.peer == OLD and words[0] != "pids:absent":
        pytest.skip("runc 1.1.5 words it differently")
    flags = [word for value in words for word in ("--cgroup", value)]
    runtime.exec(box, *flags, ["true"]).fails("exec failed: ", text, code=255)


@differs_from(OLD, "compares paths as strings")
def test_ex17_sibling_with_a_common_prefix_is_not_below(runtime, box):
    """runc #5457: /a/b must not match /a/bc."""
    sibling = f"{box.cgroup('pids')}c"
    os.makedirs(sibling)
    result = runtime.exec(box, "--cgroup", f"pids:../{box.id}c", ["true"])
    os.rmdir(sibling)
    assert result.code == 255, result


# --- states ----------------------------------------------------------------------------------------------------------

def test_ex18_paused(runtime, box):
    runtime.call("pause", box.id).ok()
    runtime.exec(box, ["true"]).fails("exec failed: cannot exec in a paused container (use --ignore-paused to override)",
                                      code=255).one_line()


def test_ex18_ignore_paused_runs_after_the_thaw(runtime, box):
    runtime.call("pause", box.id).ok()
    process = runtime.spawn("exec", "--ignore-paused", box.id, "echo", "thawed")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    runtime.call("resume", box.id).ok()
    assert runtime.finish(process).ok().out == "thawed\n"


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_ex18_frozen_at_the_same_moment(runtime, box, signo):
    """A process that is born in a frozen cgroup does not come so far as to execute anything."""
    if runtime.peer:
        pytest.skip("gantry's own promise")
    pid = runtime.state(box)["pid"]
    path = next((line[3:] for line in host.read(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::/")), "")
    tops = [top for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{top}{path}/cgroup.freeze")]
    if not tops or path in ("", "/"):
        pytest.skip("no unified hierarchy with a cgroup of the container")
    freeze = f"{tops[0]}{path}/cgroup.freeze"
    with open(freeze, "w", encoding="ascii") as file:
        file.write("1")
    try:
        process = runtime.spawn("exec", "--ignore-paused", box.id, "true")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.3)
        process.send_signal(signo)
        runtime.finish(process, 5).fails("interrupted by signal", code=255)
    finally:
        with open(freeze, "w", encoding="ascii") as file:
            file.write("0")
    runtime.exec(box, ["true"]).ok()


def test_ex19_stopped(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.exec(b, ["true"]).fails("exec failed: cannot exec in a stopped container", code=255).one_line()


@differs_from(OLD, "other wording")
def test_ex20_no_args(runtime, box):
    runtime.call("exec", box.id).fails("exec args cannot be empty", code=255)


def test_ex21_created(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    assert runtime.exec(b, ["echo", "in"]).ok("in\n")
    assert runtime.status(b) == "created"


def test_cl17_unknown_container(runtime):
    runtime.exec("nobody", ["true"]).fails("exec failed: container does not exist", code=255).one_line()


# --- the rest of the process object ----------------------------------------------------------------------------------

@pytest.mark.parametrize("args, text", [
    (["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
    (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
    (["/etc/passwd"], 'exec: "/etc/passwd": permission denied')])
def test_cr11_bad_program(runtime, box, args, text):
    runtime.exec(box, args).fails("exec failed: unable to start container process: ", text, code=255).one_line()


def test_ex27_script_with_missing_interpreter(runtime, box):
    box.file("bin/broken", "#!/no/such/interpreter\n", 0o755)
    result = runtime.exec(box, ["/bin/broken"])
    assert result.code in ((1, 255) if runtime.peer == OLD else (255,)), result
    assert "/bin/broken: no such file or directory" in result.err and len(result.err.splitlines()) == 1, result


@differs_from(OLD, "Go's own soft limit may win")
def test_ex24_rlimits(runtime, bundle):
    b = bundle(process={"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
                                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096}]})
    runtime.idle(b)
    seen = runtime.exec_probe(b)["rlimits"]
    assert (seen["NOFILE"], seen["CORE"]) == ([77, 99], [0, 4096])


def test_ex24_seccomp(runtime, bundle):
    b = bundle(linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}})
    runtime.idle(b)
    assert runtime.exec(b, ["/bin/probe", "syscall", "79", "0", "0"]).ok().out == "-1 EOPNOTSUPP\n"


@differs_from(OLD, "exec does not apply the umask")
def test_ex24_umask_oom_and_user_defaults_are_the_configs(runtime, bundle):
    b = bundle(process={"user": {"uid": 1000, "gid": 1234, "umask": 0o27}, "oomScoreAdj": 300})
    runtime.idle(b)
    seen = runtime.exec_probe(b)
    assert (seen["uids"][0], seen["gids"][0], seen["umask"]) == (1000, 1234, 0o27)
    assert seen["oom_score_adj"] == "300"


@pytest.mark.parametrize("user, home", [("1000", "/home/user"), ("0", "/root"), ("4242", "/")])
def test_pr04_home_of_the_user(runtime, box, user, home):
    env = dict(entry.split("=", 1) for entry in runtime.exec_probe(box, "-u", user)["env"])
    assert env["HOME"] == home


def test_ex23_follows_init_that_moved_itself(runtime, bundle):
    """When the container's own cgroup cannot be joined any more (domain made a sub-cgroup), init's is used: v1 still can."""
    b = bundle()
    pid = runtime.idle(b)
    os.makedirs(f"{b.cgroup('unified')}/moved")
    with open(f"{b.cgroup('unified')}/moved/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))
    runtime.exec(b, ["true"]).ok()


@differs_from(OLD, "has no time namespaces")
def test_ex24_time_namespace_is_joined(runtime, bundle):
    b = bundle(linux={"timeOffsets": {"monotonic": {"secs": 100000}}}).namespace("time")
    pid = runtime.idle(b)
    assert runtime.exec_probe(b)["ns"]["time"] == os.readlink(f"/proc/{pid}/ns/time")


def test_ex_user_namespace(runtime, bundle):
    b = bundle().user_namespace()
    pid = runtime.idle(b)
    seen = runtime.exec_probe(b)
    assert seen["uids"] == [0, 0, 0]
    assert seen["ns"]["user"] == os.readlink(f"/proc/{pid}/ns/user")
    seen = runtime.exec_probe(b, "--user", "1000")
    assert seen["uids"] == [1000] * 3


def test_ex29_cwd_only_the_user_may_enter(runtime, bundle):
    b = bundle().writable()
    directory = f"{b.rootfs}/home/user"
    os.chmod(directory, 0o700)
    os.chown(directory, 1000, 1000)
    runtime.idle(b)
    assert runtime.exec(b, "-u", "1000:1000", "--cwd", "/home/user", ["pwd"]).ok("/home/user\n")


def test_ex_signals_are_forwarded_in_the_foreground(runtime, box):
    process = runtime.spawn("exec", box.id, "/bin/probe", "idle")
    host.eventually(lambda: "ready" in host.read(process.out_path))
    process.send_signal(10)
    host.eventually(lambda: "signal 10" in host.read(process.out_path))
    process.send_signal(15)
    assert runtime.finish(process).code == 15


def test_ex_null_device_of_the_host_is_not_chowned(runtime, box, peer):
    """Old runtimes give the host's /dev/null to the user when it is the process' stdio."""
    before = os.stat("/dev/null")
    with open("/dev/null", "r+b") as null:
        runtime.exec(box, "--user", "1000", ["true"], stdin=null, stdout=null, stderr=null).ok()
    after = os.stat("/dev/null")
    if peer:
        os.chown("/dev/null", before.st_uid, before.st_gid)
    assert peer == OLD or (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_ex_stdio_files_belong_to_the_user(runtime, box, work):
    """A pipe or file given as stdio can be opened again through /dev/stdout by the container's user."""
    with open(f"{work}/out", "wb") as out:
        os.chmod(f"{work}/out", 0o600)
        runtime.exec(box, "--user", "1000", ["sh", "-c", "echo again > /dev/stdout"], stdout=out).ok()
    assert host.read(f"{work}/out") == "again\n"


def test_ex_many_at_once(runtime, box):
    calls = [runtime.spawn("exec", box.id, "sh", "-c", f"echo {n}; exit {n}") for n in range(8)]
    for n, call in enumerate(calls):
        result = runtime.finish(call)
        assert (result.code, result.out) == (n, f"{n}\n")
