"""Who takes part: the floor, and any runtime with runc's command line. Each says which steps a measurement takes."""

import contextlib
import subprocess

import bundles

TRUE = "/bin/true"
SLEEP = ["/bin/sleep", "1000000"]
_CONFIGS = {"plain": bundles.default_config, "podman": bundles.podman_config}


class Runtime:
    """gantry or a peer, in a state directory and cgroups of its own."""

    def __init__(self, name, path, arena):
        self.name = name
        self._path, self._arena = str(path), arena
        self._id = "".join(c if c.isalnum() else "-" for c in name).strip("-")
        self._root = arena.state / self._id

    def _call(self, verb, *args):
        return ["run", [self._path, "--root", str(self._root), verb, *map(str, args)]]

    def _bundle(self, kind, args=(TRUE,)):
        container = f"{self._id}-{kind}-{args[0].rsplit('/', 1)[-1]}"
        path = self._arena.directory / "bundles" / container
        if not path.exists():
            cgroup = f"{self._arena.cgroup}/{container}"
            config = _CONFIGS[kind](self._arena.rootfs, cgroup, list(args), self._arena.is_v2)
            bundles.write_bundle(path, config)
        return path, container

    def run(self, kind="plain"):
        path, container = self._bundle(kind)
        return [self._call("run", "--bundle", path, container)]

    def podman(self):
        return self.run("podman")

    def csd(self):
        """create, start, the program's end, delete: what an engine such as conmon or a shim does."""
        path, container = self._bundle("plain")
        create = self._call("create", "--bundle", path, container)
        return [create, self._call("start", container), ["drain"], self._call("delete", container)]

    def version(self):
        return [["run", [self._path, "--version"]]]

    @contextlib.contextmanager
    def sleeper(self):
        """Keeps a container of this runtime alive and gives the steps of an exec into it."""
        path, container = self._bundle("plain", SLEEP)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        try:
            subprocess.run(self._call("run", "--detach", "--bundle", path, container)[1], check=True, **quiet)
            yield [self._call("exec", container, TRUE)]
        finally:
            subprocess.run(self._call("delete", "--force", container)[1], check=False, **quiet)


class Floor:
    """The floor programs: the same kernel work without a runtime."""

    name = "floor"

    def __init__(self, programs, arena):
        self._programs, self._arena = programs, arena
        self._hierarchies = ":".join(arena.hierarchies)

    def _run(self, cgroup, program, *options):
        argv = [self._programs / "run_floor", *options, self._hierarchies, f"{self._arena.cgroup}/{cgroup}"]
        return [*map(str, argv), str(self._arena.rootfs), *program]

    def run(self):
        return [["run", self._run("floor", [TRUE])]]

    # The extras of the podman-style bundle are what a runtime is compared with the plain floor for.
    podman = run
    # The kernel's work is that of run: a runtime's further processes and its state are its own cost.
    csd = run

    def version(self):
        """A static program that prints a line."""
        return [["run", [str(self._programs / "hello")]]]

    @contextlib.contextmanager
    def sleeper(self):
        process = subprocess.Popen(self._run("floor-sleep", SLEEP, "-p"), stdout=subprocess.PIPE, text=True)
        pid = int(process.stdout.readline())
        try:
            exec_floor = [str(self._programs / "exec_floor"), self._hierarchies, f"{self._arena.cgroup}/floor-sleep"]
            yield [["run", [*exec_floor, str(pid), TRUE]]]
        finally:
            # Only the program is killed: run_floor then removes its cgroups.
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
            process.wait()
