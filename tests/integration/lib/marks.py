"""Marks for known differences of other runtimes."""
import pytest


def differs_from(peer, why):
    """The test states what gantry does on purpose; skipped when that peer (name and version prefix) is under test."""
    return pytest.mark.differs_from(peer, why)


OLD = "runc 1.1.5"
