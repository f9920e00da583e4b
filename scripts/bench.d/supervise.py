"""Measures what it costs to keep many idle containers running, beside conmon and containerd's shims, all with crun."""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time

import processes
import report
from arena import Arena, enter_private_namespace
from contestants import Floor
from supervisors import PARALLEL, Client, Conmon, Gantry, Shims, timed

PACKAGES = ["busybox-static", "conmon", "containerd", "crun"]
_COUNTS = [10, 100, 1000]
_LARGE = 5000
_FILES_EACH = 4  # descriptors that the supervisor may need for a container, with some to spare
_CYCLES, _CYCLE_COUNT = 10, 200
_MORE = 100  # containers that are started while calls are timed


def parse_arguments(words):
    parser = argparse.ArgumentParser(prog="bench supervise", description=__doc__)
    parser.add_argument("--count", type=int, action="append", help="idle containers (default 10, 100 and 1000)")
    parser.add_argument("--large", action="store_true", help=f"{_LARGE} containers, too, where limits allow it")
    parser.add_argument("--peer-count", type=int, action="append", help="the same for conmon (default 10 and 100)")
    parser.add_argument("--shims", type=int, default=10, help="containers of containerd (default 10; 0: without)")
    parser.add_argument("--grouped", type=int, default=50, help="containers in one shim (default 50; 0: without)")
    parser.add_argument("--rounds", type=int, default=40, help="measured rounds of exec (default 40)")
    parser.add_argument("--idle", type=float, default=3, help="seconds in which nothing is asked (default 3)")
    parser.add_argument("--without-peers", action="store_true", help="gantry alone")
    parser.add_argument("--start-rounds", type=int, default=5,
                        help=f"rounds of {_MORE} starts beside crun and conmon, after one that warms up (default 5)")
    parser.add_argument("--cycles", type=int, default=_CYCLES, help=f"up and rm of {_CYCLE_COUNT} (default {_CYCLES})")
    parser.add_argument("--gantry", type=pathlib.Path, help="another binary than build/release/gantry")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args(words)
    arguments.count = sorted(arguments.count or _COUNTS) + ([_LARGE] if arguments.large else [])
    arguments.peer_count = arguments.peer_count or [10, 100]
    return arguments


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


# -- gantry


def call_times(gantry, until):
    """Milliseconds of one call after the other, until that returns true."""
    client = Client(gantry.socket)
    times = []
    try:
        while not until():
            times.append(timed(client.status)[0] * 1000)
            time.sleep(0.002)
    finally:
        client.close()
    return times


def delays(gantry):
    """How long calls take while nothing happens, and while containers are started."""
    end = time.monotonic() + 2
    quiet = call_times(gantry, lambda: time.monotonic() > end)
    names = gantry.prepare(_MORE)
    process = gantry.begin(names)
    busy = call_times(gantry, lambda: process.poll() is not None)
    gantry.remove(names)
    return {"call_ms": round(statistics.median(quiet), 3), "call_p99_ms": round(percentile(quiet, 0.99), 3),
            "starting_call_p99_ms": round(percentile(busy, 0.99), 3), "starting_call_max_ms": round(max(busy), 3)}


def exec_ratio(programs, arena, gantry, container, rounds):
    floor = Floor(programs, arena)
    with floor.sleeper() as floor_steps:
        steps_of = {"floor": floor_steps, "gantry": gantry.exec_steps(container)}
        plan = "".join(f"contestant {name}\n" + "".join("run " + "\t".join(step[1]) + "\n" for step in steps)
                       for name, steps in steps_of.items())
        done = subprocess.run([programs / "driver", str(rounds)], input=plan, stdout=subprocess.PIPE, text=True,
                              check=True)
    found = report.figures(report.parse_samples(done.stdout))
    return {"exec_ms": found["gantry"]["median_ms"], "exec_x_floor": found["gantry"]["median_ratio_to"]["floor"]}


def kill_supervisor(gantry):
    """Milliseconds until the next one has answered."""
    time.sleep(1.2)  # one that has not lived for a second is started again with a delay
    former = gantry.pids()[1]
    started = time.monotonic()
    os.kill(former, signal.SIGKILL)

    def answered():
        reply = gantry.answers()
        return reply and reply["supervisor_pid"] != former
    processes.eventually(answered, "another supervisor answers")
    return (time.monotonic() - started) * 1000


def memory(gantry):
    return [processes.pss_bytes(pid) for pid in gantry.pids()]


def measure_gantry(arguments, programs, arena, count):
    """Everything about `count` containers, in a supervisor of their own."""
    with Gantry(find_gantry(arguments), arena) as gantry:
        empty, files_before = memory(gantry), [processes.descriptors(pid) for pid in gantry.pids()]
        names = gantry.prepare(count)
        seconds, _ = timed(gantry.start, names)
        time.sleep(1.2)  # what only waits for a while has gone after that
        full = memory(gantry)
        idle = processes.activity(gantry.pids(), arguments.idle)
        files = [processes.descriptors(pid) for pid in gantry.pids()]
        row = {
            "count": count,
            "keeper_kib": round(full[0] / 1024), "supervisor_kib": round(full[1] / 1024),
            "empty_kib": round(sum(empty) / 1024),
            "kib_each": round(sum(full) / 1024 / count, 2),
            "growth_kib_each": round((sum(full) - sum(empty)) / 1024 / count, 2),
            "fds_each": [round((now - before) / count, 2) for now, before in zip(files, files_before)],
            "starts_per_s": round(count / seconds, 1),
            "idle_cpu_ms": idle.cpu_ms, "idle_wakeups": idle.wakeups,
        }
        row |= exec_ratio(programs, arena, gantry, names[0], arguments.rounds)
        row |= delays(gantry)
        row["restart_ms"] = round(statistics.median(kill_supervisor(gantry) for _ in range(3)), 1)
        row["restarted_kib_each"] = round(sum(memory(gantry)) / 1024 / count, 2)
        seconds, _ = timed(gantry.remove, names)
        row["removals_per_s"] = round(count / seconds, 1)
        row["left_kib"] = round(sum(memory(gantry)) / 1024)
        if processes.children(gantry.pids()[0]) != gantry.pids()[1:]:
            sys.exit("bench: not everything was removed")
    return row


def measure_cycles(arguments, arena):
    """Memory with nothing to do, at first and after each round of so many containers."""
    with Gantry(find_gantry(arguments), arena) as gantry:
        sizes = [round(sum(memory(gantry)) / 1024)]
        for _ in range(arguments.cycles):
            names = gantry.prepare(_CYCLE_COUNT)
            gantry.start(names)
            gantry.remove(names)
            sizes.append(round(sum(memory(gantry)) / 1024))
    return sizes


def find_gantry(arguments):
    path = (arguments.gantry or pathlib.Path(__file__).parents[2] / "build/release/gantry").resolve()
    if not os.access(path, os.X_OK):
        sys.exit(f"bench: {path} is not a program: cmake --preset release && cmake --build --preset release")
    return path


def allowed(counts):
    """Those that the limit on open files leaves room for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for count in counts:
        if count * _FILES_EACH > limit:
            say(f"{count} containers are left out: RLIMIT_NOFILE is {limit}")
    return [count for count in counts if count * _FILES_EACH <= limit]


# -- peers


def measure_peer(peer, count):
    with peer:
        names = peer.prepare(count)
        seconds, _ = timed(peer.start, names)
        time.sleep(0.5)
        sizes = [processes.pss_bytes(pid) for pid in peer.pids()]
        peer.remove(names)
    return {"count": count, "processes": len(sizes), "starts_per_s": round(count / seconds, 1),
            "kib_each": round(sum(sizes) / 1024 / count, 1)}


def measure_starts(arguments, arena):
    """Starts per second of all, in turn, round after round; what else the host does meets all of them."""
    rates = {}
    with contextlib.ExitStack() as stack:
        gantry = stack.enter_context(Gantry(find_gantry(arguments), arena))
        rivals = [stack.enter_context(Conmon(arena, with_conmon)) for with_conmon in (False, True)]
        for number in range(arguments.start_rounds + 1):
            for one in [gantry, *rivals]:
                names = one.prepare(_MORE)
                seconds, _ = timed(one.start, names)
                one.remove(names)
                if number > 0:
                    rates.setdefault(one.name, []).append(round(_MORE / seconds, 1))
    return {name: {"median": statistics.median(values), "best": max(values)} for name, values in rates.items()}


def peers(arguments, arena):
    for count in arguments.peer_count:
        yield Conmon(arena, with_conmon=False), count
        yield Conmon(arena), count
    if arguments.shims:
        yield Shims(arena), arguments.shims
    if arguments.grouped:
        yield Shims(arena, arguments.grouped), arguments.grouped


# -- the report


def _table(title, rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [title]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


_LINES = {
    "kib_each": "PSS of keeper and supervisor, KiB per container",
    "growth_kib_each": "  beyond that of none, KiB per container",
    "keeper_kib": "  keeper, KiB", "supervisor_kib": "  supervisor, KiB", "empty_kib": "  both without containers, KiB",
    "restarted_kib_each": "  after the restart, KiB per container", "left_kib": "  both after the removal, KiB",
    "fds_each": "descriptors per container: keeper, supervisor",
    "starts_per_s": f"starts per second, {PARALLEL} at once", "removals_per_s": "removals per second",
    "exec_ms": "exec /bin/true, ms", "exec_x_floor": "  x floor",
    "idle_cpu_ms": "CPU while idle, ms", "idle_wakeups": "  wakeups",
    "call_ms": "a call, median ms", "call_p99_ms": "  p99",
    "starting_call_p99_ms": f"  p99 while {_MORE} start", "starting_call_max_ms": "  longest",
    "restart_ms": "kill -9 of the supervisor until the next one answers, ms",
}  # fmt: skip


def _text(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_figures(result):
    rows = result["gantry"]
    lines = [["containers", *(str(row["count"]) for row in rows)]]
    lines += [[title, *(_text(row[key]) for row in rows)] for key, title in _LINES.items()]
    print(_table("gantry supervise, idle containers of the default bundle", lines), flush=True)
    if result["starts"]:
        lines = [["", "median", "best", "x crun"]]
        crun = next(row["median"] for name, row in result["starts"].items() if name.startswith("crun"))
        lines += [[name, str(row["median"]), str(row["best"]), f"{row['median'] / crun:.2f}"]
                  for name, row in result["starts"].items()]
        print(_table(f"starts per second, {_MORE} containers, {PARALLEL} at once, in turn", lines), flush=True)
    if result["cycles_kib"]:
        print(f"{_CYCLE_COUNT} up and removed, again and again: KiB of keeper and supervisor with none\n"
              f"  {_text(result['cycles_kib'])}\n", flush=True)
    if result["peers"]:
        lines = [["peer", "containers", "processes", "KiB each", f"starts/s, {PARALLEL} at once"]]
        lines += [[row["name"], *(str(row[key]) for key in ("count", "processes", "kib_each", "starts_per_s"))]
                  for row in result["peers"]]
        print(_table("peers", lines), flush=True)
    print(_table("targets", [["", "value", "wanted", ""], *verdicts(result)]), flush=True)


def verdicts(result):
    """What the figures are measured for."""
    rows = result["gantry"]
    last = next((row for row in rows if row["count"] == 1000), rows[-1])
    starts = {name.split()[0]: row["median"] for name, row in result["starts"].items()}
    wanted = [("KiB per idle container", last["kib_each"], "<=", 16),
              ("exec, x floor", last["exec_x_floor"], "<=", 1.5),
              ("ms until a supervisor is back", last["restart_ms"], "<=", 300),
              ("descriptors per container", max(last["fds_each"]), "<=", 3),
              ("wakeups while idle", last["idle_wakeups"], "<=", 0)]
    if starts:
        wanted.append(("start rate, x crun's", round(starts["gantry"] / starts["crun"], 2), ">=", 1.5))
    return [[what, str(value), f"{relation} {limit}", "ok" if (value <= limit) == (relation == "<=") or value == limit
             else "MISSED"] for what, value, relation, limit in wanted]


def main(programs, words):
    arguments = parse_arguments(words)
    if os.geteuid() != 0:
        sys.exit("bench: containers are started, which needs root")
    # Like Ctrl-C: everything is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    missing = [] if arguments.without_peers else [n for n in ("conmon", "containerd", "crun") if shutil.which(n) is None]
    if missing:
        sys.exit(f"bench: missing: {' '.join(missing)}: scripts/clients-install {' '.join(PACKAGES)}")
    find_gantry(arguments)
    enter_private_namespace()
    result = {"host": report.host(), "gantry": [], "peers": [], "starts": {}, "cycles_kib": []}
    print(report.headline(result["host"], arguments.rounds), flush=True)
    with contextlib.ExitStack() as stack:
        arena = stack.enter_context(Arena())
        remaining = [] if arguments.without_peers else list(peers(arguments, arena))
        # In turn with the peers, so that what else the host does meets all.
        for count in allowed(arguments.count):
            say(f"gantry, {count} containers")
            result["gantry"].append(measure_gantry(arguments, programs, arena, count))
            for peer, peer_count in [(p, n) for p, n in remaining if n == count]:
                say(f"{peer.name}, {peer_count} containers")
                result["peers"].append({"name": peer.name, **measure_peer(peer, peer_count)})
            remaining = [(p, n) for p, n in remaining if n != count]
        for peer, peer_count in remaining:
            say(f"{peer.name}, {peer_count} containers")
            result["peers"].append({"name": peer.name, **measure_peer(peer, peer_count)})
        if arguments.start_rounds and not arguments.without_peers:
            say(f"{arguments.start_rounds + 1} rounds of {_MORE} starts")
            result["starts"] = measure_starts(arguments, arena)
        if arguments.cycles:
            say(f"{arguments.cycles} times {_CYCLE_COUNT} containers")
            result["cycles_kib"] = measure_cycles(arguments, arena)
    print_figures(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
