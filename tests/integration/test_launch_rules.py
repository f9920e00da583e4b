"""The rules of the launch (design: "Rules of the launch"), each one a case of the program launch_rules, which drives
gantry-init with hand-made Plans and without the engine."""
import glob
import os
import shutil
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def find_program():
    """$GANTRY_LAUNCH_RULES, or the newest build."""
    given = os.environ.get("GANTRY_LAUNCH_RULES")
    if given:
        return os.path.abspath(given)
    built = glob.glob(f"{HERE}/../../build/*/tests/integration/launch_rules")
    return os.path.abspath(max(built, key=os.path.getmtime)) if built else None


PROGRAM = find_program()
CASES = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True).stdout.split() if PROGRAM else []


@pytest.fixture
def rules_rootfs(tmp_path):
    """A busybox rootfs of its own for each case: some fill it with links."""
    rootfs = tmp_path / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "root"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    shutil.copy(os.path.join(os.path.dirname(PROGRAM), "fdexit"), rootfs / "bin/fdexit")
    applets = "sh true cat ls id mount sleep env stat echo readlink pwd mkdir touch wc grep head tty stty"
    for applet in applets.split():
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    # A user namespace's root must be able to walk here.
    for path in [tmp_path, *tmp_path.parents]:
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    return rootfs


def test_program_is_built():
    assert PROGRAM, "launch_rules is missing: build the dev preset, or name it in GANTRY_LAUNCH_RULES"


@pytest.mark.parametrize("case", CASES)
def test_rule(case, rules_rootfs):
    null = os.stat("/dev/null")
    done = subprocess.run([PROGRAM, case, rules_rootfs], capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_rdev) == (null.st_mode, null.st_uid, null.st_gid, null.st_rdev)
