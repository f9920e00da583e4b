"""What all command line clients of the tests have in common."""

import json
import subprocess

from images import IMAGE
from terminal import Terminal

# What containers run that are there to be worked on.
SLEEP = ("sleep", "1000")


class Client:
    """One command line client: how to call it and what to expect."""

    def __init__(self, argv, env):
        self._argv, self._env = argv, env

    def command(self, verb, args):
        return [*self._argv, verb, *args]

    def attempt(self, verb, *args, stdin=None):
        """Runs one command and returns the finished process, whatever its exit status."""
        feed = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        argv = self.command(verb, args)
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=30, check=False, **feed)

    def call(self, verb, *args, status=0, stdin=None):
        """Runs one command, requires its exit status, and returns what it printed."""
        done = self.attempt(verb, *args, stdin=stdin)
        assert done.returncode == status, f"{self._argv[0]} {verb}: exit status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def on_terminal(self, verb, *args):
        return Terminal(self.command(verb, args), env=self._env)


class ContainerClient(Client):
    """A client with docker's commands for containers."""

    def inspect(self, name):
        return json.loads(self.call("inspect", "--type", "container", name))[0]

    def pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def run_detached(self, name, *args, options=()):
        """Starts a container and returns the host's pid of its init."""
        self.call("run", "-d", "--name", name, *options, IMAGE, *args)
        return self.pid(name)
