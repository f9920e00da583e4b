"""From samples to figures, a table and JSON."""

import collections
import os
import platform
import statistics

Sample = collections.namedtuple("Sample", "wall_ms cpu_ms peak_kib")

TITLES = {
    "run": "run /bin/true, the default bundle",
    "csd": "create + start + delete of /bin/true, the default bundle",
    "exec": "exec /bin/true in a running container",
    "podman": "run /bin/true, podman-style bundle (the floor is that of the default bundle)",
    "version": "--version",
}


def parse_samples(text):
    """The driver's lines as contestant -> samples."""
    samples = collections.defaultdict(list)
    for line in text.splitlines():
        name, wall_ns, cpu_us, peak_kib = line.split("\t")
        samples[name].append(Sample(int(wall_ns) / 1e6, int(cpu_us) / 1e3, int(peak_kib)))
    return samples


def _ratios(values, name):
    return {other: round(values[name] / values[other], 2) for other in values}


def figures(samples):
    """Per contestant: median and best time, median CPU time, highest peak, and the ratios of its times to others'."""
    medians = {name: statistics.median(s.wall_ms for s in rows) for name, rows in samples.items()}
    minima = {name: min(s.wall_ms for s in rows) for name, rows in samples.items()}
    return {
        name: {
            "median_ms": round(medians[name], 3),
            "min_ms": round(minima[name], 3),
            "cpu_ms": round(statistics.median(s.cpu_ms for s in rows), 3),
            "peak_rss_kib": max(s.peak_kib for s in rows),
            "median_ratio_to": _ratios(medians, name),
            "min_ratio_to": _ratios(minima, name),
        }
        for name, rows in samples.items()
    }


def table(measurement, result):
    """One measurement as text; ratios of the medians to the floor and every peer, and of the minima to the floor."""
    others = [name for name in result if not name.startswith("gantry")]
    head = ["", "median ms", "min ms", "CPU ms", "peak KiB", *(f"x {name}" for name in others), "min x floor"]
    rows = [head]
    for name, row in result.items():
        numbers = [f"{row['median_ms']:.2f}", f"{row['min_ms']:.2f}", f"{row['cpu_ms']:.2f}", str(row["peak_rss_kib"])]
        ratios = [f"{row['median_ratio_to'][other]:.2f}" for other in others]
        rows.append([name, *numbers, *ratios, f"{row['min_ratio_to']['floor']:.2f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [TITLES[measurement]]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def host():
    """What the figures depend on."""
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def headline(facts, rounds):
    """The first line of the output: on a busy host the minima, the CPU times and the ratios still say something."""
    load = facts["load"][0]
    return f"{rounds} rounds, Linux {facts['kernel']}, {facts['cpus']} CPUs, load {load} at the start\n"
