"""Clients of a real supervisor: those that follow, those that go away, and those that mean no good."""
import socket
import time

from lib import host


def connections(supervised, state="03"):
    """Clients that are connected to the supervisor's socket; 02: that wait for somebody to accept."""
    lines = [line.split() for line in host.read("/proc/net/unix").splitlines()]
    return sum(words[5] == state and words[-1] == supervised.socket for words in lines)


def test_a_follower_sees_every_line_across_supervisors_and_ends_by_itself(supervised, bundle):
    supervised.begin()
    box = bundle().sh("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); usleep 3000; done; printf end; exit 0")
    supervised.up(box).ok()
    following = supervised.runtime.spawn("logs", "-f", "--state-dir", supervised.state_dir, box.id)
    supervised.await_supervisor(supervised.kill_supervisor())
    result = supervised.runtime.finish(following).ok()
    assert result.out == "".join(f"line {i}\n" for i in range(200)) + "end"


def test_up_of_many_while_supervisors_die(supervised, bundle):
    supervised.begin()
    box = bundle().sh("sleep 60")
    box.config["linux"]["cgroupsPath"] = f"/{host.CGROUP_PARENT}/many"  # each copy gets one of its own beside it
    box.write()
    names = [f"many-{i}" for i in range(1, 31)]
    for name in names:
        supervised.runtime.track(name)
    coming = supervised.runtime.spawn("up", "--id", "many", "--count", "30", box.path)
    for _ in range(2):
        time.sleep(0.15)
        supervised.await_supervisor(supervised.kill_supervisor())
    result = supervised.runtime.finish(coming).ok()
    assert sorted(result.out.split()) == sorted(names)
    assert set(names) <= set(supervised.runtime.call("list", "-q").ok().out.split())
    supervised.rm("--force", *names).ok()


def test_a_client_that_goes_away_leaves_nothing_behind(supervised, bundle):
    supervised.begin()
    box = bundle().sh("sleep 60")
    supervised.up(box).ok()
    waiting = [supervised.runtime.spawn("wait", box.id) for _ in range(5)]
    host.eventually(lambda: connections(supervised) == 5, what="five that wait")
    for process in waiting:
        process.kill()
        process.wait()
        supervised.runtime.running.pop(process.pid)
    host.eventually(lambda: connections(supervised) == 0, what="closed connections")


def test_a_stop_goes_on_when_its_client_is_killed(supervised, bundle):
    supervised.begin()
    box = bundle().sh("trap 'sleep 0.5; exit 5' TERM; while :; do sleep 0.05; done")
    supervised.up(box, flags=["--restart", "always"]).ok()
    stopping = supervised.runtime.spawn("stop", box.id)
    host.eventually(lambda: supervised.definition(box)["stopped_by_user"], what="the stop under way")
    stopping.kill()
    stopping.wait()
    supervised.runtime.running.pop(stopping.pid)
    supervised.wait(box).ok("5\n")


def test_clients_that_mean_no_good_hurt_nobody(supervised, bundle):
    supervised.begin()
    box = bundle().sh("sleep 60")
    crowd = []
    for i in range(120):
        client = socket.socket(socket.AF_UNIX)
        client.connect(supervised.socket)
        client.setblocking(False)
        client.send([b"", b'{"method":"gantry', b"}{\0", b"\0" * 1000, b"x" * 65536][i % 5])
        crowd.append(client)
    supervised.up(box).ok(f"{box.id}\n")
    socket.send_fds(crowd[0], [b'{"method":"gantry.supervisor.Status"}\0'], [0] * 100)
    crowd[0].settimeout(5)
    assert crowd[0].recv(65536).startswith(b'{"parameters":{"version"')
    # Who asks and never reads.
    greedy = crowd[5]
    try:
        while True:
            greedy.send(b'{"method":"gantry.supervisor.List"}\0' * 1000)
    except BlockingIOError:
        pass
    supervised.runtime.call("stop", "--time", "0", box.id).ok()
    for client in crowd:
        client.close()
    host.eventually(lambda: connections(supervised) == 0, what="closed connections")
