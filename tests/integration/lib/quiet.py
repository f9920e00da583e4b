"""Silences: what containers write, how soon the supervisor answers, and what the host itself lets a process do."""
import os
import subprocess
import threading
import time

from .supervised import Api

# Nobody may be silent for longer ...
GAP_NS = 100_000_000
# ... while processes that have nothing to do with it, and write every 20 ms, are not silent for as long as this.
QUIET_NS = 50_000_000
TRIES = 5


def longest_gap(times):
    return max((b - a for a, b in zip(times, times[1:])), default=0)


class Ticker(threading.Thread):
    """Does something every few milliseconds and remembers when."""

    def __init__(self, period=0.01):
        super().__init__(daemon=True)
        self.period, self.over, self.longest, self.error = period, threading.Event(), 0, None

    def tick(self):
        pass

    def run(self):
        try:
            while not self.over.is_set():
                begun = time.monotonic_ns()
                self.tick()
                self.longest = max(self.longest, time.monotonic_ns() - begun)
                time.sleep(self.period)
        except OSError as error:
            self.error = error

    def stop(self):
        self.over.set()
        self.join(15)


class Asker(Ticker):
    """Asks the supervisor who it is, again and again: `longest` is how long its loop was busy with something else."""

    def __init__(self, path):
        super().__init__()
        self.api = Api(path)

    def tick(self):
        assert self.api.call("Status")["parameters"]["supervisor_pid"]


class Sleeper(Ticker):
    """What a thread of this process suffers without any supervisor: `longest` is about zero on a quiet host."""

    def tick(self):
        time.sleep(0.005)


class Controls:
    """Heartbeats of processes outside of everything."""

    def __init__(self, beat, work, count=4):
        self.paths = [f"{work}/control-{number}" for number in range(count)]
        self.processes = []
        for path in self.paths:
            open(path, "wb").close()
            self.processes.append(subprocess.Popen([beat, path, "20"]))

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def longest(self, since, until):
        return max(longest_gap(stamps(path, 0, since, until)[1]) for path in self.paths)


def stamps(path, offset, since, until):
    """Numbers and times of the heartbeats in a file, in the form of a log or bare."""
    numbers, times = [], []
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file.read().split(b"\n")[:-1]:
            words = line.split(b" ")
            if len(words) < 2:
                continue
            stamp = int(words[-1])
            if since <= stamp <= until:
                numbers.append(int(words[-2]))
                times.append(stamp)
    return numbers, times


class Watch:
    """`with Watch(...) as seen:` then seen.longest() and, for a judgement, seen.noise."""

    def __init__(self, socket, logs, controls, at_least=0.5, slower=1):
        """`slower`: so much of the time that the supervisor takes to answer is its tracer's."""
        self.socket, self.logs, self.controls, self.at_least, self.slower = socket, logs, controls, at_least, slower
        self.gaps, self.noise = {}, 0

    def __enter__(self):
        self.offsets = {path: os.path.getsize(path) for path in self.logs}
        self.asker, self.sleeper = Asker(self.socket), Sleeper()
        self.asker.start()
        self.sleeper.start()
        self.since = time.monotonic_ns()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            time.sleep(max(0.0, self.at_least - (time.monotonic_ns() - self.since) / 1e9))
        until = time.monotonic_ns()
        self.asker.stop()
        self.sleeper.stop()
        self.asker.api.socket.close()
        if kind is not None:
            return
        assert self.asker.error is None and not self.asker.is_alive(), f"the supervisor: {self.asker.error}"
        self.gaps["the supervisor's answer"] = self.asker.longest // self.slower
        for path, offset in self.offsets.items():
            numbers, times = self.heard(path, offset, until)
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{path}: lines are missing"
            self.gaps[path] = longest_gap([self.since, *times, until])
        self.noise = max(self.controls.longest(self.since, until), self.sleeper.longest)

    def heard(self, path, offset, until):
        """The heartbeats of the time; the last ones may still be on their way into the log."""
        deadline = time.monotonic() + 5
        while not stamps(path, offset, until, 1 << 63)[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        return stamps(path, offset, self.since, until)

    def __str__(self):
        worst = max(self.gaps, key=self.gaps.get)
        return f"longest silence {self.gaps[worst] / 1e6:.0f} ms ({worst}), the host's own {self.noise / 1e6:.0f} ms"

    def longest(self):
        return max(self.gaps.values())
