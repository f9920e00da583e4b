"""seccomp (SC, SA rows; AT-19)."""
import errno
import os
import re

import pytest

from lib import host
from lib.marks import OLD, differs_from
from lib.seccomp_agent import Agent

# x86-64 numbers of calls that neither a runtime nor the probe needs.
GETPRIORITY, SCHED_YIELD, MKDIR, GETPGID, PAUSE = 140, 24, 83, 121, 34


def profile(*syscalls, default="SCMP_ACT_ALLOW", **more):
    return {"defaultAction": default, "syscalls": list(syscalls), **more}


def rule(*names, action="SCMP_ACT_ERRNO", **more):
    return {"names": list(names), "action": action, **more}


def arg(index, op, value, two=None):
    return {"index": index, "value": value, "op": f"SCMP_CMP_{op}", **({} if two is None else {"valueTwo": two})}


def call(number, *args):
    return ["/bin/probe", "syscall", str(number), *map(str, args)]


def result_of(runtime, b, number, *args):
    return runtime.run(b.args(*call(number, *args))).ok().out.split()[1]


def all_names(up_to):
    found = {}
    for directory in ("/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"):
        try:
            for name, number in re.findall(r"#define __NR_(\w+) (\d+)", host.read(f"{directory}/unistd_64.h")):
                found[name] = int(number)
        except FileNotFoundError:
            continue
    return [name for name, number in found.items() if number <= up_to]


# --- actions ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_sc_status(runtime, bundle, nnp):
    b = bundle(process={"noNewPrivileges": nnp}, linux={"seccomp": profile(rule("getpriority"))})
    seen = runtime.probe(b)
    assert seen["status"]["Seccomp"] == "2" and seen["status"]["Seccomp_filters"] == "1"
    assert runtime.probe(bundle())["status"]["Seccomp"] == "0"


@differs_from("runc", "hangs or is already dead, depending on the version")
@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_sc01_filter_that_refuses_every_call_ends_the_container(runtime, bundle, nnp):
    """Not even exit_group(2) is left to the process then: it must end all the same, and not spin."""
    b = bundle("true", process={"noNewPrivileges": nnp}, linux={"seccomp": profile(default="SCMP_ACT_ERRNO")})
    assert runtime.run(b).code != 0
    assert not os.path.exists(f"{runtime.root}/{b.id}")


@pytest.mark.parametrize("more, name", [({}, "EPERM"), ({"errnoRet": 38}, "ENOSYS"), ({"errnoRet": 95}, "EOPNOTSUPP")], ids=str)
@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_sc02_errno(runtime, bundle, nnp, more, name):
    b = bundle(process={"noNewPrivileges": nnp}, linux={"seccomp": profile(rule("getpriority", **more))})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == name
    assert result_of(runtime, b, GETPGID, 0) == "OK"


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_sc01_deadly_actions(runtime, bundle, action):
    b = bundle(*call(GETPRIORITY, 0, 0), linux={"seccomp": profile(rule("getpriority", action=action))})
    assert runtime.run(b).code == 128 + 31


@pytest.mark.parametrize("action, outcome", [("SCMP_ACT_LOG", "OK"), ("SCMP_ACT_ALLOW", "OK"), ("SCMP_ACT_TRACE", "ENOSYS")])
def test_sc01_other_actions(runtime, bundle, action, outcome):
    b = bundle(linux={"seccomp": profile(rule("getpriority", action=action))})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == outcome


def allow_list(*without, up_to=450, **more):
    names = [name for name in all_names(up_to) if name not in without]
    return profile(rule(*names, action="SCMP_ACT_ALLOW"), default="SCMP_ACT_ERRNO", architectures=["SCMP_ARCH_X86_64"], **more)


@pytest.mark.parametrize("more, name", [({}, "EPERM"), ({"defaultErrnoRet": 95}, "EOPNOTSUPP")], ids=str)
def test_sc02_default_errno(runtime, bundle, more, name):
    b = bundle(linux={"seccomp": allow_list("getpriority", **more)})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == name


def test_sc08_calls_newer_than_the_profile_are_enosys(runtime, bundle):
    b = bundle(linux={"seccomp": allow_list("getpriority")})
    assert result_of(runtime, b, 600) == "ENOSYS"
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"


def test_sc08_old_profile(runtime, bundle):
    """A profile of the time of statx knows neither close_range nor openat2 nor clone3: the program still starts."""
    b = bundle("sh", "-c", "echo fine; exit 3", linux={"seccomp": allow_list("getpriority", up_to=334)})
    result = runtime.run(b)
    assert (result.code, result.out) == (3, "fine\n"), result


def test_sc13_large_profile(runtime, bundle):
    """One rule for each of some hundred calls."""
    rules = [rule(name, action="SCMP_ACT_ALLOW") for name in all_names(450) if name != "getpriority"]
    b = bundle(linux={"seccomp": profile(*rules, default="SCMP_ACT_ERRNO")})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"
    assert result_of(runtime, b, SCHED_YIELD) == "OK"


# --- arguments -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("condition, hit, miss", [
    (arg(0, "EQ", 1), 1, 0), (arg(0, "NE", 1), 0, 1), (arg(0, "LT", 1), 0, 1), (arg(0, "LE", 1), 1, 2),
    (arg(0, "GT", 1), 2, 1), (arg(0, "GE", 1), 1, 0), (arg(0, "MASKED_EQ", 6, 2), 3, 4)], ids=lambda v: v["op"] if isinstance(v, dict) else "")
def test_sc06_operators(runtime, bundle, condition, hit, miss):
    b = bundle(linux={"seccomp": profile(rule("getpriority", errnoRet=95, args=[condition]))})
    assert result_of(runtime, b, GETPRIORITY, hit, 0) == "EOPNOTSUPP"
    assert result_of(runtime, b, GETPRIORITY, miss, 0) != "EOPNOTSUPP"


def test_sc06_different_indices_are_and(runtime, bundle):
    b = bundle(linux={"seccomp": profile(rule("getpriority", errnoRet=95, args=[arg(0, "EQ", 1), arg(1, "EQ", 7)]))})
    assert result_of(runtime, b, GETPRIORITY, 1, 7) == "EOPNOTSUPP"
    assert result_of(runtime, b, GETPRIORITY, 1, 0) != "EOPNOTSUPP"


def test_sc06_same_index_twice_is_or(runtime, bundle):
    b = bundle(linux={"seccomp": profile(rule("getpriority", errnoRet=95, args=[arg(0, "EQ", 1), arg(0, "EQ", 2)]))})
    assert result_of(runtime, b, GETPRIORITY, 1, 0) == "EOPNOTSUPP"
    assert result_of(runtime, b, GETPRIORITY, 2, 0) == "EOPNOTSUPP"
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "OK"


@pytest.mark.parametrize("condition", [arg(6, "EQ", 1), arg(0, "WEIRD", 1)], ids=["index", "operator"])
def test_sc06_bad_arguments(runtime, bundle, condition):
    b = bundle("true", linux={"seccomp": profile(rule("getpriority", args=[condition]))})
    runtime.run(b).fails("run failed: ")


# --- what is accepted and refused ------------------------------------------------------------------------------------

def test_sc05_unknown_calls_are_skipped(runtime, bundle):
    b = bundle(linux={"seccomp": profile(rule("no_such_call", "getpriority"))})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"


@differs_from(OLD, "accepts it")
def test_sc05_names_must_not_be_empty(runtime, bundle):
    runtime.run(bundle("true", linux={"seccomp": profile(rule())})).fails("names")


def test_sc07_rules_like_the_default_are_skipped(runtime, bundle):
    b = bundle(linux={"seccomp": profile(rule("getpriority", action="SCMP_ACT_ALLOW"), rule("sched_yield"))})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "OK"


@differs_from("runc", "ignores it (GP-05)")
@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "SCMP_ACT_LOG"])
def test_gp05_errno_with_another_action(runtime, bundle, action):
    default = "SCMP_ACT_ERRNO" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    b = bundle("true", linux={"seccomp": profile(rule("getpriority", action=action, errnoRet=1), default=default)})
    runtime.run(b).fails("errnoRet", action)


def test_sc03_architectures(runtime, bundle):
    names = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    b = bundle(linux={"seccomp": profile(rule("getpriority"), architectures=names)})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"


def test_sc03_native_architecture_is_always_there(runtime, bundle):
    b = bundle(linux={"seccomp": profile(rule("getpriority"), architectures=["SCMP_ARCH_AARCH64"])})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"


@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                                   ["SECCOMP_FILTER_FLAG_TSYNC"],
                                   ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]], ids=str)
def test_sc04_flags(runtime, bundle, flags):
    if runtime.peer == OLD and flags:
        pytest.skip("runc 1.1.5 is built without flags")
    b = bundle(linux={"seccomp": profile(rule("getpriority"), flags=flags)})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EPERM"


@differs_from(OLD, "built without flags")
def test_sc04_unknown_flag(runtime, bundle):
    runtime.run(bundle("true", linux={"seccomp": profile(rule("getpriority"), flags=["SECCOMP_FILTER_FLAG_WEIRD"])})).fails(
        "SECCOMP_FILTER_FLAG_WEIRD")


@differs_from(OLD, "sets no flag on its own")
def test_sc04_absent_list_means_spec_allow(runtime, bundle):
    """Without the flag the kernel of some hosts turns on speculation mitigations for filtered programs."""
    one = runtime.probe(bundle(linux={"seccomp": profile(rule("getpriority"))}))["status"]
    none = runtime.probe(bundle(linux={"seccomp": profile(rule("getpriority"), flags=[])}))["status"]
    plain = runtime.probe(bundle())["status"]
    key = "Speculation_Store_Bypass"
    assert one[key] == plain[key]
    assert none["Seccomp"] == "2"


def test_at19_start_container_hook_runs_under_the_filter(runtime, bundle):
    b = bundle("ls", "-d", "/made", linux={"seccomp": profile(rule("mkdir", "mkdirat", errnoRet=95))}).writable()
    b.hook("startContainer", "mkdir /made; true")
    result = runtime.run(b)
    assert result.code == 1 and not os.path.exists(f"{b.rootfs}/made"), result


def test_at19_hooks_of_the_host_do_not(runtime, bundle, work):
    b = bundle("true", linux={"seccomp": profile(rule("mkdir", "mkdirat", errnoRet=95))})
    b.hook("createContainer", f"mkdir {work}/made").hook("poststop", f"mkdir {work}/stop")
    runtime.run(b).ok()
    assert os.path.exists(f"{work}/made") and os.path.exists(f"{work}/stop")


@pytest.mark.parametrize("names", [["execve"], ["close", "close_range"], ["write"], ["openat", "openat2", "open"], ["sendmsg"]],
                         ids=lambda v: v[0])
@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_filters_that_forbid_what_init_needs_never_hang(runtime, bundle, names, nnp):
    b = bundle("true", process={"noNewPrivileges": nnp}, linux={"seccomp": profile(rule(*names, action="SCMP_ACT_KILL_PROCESS"))})
    result = runtime.run(b, timeout=10)
    assert result.code in (0, 1, 128 + 31, 255), result
    assert os.listdir(runtime.root) == []


# --- notify ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def agent(work):
    agent = Agent(f"{work}/agent.sock", lambda nr, args: (0, errno.EOPNOTSUPP)).start()
    yield agent
    agent.close()
    assert not agent.problems


def notify_profile(agent, *names, **more):
    return profile(rule(*(names or ("getpriority",)), action="SCMP_ACT_NOTIFY"), listenerPath=agent.path, **more)


@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_sa_agent_answers(runtime, bundle, agent, nnp):
    b = bundle(process={"noNewPrivileges": nnp}, annotations={"key": "value"},
               linux={"seccomp": notify_profile(agent, listenerMetadata="some text")})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EOPNOTSUPP"
    (message,) = agent.messages
    assert message["fds"] == ["seccompFd"] and message["metadata"] == "some text"
    assert message["pid"] == message["state"]["pid"] and message["pid"] > 1
    state = message["state"]
    assert (state["id"], state["status"], state["bundle"]) == (b.id, "creating", b.path)
    assert state["annotations"] == {"key": "value"}
    assert message["ociVersion"].startswith("1.") and state["ociVersion"].startswith("1.")
    assert agent.calls and agent.calls[0][0] == GETPRIORITY


@differs_from("runc", "leaves the connection open")
def test_sc12_connection_is_closed(runtime, bundle, agent):
    runtime.run(bundle("true", linux={"seccomp": notify_profile(agent)})).ok()
    assert len(agent.messages) == 1 and agent.server.left_open == 0


def test_sa03_exec_opens_its_own_connection(runtime, bundle, agent):
    b = bundle(linux={"seccomp": notify_profile(agent)})
    runtime.idle(b)
    assert runtime.exec(b, call(GETPRIORITY, 0, 0)).ok().out.split()[1] == "EOPNOTSUPP"
    assert [m["state"]["status"] for m in agent.messages] == ["creating", "running"]
    assert agent.messages[1]["pid"] != agent.messages[0]["pid"]


def test_sa_emulated_success_and_continue(runtime, bundle, agent):
    agent.answer = lambda nr, args: (42, 0) if nr == GETPRIORITY else "continue"
    b = bundle(linux={"seccomp": notify_profile(agent, "getpriority", "sched_yield")})
    runtime.create(b.args(*call(GETPRIORITY, 0, 0))).ok()
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    assert b.out() == "42 OK\n"


def test_sa_in_a_user_namespace(runtime, bundle, agent):
    b = bundle(linux={"seccomp": notify_profile(agent)}).user_namespace()
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EOPNOTSUPP"


@pytest.mark.parametrize("name", ["sendmsg", "connect", "openat", "close", "getpid", "prctl", "capset", "setgroups", "chdir", "getcwd"])
@pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
def test_sa04_calls_of_the_hand_over_cannot_deadlock(runtime, bundle, agent, name, nnp):
    """The agent only gets the listener after init has it: what init calls in between must not wait for the agent."""
    if runtime.peer:
        pytest.skip("runc needs some of them")
    agent.answer = lambda nr, args: "continue"
    b = bundle("echo", "fine", process={"noNewPrivileges": nnp}, linux={"seccomp": notify_profile(agent, name)})
    runtime.run(b, timeout=10).ok("fine\n")


def test_sa01_no_agent(runtime, bundle, work):
    b = bundle("true", linux={"seccomp": profile(rule("getpriority", action="SCMP_ACT_NOTIFY"), listenerPath=f"{work}/none.sock")})
    runtime.run(b).fails("failed to connect with seccomp agent specified in the seccomp profile")
    assert os.listdir(runtime.root) == []


def test_at19_killed_agent(runtime, bundle, work):
    """Without an agent the kernel answers ENOSYS; nothing hangs."""
    agent = Agent(f"{work}/agent.sock").start()
    b = bundle(*call(GETPRIORITY, 0, 0), linux={"seccomp": notify_profile(agent)})
    runtime.create(b).ok()
    agent.close()
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    assert b.out() == "-1 ENOSYS\n"


def test_sc09_write_cannot_be_notified(runtime, bundle, agent):
    runtime.run(bundle("true", linux={"seccomp": notify_profile(agent, "write")})).fails(
        "SCMP_ACT_NOTIFY cannot be used for the write syscall")


def test_sc09_notify_as_default(runtime, bundle, agent):
    b = bundle("true", linux={"seccomp": profile(rule("write", "read", action="SCMP_ACT_ALLOW"), default="SCMP_ACT_NOTIFY",
                                                 listenerPath=agent.path)})
    runtime.run(b).fails("SCMP_ACT_NOTIFY")


def test_sc09_notify_without_a_path(runtime, bundle):
    runtime.run(bundle("true", linux={"seccomp": profile(rule("getpriority", action="SCMP_ACT_NOTIFY"))})).fails("run failed: ")


def test_sc09_path_without_notify_is_ignored(runtime, bundle):
    runtime.run(bundle("true", linux={"seccomp": profile(rule("getpriority"), listenerPath="/no/such.sock")})).ok()


def test_sc11_metadata_without_a_path(runtime, bundle):
    runtime.run(bundle("true", linux={"seccomp": profile(
        rule("getpriority", action="SCMP_ACT_NOTIFY"), listenerMetadata="x")})).fails("run failed: ")


def test_sc12_large_metadata(runtime, bundle, agent):
    """More than one datagram or pipe holds."""
    text = "x" * 300_000
    b = bundle(linux={"seccomp": notify_profile(agent, listenerMetadata=text)})
    assert result_of(runtime, b, GETPRIORITY, 0, 0) == "EOPNOTSUPP"
    assert agent.messages[0]["metadata"] == text


def test_filter_cache_is_used_only_when_sound(runtime, bundle):
    """The second run of a profile gives the same verdicts as the first."""
    b = bundle(linux={"seccomp": allow_list("getpriority")})
    first = [result_of(runtime, b, GETPRIORITY, 0, 0), result_of(runtime, b, SCHED_YIELD)]
    second = [result_of(runtime, b, GETPRIORITY, 0, 0), result_of(runtime, b, SCHED_YIELD)]
    assert first == second == ["EPERM", "OK"]
    b.linux["seccomp"]["syscalls"].append(rule("sched_yield", errnoRet=95))
    b.linux["seccomp"]["syscalls"][0]["names"].remove("sched_yield")
    assert result_of(runtime, b, SCHED_YIELD) == "EOPNOTSUPP"
