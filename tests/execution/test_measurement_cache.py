"""Measurements that outlive their run: made once, read again, shared, and not without end."""

import os
import threading

import pytest

from astro.execution import measurement_cache
from astro.execution.measurement_cache import prune, shared_store
from astro.execution.result_store import FILE
from schemas.records import Rollout

ONE = Rollout(answer="24", verdict="correct", tokens=7)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_what_was_measured_is_there_for_the_next_one():
    with shared_store("eval", "a", Rollout) as store:
        store.add("p1", ONE)
    with shared_store("eval", "a", Rollout) as store:
        assert store["p1"] == ONE
    with shared_store("eval", "b", Rollout) as store:  # asked in another way
        assert "p1" not in store


def test_the_second_of_two_waits_for_the_first(capsys, monkeypatch):
    monkeypatch.setattr(measurement_cache, "POLL_S", 0.01)
    begun, told, found = threading.Event(), threading.Event(), []

    def slowly():
        with shared_store("eval", "a", Rollout) as store:
            begun.set()
            told.wait(10)
            store.add("p1", ONE)

    def then():
        with shared_store("eval", "a", Rollout) as store:
            found.append(store["p1"])

    monkeypatch.setattr(measurement_cache.time, "sleep", lambda _: told.set())  # it waits: the first may end
    first, second = threading.Thread(target=slowly), threading.Thread(target=then)
    first.start()
    begun.wait(10)
    second.start()
    first.join()
    second.join()
    assert found == [ONE]
    assert capsys.readouterr().out.count("waiting") == 1


def test_those_used_last_stay(here):
    for age, key in enumerate("abcd"):
        with shared_store("eval", key, Rollout) as store:
            store.add("p1", ONE)
        os.utime(here / "work/eval" / key / FILE, (1000 + age, 1000 + age))
    with shared_store("eval", "a", Rollout):  # the oldest, used again
        pass
    assert prune("eval", here, keep=2) == 2
    assert sorted(p.parent.name for p in here.glob(f"work/eval/*/{FILE}")) == ["a", "d"]
    assert prune("eval", here, keep=2) == 0
