"""Measurements that outlive their run: made once, read again, shared, and not without end."""

import os
import threading
import time

import pytest

from astro.evaluation.kept import RECORDS, measured, prune
from schemas.records import Rollout

ONE = [Rollout(answer="24", verdict="correct", tokens=7)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def never():
    raise AssertionError("was to be read")


def test_what_was_measured_is_not_measured_again():
    assert measured("eval", "a", Rollout, lambda: ONE) == ONE
    assert measured("eval", "a", Rollout, never) == ONE
    with pytest.raises(AssertionError, match="was to be read"):
        measured("eval", "b", Rollout, never)
    assert measured("eval", "b", Rollout, lambda: []) == []  # what failed left nothing behind


def test_the_second_of_two_waits_for_the_first(capsys):
    begun, found = threading.Event(), []

    def slowly():
        begun.set()
        time.sleep(0.5)
        return ONE

    first = threading.Thread(target=lambda: measured("eval", "a", Rollout, slowly))
    first.start()
    begun.wait(10)
    found = measured("eval", "a", Rollout, never)
    first.join()
    assert found == ONE
    assert capsys.readouterr().out.count("waiting") == 1


def test_those_used_last_stay(here):
    for age, key in enumerate("abcd"):
        measured("eval", key, Rollout, lambda: ONE)
        os.utime(here / "work/eval" / key / RECORDS, (1000 + age, 1000 + age))
    measured("eval", "a", Rollout, never)  # the oldest, used again
    assert prune("eval", here, keep=2) == 2
    assert sorted(p.parent.name for p in here.glob(f"work/eval/*/{RECORDS}")) == ["a", "d"]
    assert prune("eval", here, keep=2) == 0
