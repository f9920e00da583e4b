"""Tests for a machine on which systemd is process 1: scripts/guest runs them in one of their own.

They start, stop and kill services by their real names, so they refuse to run anywhere else.
"""
import glob
import json
import os
import shutil
import subprocess
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.abspath(f"{HERE}/../..")
CONTAINERS = "/sys/fs/cgroup/system.slice/gantry-containers.service"
# The guest is 20 to 60 times slower than its host.
PATIENCE = 120


def pytest_configure(config):  # pylint: disable=unused-argument
    if not os.path.isdir("/run/systemd/system") or os.path.abspath(TREE) != "/gantry":
        pytest.exit("these tests are for the guest of scripts/guest only", 2)


def call(*command, check=True, **how):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **how)
    assert not check or done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done


def eventually(predicate, what, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.1)


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


@pytest.fixture(scope="session")
def rootfs():
    path = "/var/tmp/rootfs"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        os.makedirs(f"{path}/{name}", exist_ok=True)
    with open(f"{path}/tmp/secret", "w", encoding="ascii") as file:
        file.write("a secret\n")
    shutil.copy("/bin/busybox", f"{path}/bin/busybox")
    for name in ("sh", "cat", "sleep", "true", "echo", "dd", "head", "tail", "touch"):
        os.symlink("busybox", f"{path}/bin/{name}")
    return path


@pytest.fixture
def bundle(rootfs, tmp_path):
    """bundle("id", "script", **sections of linux): path of a bundle whose program is the script."""
    call("gantry", "spec", cwd=tmp_path)
    template = json.loads(read(tmp_path / "config.json"))

    def make(name, script, process=None, **linux):
        config = json.loads(json.dumps(template))
        config["root"] = {"path": rootfs, "readonly": True}
        config["process"].update({"terminal": False, "args": ["sh", "-c", script], **(process or {})})
        config["linux"].update(linux)
        os.makedirs(tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        return str(tmp_path / name)
    return make


@pytest.fixture(scope="session", autouse=True)
def installed():
    call(f"{TREE}/scripts/install")
    call("systemctl", "daemon-reload")


class Service:
    """gantry.service, as systemd and the kernel see it."""

    def show(self, *names):
        text = call("systemctl", "show", *[f"-p{name}" for name in names], "gantry.service").stdout
        values = dict(line.split("=", 1) for line in text.splitlines())
        return values[names[0]] if len(names) == 1 else values

    @property
    def keeper(self):
        return int(self.show("MainPID"))

    def supervisor(self):
        """Its pid, 0 while there is none."""
        for pid in read(f"/proc/{self.keeper}/task/{self.keeper}/children").split():
            if "--under-keeper" in read(f"/proc/{pid}/cmdline"):
                return int(pid)
        return 0

    def start(self):
        call("systemctl", "reset-failed", "gantry.service", "gantry.socket", "gantry-containers.service", check=False)
        call("systemctl", "start", "gantry.service")

    def settled(self, *others):
        """A supervisor that is none of the others answers."""
        def there():
            pid = self.supervisor()
            return self.show("ActiveState") == "active" and pid and pid not in others and pid
        return eventually(there, "a new supervisor")

    def up(self, name, *arguments):
        call("gantry", "up", "--id", name, *arguments)
        return self.pid(name)

    def pid(self, name):
        done = call("gantry", "state", name, check=False)
        return json.loads(done.stdout)["pid"] if done.returncode == 0 else 0

    def log(self, name):
        return call("gantry", "logs", name).stdout

    def journal(self):
        return call("journalctl", "-b", "-u", "gantry.service", "-o", "cat", "--no-pager").stdout


@pytest.fixture
def service():
    it = Service()
    it.start()
    yield it
    it.start()
    names = call("gantry", "list", "-q").stdout.split()
    if names:
        call("gantry", "rm", "--force", *names)
    call("systemctl", "stop", "gantry.service", "gantry.socket")
    left = glob.glob(f"{CONTAINERS}/[!@.]*/")
    assert not left
