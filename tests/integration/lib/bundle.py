"""Bundles: a busybox root file system and a config that starts from what `spec` writes."""
import copy
import itertools
import json
import os
import shutil

from . import host

APPLETS = """
    sh ash true false echo cat ls id sleep env pwd test [ mkdir rmdir rm touch ln stat readlink chmod chown mount umount
    hostname ps kill head tail wc grep sed cut sort tr stty tty dd sync date uname expr seq printf find awk cmp
    ulimit setsid yes mkfifo mknod timeout nproc df dirname basename od hexdump usleep xargs tee ip ipcs
""".split()

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

NAMESPACES = ["pid", "network", "ipc", "uts", "mount"]

_counter = itertools.count(1)


class _Drop:
    """Given as a value in an override: removes the key."""

    def __repr__(self):
        return "DROP"


DROP = _Drop()


def default_config():
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in NAMESPACES],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def merge(base, override):
    """Objects are merged key by key, everything else is replaced; DROP removes."""
    for key, value in override.items():
        if value is DROP:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)
    return base


def make_rootfs(path, programs):
    """A root file system of busybox and the test programs; the binaries are hard links into `programs`."""
    for directory in ("bin", "dev", "proc", "sys", "etc", "root", "run", "tmp", "var", "home/user", "mnt"):
        os.makedirs(f"{path}/{directory}")
    os.chmod(f"{path}/tmp", 0o1777)
    for name in os.listdir(programs):
        os.link(f"{programs}/{name}", f"{path}/bin/{name}")
    for name in APPLETS:
        os.symlink("busybox", f"{path}/bin/{name}")
    with open(f"{path}/etc/passwd", "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
    with open(f"{path}/etc/group", "w", encoding="ascii") as file:
        file.write("root:x:0:\ntty:x:5:\nuser:x:1000:\nextra:x:1234:user\n")


class Bundle:
    """A bundle directory; `config` may be changed until create, run or write()."""

    def __init__(self, directory, programs, args, sections):
        self.id = f"{host.SESSION}-{next(_counter)}"
        self.path = f"{directory}/{self.id}"
        self.rootfs = f"{self.path}/rootfs"
        os.makedirs(self.path)
        make_rootfs(self.rootfs, programs)
        self.config = default_config()
        self.config["linux"]["cgroupsPath"] = f"/{host.CGROUP_PARENT}/{self.id}"
        if args:
            self.config["process"]["args"] = list(args)
        merge(self.config, sections)
        self.stdout = f"{self.path}/stdout"
        self.stderr = f"{self.path}/stderr"

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def args(self, *args):
        self.process["args"] = list(args)
        return self

    def sh(self, script):
        return self.args("sh", "-c", script)

    def env(self, *pairs):
        self.process["env"] += pairs
        return self

    def writable(self):
        self.config["root"]["readonly"] = False
        return self

    def mount(self, destination, source=None, fstype=None, options=None, **more):
        entry = {"destination": destination, **more}
        for key, value in (("source", source), ("type", fstype), ("options", options)):
            if value is not None:
                entry[key] = value
        self.config["mounts"].append(entry)
        return self

    def without_mount(self, *destinations):
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] not in destinations]
        return self

    def namespace(self, kind, path=None):
        """Adds or changes a namespace; path None = a new one."""
        self.without_namespace(kind)
        self.linux["namespaces"].append({"type": kind, **({"path": str(path)} if path else {})})
        return self

    def without_namespace(self, *kinds):
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] not in kinds]
        return self

    def capabilities(self, *names, sets=("bounding", "effective", "permitted")):
        self.process["capabilities"] = {kind: list(names) for kind in sets}
        return self

    def add_capabilities(self, *names):
        for kind in ("bounding", "effective", "permitted"):
            self.process["capabilities"][kind] += names
        return self

    def user_namespace(self, host_id=100000, size=65536):
        """A new user namespace; the root file system gets the mapped owner."""
        self.namespace("user")
        mapping = [{"containerID": 0, "hostID": host_id, "size": size}]
        self.linux["uidMappings"] = mapping
        self.linux["gidMappings"] = copy.deepcopy(mapping)
        for directory, names, files in os.walk(self.rootfs):
            os.chown(directory, host_id, host_id)
            for name in names + files:
                path = f"{directory}/{name}"
                if os.path.islink(path) or os.stat(path).st_nlink == 1:
                    os.chown(path, host_id, host_id, follow_symlinks=False)
        return self

    def hook(self, kind, script, **more):
        """A shell hook on the host."""
        entry = {"path": "/bin/sh", "args": ["sh", "-c", script], **more}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
        return self

    def file(self, name, text="", mode=0o644):
        """Writes a file below the root file system."""
        path = f"{self.rootfs}/{name.lstrip('/')}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def write(self):
        with open(f"{self.path}/config.json", "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        return self

    def out(self):
        return host.read(self.stdout)

    def err(self):
        return host.read(self.stderr)

    def cgroup(self, controller):
        """The container's directory in a controller's hierarchy: with cgroup2 alone there is only one."""
        known = host.hierarchies()
        return f"{known[controller if controller in known else '']}{self.linux['cgroupsPath']}"

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
