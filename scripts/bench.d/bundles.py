"""The two bundles that are measured: runc's default config, and one as podman writes it."""

import json
import os
import pathlib
import shutil
import subprocess

BUSYBOX = "/bin/busybox"
SECCOMP_PROFILE = pathlib.Path("/usr/share/containers/seccomp.json")

_PODMAN_CAPABILITIES = [
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
    ).split()
]
_DEFAULT_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def make_rootfs(path):
    """Fills `path` with Debian's busybox and the directories that the mounts need."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        os.makedirs(path / name)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in subprocess.check_output([BUSYBOX, "--list"], text=True).split():
        if applet != "busybox":
            os.symlink("busybox", path / "bin" / applet)


def _mount(target, kind, source, *options):
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _mounts():
    bare = ("nosuid", "noexec", "nodev")
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *bare[:2], "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/dev/shm", "tmpfs", "shm", *bare, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *bare),
        _mount("/sys", "sysfs", "sysfs", *bare, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *bare, "relatime", "ro"),
    ]


def default_config(rootfs, cgroup, args, is_v2):
    """What `runc spec` writes, with another program, no terminal and an explicit cgroup."""
    kinds = ["pid", "network", "ipc", "uts", "mount"] + (["cgroup"] if is_v2 else [])
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: _DEFAULT_CAPABILITIES for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "hostname": "runc",
        "mounts": _mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }


def podman_config(rootfs, cgroup, args, is_v2):
    """The default config with what podman adds: its capabilities, limits and default seccomp profile."""
    config = default_config(rootfs, cgroup, args, is_v2)
    config["root"]["readonly"] = False
    process = config["process"]
    process["capabilities"] = {kind: _PODMAN_CAPABILITIES for kind in ("bounding", "effective", "permitted")}
    process["noNewPrivileges"] = False
    resources = config["linux"]["resources"]
    resources["memory"] = {"limit": 512 << 20, "swap": 1 << 30}
    # As much as two CPUs give: a limit that is written but does not slow down what is measured.
    resources["cpu"] = {"shares": 512, "quota": 200000, "period": 100000}
    resources["pids"] = {"limit": 2048}
    config["linux"]["seccomp"] = _seccomp(_PODMAN_CAPABILITIES)
    return config


def _seccomp(capabilities):
    """The profile of containers-common as the linux.seccomp that podman makes of it on amd64."""
    profile = json.loads(SECCOMP_PROFILE.read_text())

    def applies(rule):
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        return (
            set(wanted.get("caps") or []) <= set(capabilities)
            and "amd64" in (wanted.get("arches") or ["amd64"])
            and not set(unwanted.get("caps") or []) & set(capabilities)
            and "amd64" not in (unwanted.get("arches") or [])
        )

    def converted(rule):
        kept = {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key) not in (None, [])}
        for argument in kept.get("args", []):
            argument.setdefault("valueTwo", 0)
        return kept

    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [converted(rule) for rule in profile["syscalls"] if applies(rule)],
    }


def write_bundle(path, config):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
