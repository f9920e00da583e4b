"""Builds, without any registry, the one image that all client tests run: Debian's static busybox and a few files.

The archive is an OCI layout and a docker-archive at once, so that podman, ctr and docker load the same bytes.
"""

import hashlib
import io
import json
import pathlib
import subprocess
import tarfile

IMAGE = "localhost/gantry-box:1"
BUSYBOX = "/bin/busybox"

_ETC_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001:worker:/home/worker:/bin/sh\n",
    "etc/group": "root:x:0:\nworker:x:1001:\nextra:x:1002:worker\n",
}


def _entry(name, mode, kind=tarfile.REGTYPE, size=0, link=""):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size, entry.linkname = mode, kind, size, link
    return entry


def _add_file(tar, name, mode, data):
    tar.addfile(_entry(name, mode, size=len(data)), io.BytesIO(data))


def _layer():
    """The root file system as bytes of a tar; no times or owners in it, so that its digest is stable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "data"):
            tar.addfile(_entry(name, 0o755, tarfile.DIRTYPE))
        tar.addfile(_entry("tmp", 0o1777, tarfile.DIRTYPE))
        _add_file(tar, "bin/busybox", 0o755, pathlib.Path(BUSYBOX).read_bytes())
        for applet in subprocess.check_output([BUSYBOX, "--list"], text=True).split():
            if applet != "busybox":
                tar.addfile(_entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE, link="busybox"))
        for name, text in _ETC_FILES.items():
            _add_file(tar, name, 0o644, text.encode())
        # A program that nobody may execute: the clients turn the runtime's message into exit status 126.
        _add_file(tar, "etc/not-executable", 0o644, b"#!/bin/sh\n")
    return buffer.getvalue()


class _Archive:
    """An OCI layout under construction."""

    def __init__(self, tar):
        self._tar = tar

    def add(self, name, data):
        _add_file(self._tar, name, 0o644, data)

    def add_blob(self, data, media_type):
        """Stores data under its digest and returns the descriptor that refers to it."""
        digest = hashlib.sha256(data).hexdigest()
        self.add(f"blobs/sha256/{digest}", data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}


def _blob_path(descriptor):
    return "blobs/" + descriptor["digest"].replace(":", "/")


def build_archive(path):
    """Writes the image archive to `path`."""
    layer = _layer()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created_by": "tests/clients/images.py"}],
    }
    with tarfile.open(path, "w") as tar:
        archive = _Archive(tar)
        archive.add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        layer_blob = archive.add_blob(layer, "layer.v1.tar")
        config_blob = archive.add_blob(json.dumps(config).encode(), "config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config_blob,
            "layers": [layer_blob],
        }
        manifest_blob = archive.add_blob(json.dumps(manifest).encode(), "manifest.v1+json")
        manifest_blob["annotations"] = {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": IMAGE}
        archive.add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest_blob]}).encode())
        docker = [{"Config": _blob_path(config_blob), "RepoTags": [IMAGE], "Layers": [_blob_path(layer_blob)]}]
        archive.add("manifest.json", json.dumps(docker).encode())
