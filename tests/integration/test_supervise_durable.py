"""What must outlive a power cut: the definitions of containers that are started again."""
import os
import signal

import pytest

from lib import host

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def always(supervised, bundle):
    """A container that is started again whenever it ends, and ignores what asks it to."""
    supervised.begin()
    box = bundle().sh("trap '' TERM; while :; do sleep 0.05; done")
    supervised.up(box, flags=("--restart", "always")).ok()
    yield box
    if supervised.process is not None:
        supervised.rm("-f", box).ok()


def is_flushed(supervised, box):
    """A definition that is on the disk has a second name."""
    path = f"{supervised.state_dir}/{box.id}"
    try:
        return os.stat(f"{path}/definition.json").st_ino == os.stat(f"{path}/.definition.json.flushed").st_ino
    except FileNotFoundError:
        return False


def kill_both(supervised):
    supervisor = supervised.supervisor()
    for pid in (supervised.keeper, supervisor):
        os.kill(pid, signal.SIGKILL)
    supervised.process.wait()
    host.eventually(lambda: not os.path.exists(f"/proc/{supervisor}"), what="the end of the supervisor")


def test_what_up_has_answered_for_is_on_the_disk(supervised, always):
    assert is_flushed(supervised, always)


def test_each_end_and_restart_is_flushed(supervised, always):
    for restarts in (1, 2):
        host.eventually(lambda: supervised.runtime.status(always) == "running", what="a run")
        os.kill(supervised.runtime.state(always)["pid"], signal.SIGKILL)
        host.eventually(lambda: supervised.definition(always)["restarts"] == restarts, what="a restart")
        host.eventually(lambda: is_flushed(supervised, always), what="a flush")


def test_a_mark_by_kill_is_flushed(supervised, always):
    supervised.runtime.kill(always, "TERM").ok()
    assert supervised.definition(always)["stopped_by_user"] and is_flushed(supervised, always)


def test_a_mark_without_a_supervisor_is_flushed(supervised, always):
    kill_both(supervised)
    supervised.runtime.kill(always, "TERM").ok()
    assert supervised.definition(always)["stopped_by_user"] and is_flushed(supervised, always)
    supervised.begin()


def test_containers_that_are_not_started_again_cost_no_flush(supervised, bundle):
    supervised.begin()
    box = bundle().sh("true")
    supervised.up(box).ok()
    supervised.wait(box)
    assert not is_flushed(supervised, box)
    supervised.rm(box).ok()
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")


@pytest.mark.parametrize("boot, runs", [(OTHER_BOOT, True), (None, False)], ids=["power-cut", "same-boot"])
def test_an_empty_definition_after_a_power_cut(supervised, always, boot, runs):
    pid = supervised.runtime.state(always)["pid"]
    kill_both(supervised)
    path = f"{supervised.state_dir}/{always.id}"
    flushed = host.read(f"{path}/.definition.json.flushed")
    this_boot = host.read("/proc/sys/kernel/random/boot_id").strip()
    os.kill(pid, signal.SIGKILL)
    host.eventually(lambda: not os.path.exists(f"/proc/{pid}"), what="the end")
    for name, text in (("definition.json", ""), (".definition.json.flushed", flushed)):
        os.unlink(f"{path}/{name}")
        with open(f"{path}/{name}", "w", encoding="utf-8") as file:
            file.write(text.replace(this_boot, boot or this_boot))
    supervised.begin()
    listed = [entry["id"] for entry in supervised.listing()]
    assert listed == ([always.id] if runs else [])
    if runs:
        host.eventually(lambda: supervised.runtime.status(always) == "running", what="a start")
        assert supervised.definition(always)["run"] == 2
    else:
        assert f"definition.json of {always.id} is damaged" in host.read(supervised.errors)
