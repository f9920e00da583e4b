"""The command line itself: help, version, usage errors, log formats, exit codes. Nothing here makes a container."""
import json
import os
import re
import subprocess

import pytest

from conftest import PROGRAM

pytestmark = [
    pytest.mark.differs_from("crun", "has another grammar and other texts"),
    pytest.mark.differs_from("runc 1.1", "shows other help and knows no pidfd socket"),
]

COMMANDS = ("create start run state list ps kill delete exec pause resume update spec features version help").split()
REFUSED = ("checkpoint", "restore", "events")
TEXT_LINE = re.compile(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)'
                       r'( func=\S+ file="?[\w.]+:\d+"?)?\n')


@pytest.fixture
def cli(work):
    """cli(*words, program=…, env=…): the finished process, run in a directory of its own on a root of its own."""
    os.makedirs(f"{work}/root")

    def call(*words, program=PROGRAM, root=True, **options):
        globals_ = ["--root", f"{work}/root"] if root else []
        return subprocess.run([program, *globals_, *words], capture_output=True, text=True, cwd=work, timeout=20, **options)
    return call


@pytest.fixture
def runc_link(work):
    os.symlink(PROGRAM, f"{work}/runc")
    return f"{work}/runc"


def message(stderr):
    """The one log line's level and message."""
    match = TEXT_LINE.fullmatch(stderr)
    assert match, stderr
    text = match.group(3)
    return match.group(2), json.loads(text) if text.startswith('"') else text


def refused(result, text, status=1):
    assert (message(result.stderr), result.returncode) == (("error", text), status)


# -- CL-05 help, CL-06 version

@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["-help"], ["help"], ["h"]], ids=" ".join)
def test_cl05_program_help(cli, words):
    result = cli(*words, root=False)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("NAME:\n   gantry - ")
    for command in COMMANDS:
        assert re.search(rf"^   {command}\b", result.stdout, re.M), command


@pytest.mark.parametrize("command", COMMANDS)
def test_cl05_command_help(cli, command):
    shown = [cli(*words) for words in ([command, "-h"], [command, "--help"], ["help", command], ["h", command])]
    for result in shown:
        assert result.returncode == 0 and result.stderr == ""
        assert re.match(rf"NAME:\n   gantry {command} - \S.*\n\nUSAGE:\n   gantry {command}\b", result.stdout)
        assert result.stdout == shown[0].stdout


@pytest.mark.parametrize("words", [["foo"], ["foo", "-h"], ["help", "foo"], ["init"]], ids=" ".join)
def test_cl05_unknown_command(cli, words):
    result = cli(*words)
    refused(result, f"No help topic for '{words[-1] if words[0] == 'help' else words[0]}'\n", 3)
    assert result.stdout == ""


@pytest.mark.parametrize("flag", ["--version", "-v", "-version"])
def test_cl06_version(cli, flag):
    lines = cli(flag, root=False).stdout.splitlines()
    assert re.fullmatch(r"gantry version \d+\.\d+\.\d+", lines[0])
    assert [line for line in lines if re.fullmatch(r"spec: \d+\.\d+\.\d+", line)]
    assert [line for line in lines if re.fullmatch(r"libseccomp: \d+\.\d+\.\d+", line)]
    assert cli("version").stdout.splitlines() == lines


def test_program_name_is_the_links(cli, runc_link):
    assert cli("--version", program=runc_link, root=False).stdout.startswith("runc version 1.5.1\n")
    assert cli("help", "kill", program=runc_link).stdout.startswith("NAME:\n   runc kill - ")
    refused(cli("create", "--bundle", "/nonexistent/x", "x", program=runc_link),
            "runc create failed: chdir /nonexistent/x: no such file or directory")


# -- CL-02, CL-04, CL-08, CL-09: usage errors

USAGE_ERRORS = [
    ("delete --force=xx a", 'invalid boolean value "xx" for -force: parse error'),
    ("create --bundle", "flag needs an argument: -bundle"),
    ("create -b", "flag needs an argument: -b"),
    ("create --foo a", "flag provided but not defined: -foo"),
    ("exec --foo a b", "flag provided but not defined: -foo"),
    ("kill -9 a", "flag provided but not defined: -9"),
    ("create ---x", "bad flag syntax: ---x"),
    ("create --preserve-fds xx a", 'invalid value "xx" for flag -preserve-fds: parse error'),
    ("exec -e a=b --env c=d x y", "Cannot use two forms of the same flag: e env"),
    ("exec -g xx a b", 'invalid value "xx" for flag -g: strconv.ParseInt: parsing "xx": invalid syntax'),
    ("update --blkio-weight xx a", 'invalid value "xx" for flag -blkio-weight: parse error'),
]


@pytest.mark.parametrize("words, text", USAGE_ERRORS, ids=[words for words, _ in USAGE_ERRORS])
def test_cl09_command_usage(cli, words, text):
    result = cli(*words.split())
    refused(result, text)
    assert result.stdout.startswith(f"Incorrect Usage: {text}\n\nNAME:\n   gantry {words.split()[0]} - ")


@pytest.mark.parametrize("words, text", [
    ("--foo list", "flag provided but not defined: -foo"),
    ("--debug=xx list", 'invalid boolean value "xx" for -debug: parse error'),
    ("--log", "flag needs an argument: -log"),
    ("--criu x list", "flag provided but not defined: -criu"),
])
def test_cl09_global_usage(cli, words, text):
    result = cli(*words.split(), root=False)
    refused(result, text)
    assert result.stdout.startswith(f"Incorrect Usage. {text}\n\nNAME:\n   gantry - ")


ONE = ["state", "start", "create", "run", "delete", "pause", "resume", "update"]


@pytest.mark.parametrize("command, words, count", [
    *[(command, [], "exactly 1") for command in ONE], *[(command, ["a", "b"], "exactly 1") for command in ONE],
    *[(command, ["a"], "exactly 0") for command in ("list", "spec", "features")],
    ("exec", [], "a minimum of 1"), ("ps", [], "a minimum of 1"), ("kill", [], "a minimum of 1"),
    ("kill", ["a", "9", "c"], "a maximum of 2"), ("state", ["a", "--foo"], "exactly 1"),
])
def test_cl07_argument_count(cli, command, words, count):
    result = cli(command, *words)
    refused(result, f'{PROGRAM}: "{command}" requires {count} argument(s)')
    assert result.stdout.startswith(f"Incorrect Usage.\n\nNAME:\n   gantry {command} - ")


# -- CL-10, CL-11, CL-16, CL-17: errors of commands

@pytest.mark.parametrize("words, text, status", [
    ("state nope", "container does not exist", 1),
    ("start nope", "container does not exist", 1),
    ("kill nope", "container does not exist", 1),
    ("kill nope FOO", "container does not exist", 1),
    ("delete nope", "container does not exist", 1),
    ("pause nope", "container does not exist", 1),
    ("resume nope", "container does not exist", 1),
    ("update nope", "container does not exist", 1),
    ("ps nope", "container does not exist", 1),
    ("ps -f xx nope", "container does not exist", 1),
    ("exec nope true", "exec failed: container does not exist", 255),
    ("exec nope", "exec failed: container does not exist", 255),
    ("exec -u foo nope true", "exec failed: container does not exist", 255),
    ("exec .. true", "exec failed: invalid container ID format", 255),
    ("state a@b", "invalid container ID format", 1),
    ("state ..", "invalid container ID format", 1),
    ("create a/b", "gantry create failed: invalid container ID format", 1),
    ("run a:b", "gantry run failed: invalid container ID format", 1),
    ("create --bundle /nonexistent/x x", "gantry create failed: chdir /nonexistent/x: no such file or directory", 1),
    ("create x", "gantry create failed: JSON specification file config.json not found", 1),
    ("run x", "gantry run failed: JSON specification file config.json not found", 1),
    ("list -f xx", "invalid format option", 1),
])
def test_cl11_errors(cli, words, text, status):
    result = cli(*words.split())
    refused(result, text, status)
    assert result.stdout == ""


def test_cl16_empty_id(cli):
    refused(cli("state", ""), "container id cannot be empty")
    refused(cli("create", ""), "gantry create failed: container id cannot be empty")


def test_kd08_forced_delete_of_nothing(cli):
    for words in (["delete", "--force", "nope"], ["delete", "nope", "-f"]):
        result = cli(*words)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# -- what is not supported is refused by name

@pytest.mark.parametrize("command", REFUSED)
@pytest.mark.parametrize("words", [["--help"], ["x"], ["--lsm-mount-context"]], ids=" ".join)
def test_refused_commands(cli, command, words):
    result = cli(command, *words)
    refused(result, f"gantry {command} is not supported yet")
    assert result.stdout == ""


def test_gf05_gf06_refused_drivers(cli):
    refused(cli("--systemd-cgroup", "create", "x"),
            "gantry create failed: --systemd-cgroup is not supported yet: leave it out to use the cgroupfs driver")
    refused(cli("--rootless=true", "run", "x"),
            "gantry run failed: --rootless=true is not supported yet: use auto or false, as root")
    refused(cli("--rootless", "x", "create", "x"),
            'gantry create failed: strconv.ParseBool: parsing "x": invalid syntax')
    assert cli("--rootless", "x", "--systemd-cgroup", "list").returncode == 0


def test_cl19_without_root(cli):
    result = cli("--root", "/tmp", "create", "x", root=False, user=65534, group=65534, extra_groups=[])
    refused(result, "gantry create failed: rootless containers are not supported yet: run gantry create as root")


# -- GF-02, GF-03, CL-12 to CL-15: the log

def test_cl12_log_file(cli, work):
    result = cli("--log", "l", "state", "x")
    assert (result.returncode, result.stderr) == (1, "container does not exist\n")
    with open(f"{work}/l") as log:
        assert message(log.read()) == ("error", "container does not exist")
    assert os.stat(f"{work}/l").st_mode & 0o777 == 0o644
    cli("--log=l", "state", "x")
    with open(f"{work}/l") as log:
        assert len(log.readlines()) == 2


def test_cl14_json_log(cli, work):
    result = cli("--log", "l", "--log-format", "json", "foo")
    assert result.stderr == "No help topic for 'foo'\n"
    with open(f"{work}/l") as log:
        line = log.read()
    record = json.loads(line)
    assert list(record) == ["level", "msg", "time"] and line.endswith("}\n")
    assert (record["level"], record["msg"]) == ("error", "No help topic for 'foo'\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", record["time"])


def test_cl13_debug_names_the_source(cli, work):
    assert TEXT_LINE.fullmatch(cli("--debug", "foo").stderr).group(4)
    cli("--debug", "--log", "l", "--log-format=json", "foo")
    with open(f"{work}/l") as log:
        assert list(json.loads(log.readlines()[-1])) == ["file", "func", "level", "msg", "time"]


def test_cl12_errors_before_the_log(cli, work):
    refused(cli("--log", "l", "--log-format", "xx", "list"), "invalid log-format: xx")
    refused(cli("--log", "/nonexistent/x/l", "list"), "open /nonexistent/x/l: no such file or directory")
    refused(cli("--log", "l", "--foo", "list"), "flag provided but not defined: -foo")
    assert not os.path.exists(f"{work}/l")
    assert cli("--log", "", "list").returncode == 0


# -- GF-04, SL-05, SL-07: root and list

def test_sl07_list(cli, work):
    assert cli("list").stdout == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert cli("list", "-f", "json").stdout == "null\n"
    assert cli("list", "-q").stdout == ""
    refused(cli("--root", f"{work}/nonexistent/x", "list", root=False), f"open {work}/nonexistent/x: no such file or directory")
    os.mkdir(f"{work}/root/half")
    result = cli("list", "-q")
    assert (result.returncode, result.stderr) == (0, "load container half: container does not exist\n")


def test_gf04_root(cli, work):
    refused(cli("--root", "/", "list", root=False), "Option --root argument should not be set to /")
    refused(cli("--root", "/usr/..", "list", root=False), "Option --root argument should not be set to /")
    os.mkdir(f"{work}/xdg", 0o777)
    os.chmod(f"{work}/xdg", 0o777)
    result = cli("list", root=False, user=65534, group=65534, extra_groups=[], env={"XDG_RUNTIME_DIR": f"{work}/xdg"})
    assert result.returncode == 0
    assert os.stat(f"{work}/xdg/gantry").st_mode & 0o7777 == 0o1700


# -- SP-01 to SP-05, FT-01

def test_sp01_spec(cli, work):
    result = cli("spec")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with open(f"{work}/config.json") as config:
        text = config.read()
    spec = json.loads(text)
    assert text.startswith('{\n\t"ociVersion": "') and text.endswith("}")
    assert spec["process"]["args"] == ["sh"] and spec["root"] == {"path": "rootfs", "readonly": True}
    assert spec["hostname"] == "gantry"
    refused(cli("spec"), "File config.json exists. Remove it first")
    refused(cli("spec", "-b", "/nonexistent/x"), "chdir /nonexistent/x: no such file or directory")


def test_sp05_rootless_spec(cli, work):
    os.mkdir(f"{work}/b")
    assert cli("spec", "--rootless", "--bundle", "b").returncode == 0
    with open(f"{work}/b/config.json") as config:
        linux = json.load(config)["linux"]
    kinds = [namespace["type"] for namespace in linux["namespaces"]]
    assert "user" in kinds and "network" not in kinds
    assert [mapping["size"] for mapping in linux["uidMappings"]] == [1]


def test_ft01_features(cli):
    result = cli("features")
    features = json.loads(result.stdout)
    assert result.stdout.startswith('{\n    "ociVersionMin": "1.0.0"')
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert "rro" in features["mountOptions"] and len(features["hooks"]) == 6


# -- the process itself

def test_closed_standard_descriptors(cli):
    script = 'exec "$0" "$@" <&- >&- 2>&-'
    for words in (["--version"], ["list"]):
        assert subprocess.run(["sh", "-c", script, PROGRAM, *words]).returncode == 0
    assert subprocess.run(["sh", "-c", script, PROGRAM, "foo"]).returncode == 3


def test_full_disk_is_an_error(cli, work):
    with open("/dev/full", "w") as full:
        result = subprocess.run([PROGRAM, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert message(result.stderr) == ("error", "write /dev/stdout: no space left on device")
