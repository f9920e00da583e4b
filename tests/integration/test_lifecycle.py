"""create, start and run (CR, ST, RN, FI, CT rows), and the top level of a config (TL)."""
import json
import os
import signal
import stat
import subprocess

import pytest

from lib import host
from lib.bundle import DROP
from lib.cgroups import freeze
from lib.marks import OLD, differs_from


# --- create ----------------------------------------------------------------------------------------------------------

def test_cr01_bundle_default_is_the_current_directory_and_absolute_in_state(runtime, bundle):
    b = bundle("true").write()
    runtime.track(b.id)
    runtime.call("create", b.id, cwd=b.path).ok()
    assert runtime.state(b)["bundle"] == b.path


def test_cr01_relative_bundle(runtime, bundle):
    b = bundle("true").write()
    runtime.track(b.id)
    runtime.call("create", "-b", os.path.basename(b.path), b.id, cwd=os.path.dirname(b.path)).ok()
    assert runtime.state(b)["bundle"] == b.path


def test_cl18_a_removed_current_directory_is_no_obstacle(runtime, bundle, work):
    b = bundle("echo", "hi").write()
    os.mkdir(f"{work}/gone")
    view = runtime.in_view(["sh", "-c", f'cd {work}/gone && rmdir {work}/gone && exec "$@"', "sh"])
    runtime.track(b.id)
    assert view.call("run", "--bundle", b.path, b.id).ok().out == "hi\n"


def test_cr04_pid_file_is_complete_and_a_number_only(runtime, bundle, work):
    b = bundle("true")
    runtime.create(b, "--pid-file", f"{work}/pid", umask=0o022).ok()
    text = host.read(f"{work}/pid")
    assert text == str(runtime.state(b)["pid"])
    assert stat.S_IMODE(os.stat(f"{work}/pid").st_mode) == 0o644
    assert sorted(os.listdir(work)) == ["b", "calls", "pid", "root"]


def test_cr04_relative_pid_file_belongs_to_the_callers_directory(runtime, bundle, work):
    b = bundle("true")
    runtime.create(b, "--pid-file", "pid", cwd=work).ok()
    assert host.read(f"{work}/pid") == str(runtime.state(b)["pid"])


@differs_from("runc", "the next create fails: file exists")
def test_cr04_a_temporary_pid_file_of_a_killed_create_is_no_obstacle(runtime, bundle, work):
    b = bundle("true")
    open(f"{work}/.pid", "w").close()
    runtime.create(b, "--pid-file", f"{work}/pid").ok()
    assert host.read(f"{work}/pid") == str(runtime.state(b)["pid"])
    assert not os.path.exists(f"{work}/.pid")


def test_cr04_pid_file_in_missing_directory_fails_create(runtime, bundle, work):
    b = bundle("true")
    runtime.create(b, "--pid-file", f"{work}/no/pid").fails(f"open {work}/no/.pid: no such file or directory")
    assert os.listdir(runtime.root) == []


def test_cr09_stdio_is_inherited_directly(runtime, bundle):
    b = bundle("sh", "-c", "cat; echo err >&2")
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as writer:
        runtime.create(b, stdin=read_end).ok()
        os.close(read_end)
        runtime.start(b).ok()
        writer.write("through the pipe\n")
    runtime.wait_stopped(b)
    assert b.out() == "through the pipe\n"
    assert b.err() == "err\n"


def test_cr10_created_waits_for_start(runtime, bundle):
    b = bundle("echo", "ran")
    runtime.create(b).ok()
    state = runtime.state(b)
    assert state["status"] == "created"
    assert host.alive(state["pid"])
    assert b.out() == ""
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    assert b.out() == "ran\n"


def test_lc03_config_edits_after_create_have_no_effect(runtime, bundle):
    b = bundle("echo", "before")
    runtime.create(b).ok()
    b.args("echo", "after").write()
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    assert b.out() == "before\n"


def test_ct09_init_is_the_childs_child_and_its_status_reaches_the_subreaper(runtime, bundle):
    b = bundle("sh", "-c", "exit 42")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    assert host.proc_stat(pid)["ppid"] == os.getpid()
    assert host.children() == [pid]
    runtime.start(b).ok()
    assert host.wait_status(pid) == 42


def test_ct09_death_of_the_parent_does_not_kill_init(runtime, bundle):
    """The caller's thread or process may end right after create: no parent-death signal is left on the program."""
    b = bundle("/bin/probe")
    runtime.up(b)
    runtime.wait_stopped(b)
    assert json.loads(b.out())["pdeathsig"] == 0


def test_cl17_used_id_is_refused_and_the_container_untouched(runtime, bundle):
    b, other = bundle(), bundle("true")
    pid = runtime.idle(b)
    runtime.create(other, id=b.id).fails("container with given ID already exists").one_line()
    assert runtime.state(b)["pid"] == pid
    assert runtime.status(b) == "running"


@differs_from(OLD, "accepts a non-empty cgroup with a warning")
def test_cr13_cgroup_with_processes_is_refused(runtime, bundle):
    first, second = bundle(), bundle("true")
    runtime.idle(first)
    second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
    runtime.create(second).fails("container's cgroup is not empty", "process(es) found")
    assert runtime.status(first) == "running"
    assert host.cgroup_procs(first.cgroup("pids"))


def test_cr13_frozen_cgroup_is_refused(runtime, bundle):
    b = bundle("true")
    directory = b.cgroup("freezer")
    os.makedirs(directory)
    freeze(directory)
    try:
        runtime.create(b).fails("container's cgroup unexpectedly frozen")
    finally:
        freeze(directory, False)
        host.purge_cgroups(b.id)


@differs_from(OLD, "accepts a non-empty cgroup with a warning")
def test_cr13_a_refused_cgroup_keeps_its_processes(runtime, bundle):
    """What undoes a refused create reaches nothing that create did not make."""
    b = bundle("true")
    directory = b.cgroup("freezer")  # the one that says whom to kill
    os.makedirs(directory)
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(stranger.pid))
            runtime.create(b).fails("container's cgroup is not empty", "process(es) found")
            assert stranger.poll() is None
            assert os.listdir(runtime.root) == []
            assert host.cgroup_dirs(b.id) == [directory]
        finally:
            stranger.kill()
    host.purge_cgroups(b.id)


def test_cg05_existing_empty_cgroup_is_used(runtime, bundle):
    b = bundle("true")
    os.makedirs(b.cgroup("pids"))
    runtime.create(b).ok()
    assert host.cgroup_procs(b.cgroup("pids")) == [runtime.state(b)["pid"]]


@pytest.mark.parametrize("args, text", [
    (["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
    (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
    (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    (["/etc"], 'exec: "/etc": is a directory'),
    ([""], 'exec: "": executable file not found in $PATH'),
])
def test_cr11_bad_program_is_a_create_error(runtime, bundle, args, text):
    if runtime.peer == OLD and args == ["/etc"]:
        pytest.skip("runc 1.1.5 says permission denied for a directory")
    b = bundle()
    b.process["args"] = args
    result = runtime.create(b).fails(f"{runtime.name} create failed: unable to start container process: ", text).one_line()
    if runtime.peer != OLD:
        assert result.message.startswith(f"{runtime.name} create failed: unable to start container process: "
                                         f"error during container init: exec: ")
    assert os.listdir(runtime.root) == []


@differs_from(OLD, "looks up with the eaccess of root")
def test_cr11_dac_override_does_not_make_a_file_executable(runtime, bundle):
    b = bundle("/bin/script").add_capabilities("CAP_DAC_OVERRIDE")
    b.file("bin/script", "#!/bin/sh\n", 0o644)
    runtime.create(b).fails('exec: "/bin/script": permission denied')


def test_cr12_failed_create_removes_everything_and_the_id_is_free(runtime, bundle):
    b = bundle("true").mount("/mnt", "/no/such/source", "bind", ["bind"])
    runtime.create(b).fails("no such file or directory")
    assert os.listdir(runtime.root) == []
    assert host.cgroup_dirs(b.id) == []
    b.config["mounts"].pop()
    runtime.create(b).ok()


def test_cr12_failed_create_removes_the_pid_file_or_never_writes_it(runtime, bundle, work):
    b = bundle("no-such-program")
    runtime.create(b, "--pid-file", f"{work}/pid").fails("executable file not found")
    assert not os.path.exists(f"{work}/pid") or not host.alive(int(host.read(f"{work}/pid")))


@pytest.mark.parametrize("flags", [["--preserve-fds", "40"], ["--pidfd-socket", "/no/such.sock"]], ids=["fds", "pidfd"])
@differs_from(OLD, "leaves an empty state directory (CR-12)")
def test_cr12_early_failures_leave_no_state(runtime, bundle, flags):
    b = bundle("true")
    result = runtime.create(b, *flags)
    assert result.code == 1, result
    assert os.listdir(runtime.root) == []


def test_cr05_no_pivot(runtime, bundle):
    b = bundle("sh", "-c", "ls /; cat /proc/self/mountinfo")
    result = runtime.run(b, "--no-pivot").ok()
    assert "bin\n" in result.out
    assert result.out.count(" - proc proc ") >= 1


def test_cr05_no_pivot_with_private_propagation_is_refused(runtime, bundle):
    b = bundle("true", linux={"rootfsPropagation": "private"})
    runtime.run(b, "--no-pivot").fails("rootfsPropagation of [r]private is not safe without pivot_root")


def test_cr05_no_pivot_must_not_expose_the_hosts_proc(runtime, bundle):
    """A new user namespace may mount a full procfs only where one is fully visible: the host's must be gone."""
    b = bundle("sh", "-c", "unshare -Urmpf mount -t proc proc /mnt && echo EXPOSED; true")
    b.process["noNewPrivileges"] = False
    os.symlink("busybox", f"{b.rootfs}/bin/unshare")
    result = runtime.run(b, "--no-pivot").ok()
    assert "EXPOSED" not in result.out


@differs_from(OLD, "runs from a read-only bind mount of itself")
def test_cl20_program_runs_from_the_image_and_init_from_no_host_file(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    exe = os.readlink(f"/proc/{pid}/exe")
    assert os.stat(f"/proc/{pid}/exe").st_ino != os.stat(runtime.program).st_ino or exe.startswith("/memfd:")
    with pytest.raises(OSError):
        with open(f"/proc/{pid}/exe", "r+b") as file:
            file.write(b"x")


@differs_from("runc", "an overlay or memfd copy of runc itself")
def test_cl20_init_is_the_sealed_memfd(runtime, bundle):
    import fcntl
    b = bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    assert os.stat(f"/proc/{pid}/exe").st_size < 64 * 1024
    with open(f"/proc/{pid}/exe", "rb") as file:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
    wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert seals & wanted == wanted


# --- start -----------------------------------------------------------------------------------------------------------

def test_st03_second_start(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.start(b).fails("cannot start an already running container").one_line()
    assert runtime.status(b) == "running"


def test_st03_start_after_the_end(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.start(b).fails("cannot start a container that has stopped").one_line()


def test_st03_init_killed_while_created(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    runtime.kill(b).ok()
    runtime.wait_stopped(b)
    runtime.start(b).fails("cannot start a container that has stopped")


@differs_from(OLD, "starts a paused created container or blocks")
def test_st03_start_of_a_paused_container(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    runtime.call("pause", b.id).ok()
    runtime.start(b).fails("cannot start a container in the paused state")
    runtime.call("resume", b.id).ok()
    assert runtime.status(b) == "created"
    runtime.start(b).ok()


def test_cl17_start_of_unknown_id(runtime):
    runtime.start("nobody").fails("container does not exist").one_line()


def test_fi01_fifo_exists_exactly_while_created(runtime, bundle):
    b = bundle()
    b.args("/bin/probe", "idle")
    runtime.create(b).ok()
    assert runtime.status(b) == "created"
    runtime.start(b).ok()
    assert not os.path.exists(f"{runtime.root}/{b.id}/exec.fifo")


@differs_from(OLD, "start returns 0, the container's stderr has the text (EX-27)")
@differs_from("runc", "start returns 0")
def test_st05_failing_execve_is_reported_by_start(runtime, bundle):
    """GP-07: a file that passes the look-up but cannot be executed."""
    b = bundle("/bin/broken")
    b.file("bin/broken", "#!/no/such/interpreter\n", 0o755)
    runtime.create(b).ok()
    result = runtime.start(b)
    assert result.code != 0, result
    assert "/bin/broken" in result.message and "no such file or directory" in result.message, result


# --- run -------------------------------------------------------------------------------------------------------------

def test_rn05_foreground_output_and_status(runtime, bundle):
    b = bundle("sh", "-c", "echo out; echo err >&2; exit 7")
    result = runtime.run(b)
    assert (result.code, result.out, result.err) == (7, "out\n", "err\n")
    assert os.listdir(runtime.root) == []


def test_rn05_foreground_stdin(runtime, bundle):
    assert runtime.run(bundle("cat"), stdin="some input\n").ok().out == "some input\n"


def test_rn05_large_stdin_and_stdout_pass_whole(runtime, bundle):
    data = "0123456789abcde\n" * 65536
    assert runtime.run(bundle("cat"), stdin=data).ok().out == data


def test_rn05_stdin_is_not_awaited_at_exit(runtime, bundle):
    read_end, write_end = os.pipe()
    try:
        runtime.run(bundle("true"), stdin=read_end, timeout=5).ok()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_cl10_death_by_signal(runtime, bundle):
    b = bundle("sh", "-c", "kill -9 $$")
    b.without_namespace("pid")
    assert runtime.run(b).code == 128 + 9


def test_rn01_detach(runtime, bundle):
    b = bundle("/bin/probe", "idle")
    b.write()
    runtime.track(b.id)
    with open(b.stdout, "wb") as out:
        runtime.call("run", "-d", "--bundle", b.path, b.id, stdout=out, stderr=out).ok()
    assert runtime.status(b) == "running"
    pid = runtime.state(b)["pid"]
    host.eventually(lambda: b.out() == "ready\n")
    runtime.kill(b, "TERM").ok()
    assert host.wait_status(pid) == 15


def test_rn02_keep(runtime, bundle):
    b = bundle("true")
    runtime.run(b, "--keep").ok()
    state = runtime.state(b)
    assert (state["status"], state["pid"]) == ("stopped", 0)
    assert os.path.isdir(b.cgroup("pids"))
    runtime.delete(b).ok()
    assert not os.path.isdir(b.cgroup("pids"))


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGALRM])
def test_rn06_signals_are_forwarded(runtime, bundle, signo):
    b = bundle("/bin/probe", "idle")
    process = runtime.spawn_run(b)
    host.eventually(lambda: "ready" in host.read(process.out_path))
    process.send_signal(signo)
    host.eventually(lambda: f"signal {int(signo)}\n" in host.read(process.out_path))
    if signo != signal.SIGTERM:
        process.send_signal(signal.SIGTERM)
    assert runtime.finish(process).code == 15


def test_rn03_orphans_are_reaped_by_run(runtime, bundle):
    """Without a pid namespace a daemon of the container is re-parented to run, which must reap it."""
    b = bundle("sh", "-c", "(sh -c 'echo $$ > /tmp/pid; kill -STOP $$' &) ; sleep 1000").without_namespace("pid").writable()
    process = runtime.spawn_run(b)
    pid = int(host.eventually(lambda: host.read(f"{b.rootfs}/tmp/pid").strip()))
    host.eventually(lambda: host.proc_stat(pid)["ppid"] == process.pid, what="re-parenting to run")
    host.kill_quietly(pid)
    host.eventually(lambda: host.proc_stat(pid) is None, what="reaping by run")
    process.send_signal(signal.SIGTERM)
    assert runtime.finish(process).code == 143


def test_rn03_no_subreaper(runtime, bundle):
    b = bundle("sh", "-c", "(sh -c 'echo $$ > /tmp/pid; sleep 1000' &) ; sleep 1000").without_namespace("pid").writable()
    process = runtime.spawn_run(b, "--no-subreaper")
    pid = int(host.eventually(lambda: host.read(f"{b.rootfs}/tmp/pid").strip()))
    host.eventually(lambda: host.proc_stat(pid)["ppid"] == os.getpid(), what="re-parenting to the caller")
    process.send_signal(signal.SIGTERM)
    assert runtime.finish(process).code == 143


@pytest.mark.parametrize("mode", ["run", "create"])
def test_ex27_script_with_missing_interpreter(runtime, bundle, mode):
    b = bundle("/bin/broken")
    b.file("bin/broken", "#!/no/such/interpreter\n", 0o755)
    if mode == "run":
        result = runtime.run(b)
        assert result.code in (1, 255) if runtime.peer else result.code == 255, result
        assert "/bin/broken" in result.err and "no such file or directory" in result.err, result
        assert os.listdir(runtime.root) == []
    else:
        runtime.create(b).ok()
        runtime.start(b)
        runtime.wait_stopped(b)


# --- version, annotations, spec-level odds and ends ------------------------------------------------------------------

@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.0", "1.3.0"])
def test_tl01_versions_of_major_1_are_accepted(runtime, bundle, version):
    runtime.run(bundle("true", ociVersion=version)).ok()


@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "banana", "", DROP], ids=str)
@differs_from("runc", "never looks at ociVersion (GP-14)")
def test_gp14_other_versions_are_refused(runtime, bundle, version):
    b = bundle("true")
    if version is DROP:
        del b.config["ociVersion"]
    else:
        b.config["ociVersion"] = version
    runtime.run(b).fails("ociVersion").one_line()


@pytest.mark.parametrize("section", ["windows", "solaris", "zos", "freebsd", "somethingNew"])
def test_tl07_other_platforms_and_unknown_keys_are_ignored(runtime, bundle, section):
    runtime.run(bundle("true", **{section: {"x": {"y": [1, 2]}}})).ok()


def test_tl02_absolute_and_relative_root(runtime, bundle):
    b = bundle("true")
    b.config["root"]["path"] = b.rootfs
    runtime.run(b).ok()
    os.rename(b.rootfs, f"{b.path}/elsewhere")
    os.mkdir(b.rootfs)
    b.config["root"]["path"] = "elsewhere"
    runtime.run(b).ok()


def test_tl02_bundle_is_the_root(runtime, bundle):
    """root.path "." : the bundle directory itself."""
    b = bundle("true")
    for name in os.listdir(b.rootfs):
        os.rename(f"{b.rootfs}/{name}", f"{b.path}/{name}")
    b.config["root"]["path"] = "."
    runtime.run(b).ok()


@pytest.mark.parametrize("readonly, code", [(True, "1"), (False, "0")])
def test_tl03_readonly_root(runtime, bundle, readonly, code):
    b = bundle("sh", "-c", "touch /file 2>/dev/null; echo $?", root={"readonly": readonly})
    assert runtime.run(b).ok().out == f"{code}\n"


@differs_from(OLD, "does not know domainname")
def test_tl04_hostname_and_tl05_domainname(runtime, bundle):
    b = bundle(hostname="some-host", domainname="example.org")
    seen = runtime.probe(b)
    assert (seen["hostname"], seen["domainname"]) == ("some-host", "example.org")


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_tl04_needs_a_private_uts_namespace(runtime, bundle, key):
    if runtime.peer == OLD and key == "domainname":
        pytest.skip("runc 1.1.5 does not know domainname")
    b = bundle("true", hostname=DROP).without_namespace("uts")
    b.config[key] = "name"
    runtime.run(b).fails("without a private UTS namespace").one_line()
