"""Measures what copying a container's output into its log costs, beside conmon."""

import argparse
import collections
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import report

Sample = collections.namedtuple("Sample", "wall_s cpu_s")


def parse_arguments(words):
    parser = argparse.ArgumentParser(prog="bench logs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one that warms up (default 5)")
    parser.add_argument("--megabytes", type=int, default=256, help="output in each (default 256)")
    parser.add_argument("--write", type=int, default=4096, help="bytes in each write of the container (default 4096)")
    parser.add_argument("--directory", type=pathlib.Path, help="where the logs lie (default build/bench)")
    parser.add_argument("--copier", type=pathlib.Path, help="another program than build/release's log_copier")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args(words)


def cpu_seconds(pid):
    """CPU time of a process that has ended and was not waited for, without its children."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except (FileNotFoundError, IndexError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_and_measure(pid, started):
    """Waits for the end of a child of ours."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wall = time.monotonic() - started
    cpu = cpu_seconds(pid)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(f"bench: a copier ended with status {status}")
    return Sample(wall, cpu)


class Ours:
    def __init__(self, name, program, flood, options):
        self.name, self.program, self.flood, self.options = name, program, flood, options

    def run(self, directory, environment):
        started = time.monotonic()
        with subprocess.Popen([self.flood], stdout=subprocess.PIPE, env=environment) as container:
            copier = subprocess.Popen([self.program, f"{self.options},path={directory}/log"], stdin=container.stdout)
            container.stdout.close()
            sample = wait_and_measure(copier.pid, started)
            copier.returncode = 0
        return sample


class Conmon:
    name = "conmon"

    def __init__(self, flood):
        self.flood = flood

    def run(self, directory, environment):
        for name in ("bundle", "exits", "sockets"):
            (directory / name).mkdir()
        command = ["conmon", "--sync", "--no-sync-log", "--cid", "bench", "--cuuid", "bench", "--name", "bench",
                   "--runtime", self.flood, "--bundle", directory / "bundle", "--persist-dir", directory,
                   "--container-pidfile", directory / "pid", "--exit-dir", directory / "exits",
                   "--socket-dir-path", directory / "sockets", "--log-path", f"k8s-file:{directory}/log"]
        started = time.monotonic()
        conmon = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd=directory)
        sample = wait_and_measure(conmon.pid, started)
        conmon.returncode = 0
        return sample


def check_log(directory, environment):
    """Every line is there."""
    lines = int(environment["FLOOD_BYTES"]) // 80
    written = int(subprocess.run(["grep", "-c", "yz.*", directory / "log"], check=False, capture_output=True,
                                 text=True).stdout or 0)
    if written < lines:
        sys.exit(f"bench: {written} lines of {lines} are in the log")


def measure(contestants, arguments, environment):
    samples = {one.name: [] for one in contestants}
    for number in range(arguments.rounds + 1):
        for one in contestants:
            with tempfile.TemporaryDirectory(prefix="gantry-bench-", dir=arguments.directory) as path:
                sample = one.run(pathlib.Path(path), environment)
                if number == 0 and "rotated" not in one.name:
                    check_log(pathlib.Path(path), environment)
            if number > 0:
                samples[one.name].append(sample)
    return samples


def figures(samples, megabytes):
    return {
        name: {
            "mb_per_s": round(megabytes / statistics.median(s.wall_s for s in rows), 1),
            "best_mb_per_s": round(megabytes / min(s.wall_s for s in rows), 1),
            "cpu_s_per_gb": round(statistics.median(s.cpu_s for s in rows) / megabytes * 1000, 3),
            "best_cpu_s_per_gb": round(min(s.cpu_s for s in rows) / megabytes * 1000, 3),
        }
        for name, rows in samples.items()
    }


def table(result):
    head = ["", "MB/s", "best", "CPU s/GB", "best", "x conmon's MB/s", "x conmon's CPU"]
    rows = [head]
    for name, row in result.items():
        peer = result["conmon"]
        rows.append([name, f"{row['mb_per_s']:.0f}", f"{row['best_mb_per_s']:.0f}", f"{row['cpu_s_per_gb']:.2f}",
                     f"{row['best_cpu_s_per_gb']:.2f}", f"{row['mb_per_s'] / peer['mb_per_s']:.2f}",
                     f"{row['cpu_s_per_gb'] / peer['cpu_s_per_gb']:.2f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["copy a container's output, lines of 80 bytes, into its log"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def build_copier(top):
    """What is measured is what lies here, and not an older build of it."""
    program = top / "build/release/tests/integration/log_copier"
    if not program.exists():
        subprocess.run(["cmake", "--preset", "release", "-DGANTRY_TESTS=ON"], cwd=top, check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--build", "build/release", "--target", "log_copier"], cwd=top, check=True,
                   stdout=sys.stderr)
    return program


def main(top, programs, words):
    arguments = parse_arguments(words)
    if shutil.which("conmon") is None:
        sys.exit("bench: conmon is missing: scripts/clients-install conmon")
    program = arguments.copier or build_copier(top)
    arguments.directory = (arguments.directory or programs).resolve()
    flood = programs / "flood"
    environment = os.environ | {"FLOOD_BYTES": str(arguments.megabytes * 1000 * 1000 // 80 * 80),
                                "FLOOD_WRITE": str(arguments.write)}
    contestants = [Conmon(flood), Ours("gantry cri", program, flood, "cri,size=0"),
                   Ours("gantry cri, rotated", program, flood, "cri,size=16m,files=4"),
                   Ours("gantry json", program, flood, "json,size=0")]
    facts = report.host()
    print(report.headline(facts, arguments.rounds), flush=True)
    result = figures(measure(contestants, arguments, environment), arguments.megabytes)
    print(table(result), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"host": facts, "figures": result}, indent=2) + "\n", encoding="utf-8")
