"""The short form of benchmarks/kill_soak.py: the driver of a cluster of its own is killed in the middle."""

import pytest

from benchmarks import kill_soak

pytestmark = pytest.mark.slow


def test_after_a_kill_of_the_driver_all_trees_are_there_each_once_and_nobody_is_left(capsys):
    """Else `soak` raises: it compares the shards with those of a run without a kill, and looks for processes."""
    kill_soak.soak(["driver"], moments=1, seed=3)
    assert "same trees" in capsys.readouterr().out
