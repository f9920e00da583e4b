"""Test programs that are built together with the program under test."""
import glob
import os

import pytest

from conftest import HERE, PROGRAM


def built(path):
    """built("seam/foster"): the newest of what the build directories have; that of the program under test first."""
    beside = f"{os.path.dirname(PROGRAM)}/tests/integration/{path}"
    if os.access(beside, os.X_OK):
        return beside
    found = sorted(glob.glob(f"{HERE}/../../build/*/tests/integration/{path}"), key=os.path.getmtime)
    if not found:
        name = os.path.basename(path)
        pytest.fail(f"{name} is not built: cmake --preset dev && cmake --build --preset dev --target {name}")
    return os.path.abspath(found[-1])
