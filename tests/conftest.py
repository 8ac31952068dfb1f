"""Settings of all tests."""

import os

import pytest

# Waiting OpenMP threads that spin would starve the processes that the tests start. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

PIPELINE = {"smoke", "clone"}
"""Fixtures that cost minutes, once in a process."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests file by file; all that need the finished smoke pipeline stay in one, which begins with it."""
    shared = [item for item in items if PIPELINE & set(getattr(item, "fixturenames", ()))]
    others = [item for item in items if item not in set(shared)]
    for item in shared:
        item.add_marker(pytest.mark.xdist_group("smoke"))
    for item in others:
        shares_a_run = "finished" in getattr(item, "fixturenames", ())  # of the folder, made in half a minute
        item.add_marker(pytest.mark.xdist_group((item.path.parent if shares_a_run else item.path).as_posix()))
    items[:] = [*shared, *sorted(others, key=lambda item: item.get_closest_marker("slow") is None)]
