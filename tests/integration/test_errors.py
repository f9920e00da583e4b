"""Bad input: each a one-line error that names what is wrong, within a second and 100 MiB, with nothing left behind."""
import json
import os

import pytest

from lib import host
from lib.bundle import DROP, merge
from lib.marks import OLD, differs_from


@pytest.fixture
def measured(runtime, tool, work):
    """Runs one call and holds it to the limits of bad input: one line, a second, 100 MiB, nothing left."""
    def call(*args, code=1, **spawn):
        report = f"{work}/report"
        view = runtime.in_view([tool("measure"), report])
        result = view.call(*args, **spawn)
        peak, milliseconds = (int(word) for word in host.read(report).split())
        os.unlink(report)
        assert result.code == code, result
        assert result.message, result
        result.one_line()
        assert peak < 100 * 1024, f"{peak} KiB"
        assert milliseconds < 1000, f"{milliseconds} ms"
        assert os.listdir(runtime.root) == []
        return result
    return call


def create(measured, b, **spawn):
    return measured("create", "--bundle", b.path, b.id, **spawn)


def refuses(measured, b, *texts):
    """create of the bundle fails and the message holds all texts."""
    b.write()
    result = create(measured, b)
    for text in texts:
        assert text in result.message, result
    assert host.cgroup_dirs(b.id) == []
    return result


# --- bundle and file -------------------------------------------------------------------------------------------------

def test_cl18_missing_bundle(measured, runtime):
    result = measured("create", "--bundle", "/no/such", "x")
    assert result.message.endswith("create failed: chdir /no/such: no such file or directory")
    assert result.message.startswith(runtime.name)


def test_bundle_that_is_a_file(measured):
    assert "not a directory" in measured("create", "--bundle", "/etc/passwd", "x").message


def test_missing_config(measured, work):
    assert "JSON specification file config.json not found" in measured("create", "--bundle", work, "x").message


def test_config_that_is_a_directory(measured, work):
    os.mkdir(f"{work}/config.json")
    assert "config.json" in measured("create", "--bundle", work, "x").message


@differs_from("runc", "waits for a writer")
def test_config_that_is_a_fifo_does_not_block(measured, work):
    os.mkfifo(f"{work}/config.json")
    assert "config.json" in measured("create", "--bundle", work, "x").message


@pytest.mark.parametrize("text", [
    "", "nope", "{", '{"ociVersion":', '{"process": {"args": ["a",]}}', "[]", '"text"', pytest.param("null", marks=differs_from(OLD, "panics")),
    "{} {}", "\x00", "\ufeff{}",
    '{"a": "\\ud800"', "{\"a\": 1e999999"], ids=repr)
def test_config_that_is_not_a_json_object(measured, work, text):
    with open(f"{work}/config.json", "w", encoding="utf-8") as file:
        file.write(text)
    create_error = measured("create", "--bundle", work, "x")
    assert "create failed: " in create_error.message


@differs_from("runc", "needs more than a second and 100 MiB")
@pytest.mark.parametrize("make", [
    lambda: '{"annotations": {"a": "' + "x" * (64 << 20) + '"}}',
    lambda: '{"process": {"args": [' + ",".join(['"a"'] * (16 << 20)) + "]}}",
    lambda: "[" * 100_000 + "]" * 100_000,
    lambda: '{"x":' * 100_000 + "1" + "}" * 100_000,
], ids=["64 MiB string", "64 MiB array", "depth 100000 arrays", "depth 100000 objects"])
def test_huge_and_deep_configs(measured, work, make):
    with open(f"{work}/config.json", "w", encoding="ascii") as file:
        file.write(make())
    assert "config.json" in measured("create", "--bundle", work, "x").message


# --- required parts --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("change, text", [
    ({"root": DROP}, "root must be specified"),
    ({"process": DROP}, "process property must not be empty"),
    ({"process": {"cwd": DROP}}, "Cwd property must not be empty"),
    ({"process": {"cwd": ""}}, "Cwd property must not be empty"),
    ({"process": {"cwd": "tmp"}}, "Cwd must be an absolute path"),
    ({"process": {"args": []}}, "args must not be empty"),
    ({"process": {"args": DROP}}, "args must not be empty"),
    ({"process": {"selinuxLabel": "system_u:system_r:x_t:s0"}}, "selinux"),
    ({"root": {"path": "no-such-root"}}, "no-such-root"),
], ids=lambda value: json.dumps(value, default=lambda _: "absent") if isinstance(value, dict) else "")
def test_spec_errors(measured, bundle, change, text):
    b = bundle("true")
    merge(b.config, change)
    refuses(measured, b, text)


def test_pr05_empty_args_leave_nothing(measured, bundle):
    refuses(measured, bundle("true", process={"args": []}), "args must not be empty")


@pytest.mark.parametrize("path, value", [
    (("ociVersion",), 5), (("process",), []), (("process", "args"), "true"), (("process", "args"), [1]),
    (("process", "env"), {"A": "b"}), (("process", "terminal"), "yes"), (("process", "user", "uid"), "0"),
    (("process", "user", "uid"), -1), (("process", "user", "uid"), 1.5), (("process", "user", "gid"), 1 << 32),
    (("process", "user", "additionalGids"), [-1]), (("process", "user", "umask"), "022"),
    (("process", "rlimits"), {}), (("process", "capabilities"), []), (("process", "noNewPrivileges"), 1),
    (("process", "oomScoreAdj"), "1"), (("root",), "rootfs"), (("root", "readonly"), 1), (("hostname",), 5),
    (("mounts",), {}), (("mounts",), ["/x"]), (("annotations",), {"a": 1}), (("hooks",), []), (("linux",), []),
    (("linux", "namespaces"), "pid"), (("linux", "maskedPaths"), "/x"), (("linux", "resources", "memory"), {"limit": "1"}),
    (("linux", "sysctl"), {"a": 1}), (("linux", "seccomp"), []), (("linux", "devices"), {}),
    (("linux", "cgroupsPath"), 7), (("linux", "uidMappings"), [{"containerID": "0", "hostID": 0, "size": 1}]),
], ids=lambda value: ".".join(value) if isinstance(value, tuple) else json.dumps(value))
def test_wrong_type_names_the_field(measured, runtime, bundle, path, value):
    b = bundle("true")
    target = b.config
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    result = refuses(measured, b, "create failed: ")
    if not runtime.peer:
        assert path[-1] in result.message, result


# --- values ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("change, texts", [
    pytest.param({"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "pid"}]}},
                 ['malformed spec file: duplicated ns {"pid" ""}'], id="LX-02 duplicate",
                 marks=differs_from(OLD, "other wording")),
    pytest.param({"linux": {"namespaces": [{"type": "mount"}, {"type": "weird"}]}},
                 ['namespace {"weird" ""} does not exist'], id="LX-01 unknown", marks=differs_from(OLD, "other wording")),
    pytest.param({"hostname": DROP, "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"},
                                                             {"type": "network", "path": "/no/ns"}]}},
                 ["/no/ns", "no such file or directory"], id="LX-01 path absent"),
    pytest.param({"linux": {"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}},
                 ["user namespace mappings specified, but user namespace isn't enabled in the config"],
                 id="LX-05 no userns", marks=differs_from(OLD, "other wording")),
    pytest.param({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}},
                 ["time namespace offsets specified, but time namespace isn't enabled in the config"],
                 id="LX-06 no timens", marks=differs_from(OLD, "has no time namespaces")),
    pytest.param({"linux": {"rootfsPropagation": "weird"}}, ["rootfsPropagation=weird is not supported"], id="LX-14"),
    pytest.param({"linux": {"sysctl": {"vm.swappiness": "1"}}},
                 ['sysctl "vm.swappiness" is not in a separate kernel namespace'], id="LX-13"),
    pytest.param({"linux": {"devices": [{"path": "/dev/x", "type": "z", "major": 1, "minor": 1}]}}, ["z"], id="LX-07 type"),
    pytest.param({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_WEIRD"}}}, ["SCMP_ACT_WEIRD"], id="SC-01"),
    pytest.param({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_WEIRD"]}}},
                 ["SCMP_ARCH_WEIRD"], id="SC-03"),
    pytest.param({"process": {"rlimits": [{"type": "RLIMIT_WEIRD", "soft": 1, "hard": 1}]}}, ["RLIMIT_WEIRD"], id="PR-07"),
    pytest.param({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}] * 2}}, ["RLIMIT_NOFILE"],
                 id="GP-04", marks=differs_from("runc", "accepts duplicates")),
    pytest.param({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]}}, [], id="soft above hard"),
    pytest.param({"process": {"env": ["NOEQUALS"]}}, ["NOEQUALS"], id="PR-04 env", marks=differs_from(OLD, "accepts it")),
    pytest.param({"process": {"env": ["A=\0b"]}}, [], id="PR-04 NUL"),
    pytest.param({"process": {"args": ["a\0b"]}}, [], id="args NUL", marks=differs_from(OLD, "fails at start")),
    pytest.param({"hostname": "a" * 65}, [], id="long hostname"),
    pytest.param({"mounts": [{"destination": "/", "type": "tmpfs", "source": "x"}]}, [], id="MT-02 root",
                 marks=differs_from(OLD, "accepts it")),
    pytest.param({"mounts": [{"destination": "/mnt\0x", "type": "tmpfs", "source": "x"}]}, ["null byte"], id="MT-03 NUL",
                 marks=differs_from(OLD, "other wording")),
    pytest.param({"mounts": [{"destination": "/mnt", "type": "nosuchfs", "source": "x"}]}, ["/mnt"], id="unknown fs"),
    pytest.param({"mounts": [{"destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["size=weird"]}]}, ["/mnt"],
                 id="MT-06 bad data"),
    pytest.param({"linux": {"resources": {"unified": {"../x": "1"}}}}, [], id="RS-24 slash",
                 marks=differs_from(OLD, "v1 ignores unified")),
])
def test_bad_values(measured, bundle, change, texts):
    b = bundle("true")
    merge(b.config, change)
    refuses(measured, b, "create failed: ", *texts)


@differs_from(OLD, "other wording")
@pytest.mark.parametrize("uid, gid, text", [
    (70000, 0, "cannot setuid to unmapped uid 70000 in user namespace"),
    (0, 70000, "cannot setgid to unmapped gid 70000 in user namespace")])
def test_pr21_unmapped_user(measured, bundle, uid, gid, text):
    b = bundle("true", process={"user": {"uid": uid, "gid": gid}}).user_namespace()
    refuses(measured, b, text)


def test_lx05_user_namespace_without_mapping(measured, bundle, runtime):
    b = bundle("true").namespace("user")
    refuses(measured, b, *([] if runtime.peer == OLD else
                           ["user namespaces enabled, but no namespace path to join nor mappings to apply specified"]))


@differs_from("runc", "no step names")
def test_child_errors_name_the_step(measured, bundle):
    b = bundle("true")
    b.mount("/mnt", "x", "nosuchfs")
    refuses(measured, b, "mounts[7] /mnt", "ENODEV")


def test_child_errors_name_the_mount_source(measured, bundle):
    b = bundle("true").mount("/mnt", "/no/such/source", "bind", ["rbind"])
    refuses(measured, b, "/no/such/source", "no such file or directory")


# --- what belongs to other issues is refused by name -----------------------------------------------------------------

@differs_from("runc", "implements them")
@pytest.mark.parametrize("words, text", [
    (["checkpoint", "x"], "checkpoint"), (["restore", "x"], "restore"), (["events", "x"], "events")], ids=lambda value: "")
def test_not_yet_supported_is_refused_by_name(runtime, words, text):
    result = runtime.call(*words)
    assert result.code != 0 and text in result.message, result


@differs_from("runc", "implements it")
def test_systemd_driver_is_refused_by_name(runtime, bundle):
    b = bundle("true").write()
    result = runtime.call("--systemd-cgroup", "create", "--bundle", b.path, b.id)
    assert result.code == 1 and "systemd" in result.message, result


@differs_from("runc", "implements them")
@pytest.mark.parametrize("change, text", [
    ({"linux": {"intelRdt": {"closID": "x"}}}, "intelRdt"), ({"vm": {"hypervisor": {"path": "/x"}}}, "vm"),
    ({"linux": {"netDevices": {"eth7": {"name": "x"}}}}, "netDevices"),
    ({"linux": {"mountLabel": "system_u:object_r:x_t:s0"}}, "selinux"),
    ({"process": {"scheduler": {"policy": "SCHED_WEIRD"}}}, "scheduler"),
    ({"process": {"ioPriority": {"class": "IOPRIO_CLASS_WEIRD"}}}, "ioPriority"),
    ({"linux": {"personality": {"domain": "WEIRD"}}}, "personality"),
    ({"linux": {"memoryPolicy": {"mode": "MPOL_WEIRD"}}}, "memoryPolicy"),
], ids=lambda value: json.dumps(value) if isinstance(value, dict) else "")
def test_unsupported_properties_are_refused_by_name(measured, bundle, change, text):
    b = bundle("true")
    merge(b.config, change)
    refuses(measured, b, text)


# --- ids, flags ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a@b", "a:b", "a b", "a/b", "../x", ".", "..", "ä", "a\nb", "x" * 5000])
def test_cl16_bad_ids(measured, bundle, name):
    b = bundle("true").write()
    result = measured("create", "--bundle", b.path, name)
    if len(name) < 100:
        assert "create failed: invalid container ID format" in result.message


def test_cl16_empty_id(measured, bundle):
    assert "container id cannot be empty" in measured("create", "--bundle", bundle("true").write().path, "").message


@pytest.mark.parametrize("name", ["a+b", "a.b-c_d", "..a", "0", "A" * 64])
def test_cl16_good_ids(runtime, bundle, name):
    runtime.create(bundle("true"), id=name).ok()


def test_cl16_id_that_looks_like_a_flag(runtime, bundle):
    b = bundle("true").write()
    runtime.call("create", "--bundle", b.path, "--", "-x").ok()
    runtime.call("delete", "--force", "--", "-x").ok()


@pytest.mark.parametrize("words", [["create", "--nope", "x"], ["--nope", "list"], ["exec", "--nope", "x", "y"]],
                         ids=lambda words: " ".join(words))
def test_cl09_unknown_flag(runtime, words):
    result = runtime.call(*words).fails("flag provided but not defined: -nope")
    assert result.out.startswith("Incorrect Usage")


@pytest.mark.parametrize("words, text", [
    (["create"], '"create" requires exactly 1 argument'), (["start", "a", "b"], '"start" requires exactly 1 argument'),
    (["list", "a"], '"list" requires exactly 0 argument'), (["exec"], '"exec" requires a minimum of 1 argument'),
    (["kill"], '"kill" requires a minimum of 1 argument'),
    (["kill", "a", "b", "c"], '"kill" requires a maximum of 2 argument')], ids=lambda v: "")
def test_cl07_argument_counts(runtime, words, text):
    runtime.call(*words).fails(text)


# --- nothing is left behind ------------------------------------------------------------------------------------------

@differs_from(OLD, "other wording")
def test_failed_create_runs_no_instruction_of_the_program(runtime, bundle):
    """The hook fails after the container's init exists; the program must never run."""
    b = bundle("touch", "/ran").writable().hook("createRuntime", "exit 1")
    runtime.run(b).fails("error running createRuntime hook #0: exit status 1")
    assert not os.path.exists(f"{b.rootfs}/ran")
    assert os.listdir(runtime.root) == []


def test_errors_go_to_the_log_and_to_stderr(runtime, work):
    log = f"{work}/log"
    result = runtime.call("state", "nobody", globals=["--log", log, "--log-format", "json"])
    assert result.code == 1 and result.err == "container does not exist\n", result
    record = json.loads(host.read(log).splitlines()[-1])
    assert (record["level"], record["msg"]) == ("error", "container does not exist")


@differs_from(OLD, "leaks a cgroup directory (CVE-2024-21626)")
def test_closed_stdio_of_the_caller(runtime, bundle):
    """With fds 0-2 closed, files the runtime opens must not become the container's stdio."""
    b = bundle("/bin/probe", "idle").write()
    runtime.track(b.id)
    script = f'exec "{runtime.program}" --root "{runtime.root}" create --bundle "{b.path}" {b.id} <&- >&- 2>&-'
    assert os.waitstatus_to_exitcode(os.system(f"sh -c '{script}'")) == 0
    pid = runtime.state(b)["pid"]
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in ("0", "1", "2") if os.path.lexists(f"/proc/{pid}/fd/{fd}")]
    assert all(link == "/dev/null" for link in links), links
