"""The runtime under test: every call has a deadline, an own --root and captured output."""
import itertools
import json
import os
import re
import select
import signal
import subprocess
import time

from . import host

_LOG_LINE = re.compile(r'time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)')


class Result:
    """What one call gave: exit status as a shell sees it, output, time."""

    def __init__(self, argv, code, out, err, seconds):
        self.argv, self.code, self.out, self.err, self.seconds = argv, code, out, err, seconds

    def __repr__(self):
        return f"{' '.join(self.argv)}\n  exit {self.code}\n  out {self.out!r}\n  err {self.err!r}"

    def logs(self, level):
        return [json.loads(text) if text.startswith('"') else text
                for found, text in _LOG_LINE.findall(self.err) if found == level]

    @property
    def message(self):
        """The error text without the log decoration."""
        errors = self.logs("error")
        if errors:
            return errors[-1]
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def warnings(self):
        return self.logs("warning")

    def ok(self, out=None):
        assert self.code == 0, self
        if out is not None:
            assert self.out == out, self
        return self

    def fails(self, *texts, code=1):
        """The call failed with this status and one error line that holds all texts."""
        assert self.code == code, self
        assert self.err.strip(), f"no error text: {self}"
        for text in texts:
            assert text in self.message, f"{text!r} not in {self.message!r}\n{self}"
        return self

    def one_line(self):
        """Exactly one line on stderr, warnings aside."""
        lines = [line for line in self.err.splitlines() if line.strip() and "level=warning" not in line]
        assert len(lines) == 1, self
        return self


class Runtime:
    """Calls the program; knows every id it was given, so that nothing is left behind."""

    def __init__(self, program, root, workdir, prefix=()):
        self.program = program
        self.name = os.path.basename(program)
        self.root = root
        self.workdir = workdir
        self.prefix = list(prefix)
        self.peer = ""
        self.ids = {}
        self.running = {}
        self._counter = itertools.count(1)

    def in_view(self, prefix):
        """The same runtime, started through a wrapper command (another mount namespace, say)."""
        other = Runtime(self.program, self.root, self.workdir, prefix)
        other.ids, other.running, other.peer = self.ids, self.running, self.peer
        other._counter = self._counter
        return other

    # -- plumbing

    def spawn(self, *args, stdin=None, stdout=None, stderr=None, globals=(), env=None, program=None, **popen):
        """Starts the program without waiting. Output goes to files: a container may hold its stdio for long."""
        argv = [*self.prefix, program or self.program, "--root", self.root, *map(str, globals), *map(str, args)]
        base = f"{self.workdir}/{next(self._counter)}"
        files = []

        def target(given, suffix, mode):
            if given is not None:
                return given
            file = open(f"{base}.{suffix}", mode)
            files.append(file)
            return file
        out, err = target(stdout, "out", "w+b"), target(stderr, "err", "w+b")
        open(f"{base}.in", "wb").close()
        if isinstance(stdin, (str, bytes)):
            with open(f"{base}.in", "wb") as file:
                file.write(stdin.encode() if isinstance(stdin, str) else stdin)
            stdin = None
        # Not /dev/null: old peers chown it to the container's user.
        process = subprocess.Popen(argv, stdin=target(stdin, "in", "rb"), stdout=out, stderr=err,
                                   env=self.environment(env), **popen)
        for file in files:
            file.close()
        process.started = time.monotonic()
        process.out_path = None if stdout is not None else f"{base}.out"
        process.err_path = None if stderr is not None else f"{base}.err"
        self.running[process.pid] = process
        return process

    @staticmethod
    def environment(extra):
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        env.update(extra or {})
        return env

    def finish(self, process, timeout=20.0):
        """Waits for a spawned call. A call that hangs is killed and fails the test."""
        pidfd = os.pidfd_open(process.pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            deadline = process.started + timeout
            while not poller.poll(20) and time.monotonic() < deadline:
                host.reap_containers()
            if not poller.poll(0):
                process.kill()
                process.wait()
                self.running.pop(process.pid, None)
                raise AssertionError(f"no end after {timeout} s: {process.args}")
        finally:
            os.close(pidfd)
        code = process.wait()
        seconds = time.monotonic() - process.started
        self.running.pop(process.pid, None)
        out = host.read(process.out_path) if process.out_path else ""
        err = host.read(process.err_path) if process.err_path else ""
        return Result(list(process.args), code if code >= 0 else 128 - code, out, err, seconds)

    def call(self, *args, timeout=20.0, **spawn):
        return self.finish(self.spawn(*args, **spawn), timeout)

    # -- verbs

    def track(self, container):
        self.ids.setdefault(container, self)

    def create(self, bundle, *flags, id=None, **spawn):
        """create; the container's output goes to bundle.stdout and bundle.stderr unless given."""
        bundle.write()
        self.track(id or bundle.id)
        if "stdout" not in spawn:
            with open(bundle.stdout, "wb") as out, open(bundle.stderr, "wb") as err:
                result = self.call("create", "--bundle", bundle.path, *flags, id or bundle.id,
                                   stdout=out, stderr=err, **spawn)
            result.err = bundle.err()
            return result
        return self.call("create", "--bundle", bundle.path, *flags, id or bundle.id, **spawn)

    def start(self, container, **spawn):
        return self.call("start", _id(container), **spawn)

    def run(self, bundle, *flags, id=None, **spawn):
        bundle.write()
        self.track(id or bundle.id)
        return self.call("run", "--bundle", bundle.path, *flags, id or bundle.id, **spawn)

    def spawn_run(self, bundle, *flags, id=None, **spawn):
        bundle.write()
        self.track(id or bundle.id)
        return self.spawn("run", "--bundle", bundle.path, *flags, id or bundle.id, **spawn)

    def up(self, bundle, *flags, **spawn):
        """create and start; returns init's pid."""
        self.create(bundle, *flags, **spawn).ok()
        pid = self.state(bundle)["pid"]
        self.start(bundle).ok()
        return pid

    def idle(self, bundle, *flags, **spawn):
        """A container whose program says "ready" and then waits for signals; returns its pid."""
        bundle.args("/bin/probe", "idle")
        pid = self.up(bundle, *flags, **spawn)
        host.eventually(lambda: "ready" in bundle.out(), what="idle program")
        return pid

    def exec(self, container, *words, **spawn):
        """words: flags, then "--" is put before the command when given as a list in the last word."""
        return self.call("exec", *words[:-1], _id(container), *_words(words[-1:]), **spawn)

    def state(self, container, **spawn):
        return json.loads(self.call("state", _id(container), **spawn).ok().out)

    def status(self, container):
        return self.state(container)["status"]

    def kill(self, container, signo="KILL", **spawn):
        return self.call("kill", _id(container), signo, **spawn)

    def delete(self, container, *flags, **spawn):
        return self.call("delete", *flags, _id(container), **spawn)

    def wait_stopped(self, container, timeout=8.0):
        host.eventually(lambda: self.status(container) == "stopped", timeout, "status stopped")

    def stop(self, container):
        """SIGKILL, wait, delete."""
        self.kill(container).ok()
        self.wait_stopped(container)
        self.delete(container).ok()

    def probe(self, bundle, *flags, **spawn):
        """Runs the in-container probe and returns what it saw."""
        result = self.run(bundle.args("/bin/probe"), *flags, **spawn).ok()
        return json.loads(result.out)

    def exec_probe(self, container, *flags, **spawn):
        return json.loads(self.exec(container, *flags, ["/bin/probe"], **spawn).ok().out)

    def cleanup(self):
        """Ends calls that still run, then delete --force of every id ever used; returns what did not work."""
        problems = []
        for process in list(self.running.values()):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.running.clear()
        for container, view in self.ids.items():
            if os.path.exists(f"{self.root}/{container}"):
                result = view.call("delete", "--force", "--", container, timeout=20)
                if result.code:
                    problems.append(f"delete --force: {result.message}")
        self.ids.clear()
        return problems


def _id(container):
    return container if isinstance(container, str) else container.id


def _words(words):
    return words[0] if words and isinstance(words[0], (list, tuple)) else words
