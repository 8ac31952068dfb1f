"""Results on disk: each once, in the order that is asked for, whole whatever happens in between."""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from astro.execution.result_store import FILE, ResultStore, write_shards
from astro.files import read_jsonl, read_shards
from astro.process import UserError
from benchmarks.world import stored
from schemas.strict import Strict

IDS = [f"i{n}" for n in range(10)]


class Row(Strict):
    name: str
    value: int


def row(number, value=0):
    return Row(name=f"i{number}", value=value)


def opened(folder):
    return contextlib.closing(ResultStore(folder / FILE, Row))


def fill(store, numbers):
    for number in numbers:
        store.add(f"i{number}", row(number))


@pytest.fixture
def filled(tmp_path):
    """A closed store with some thousand results: several pages."""
    with opened(tmp_path) as store:
        for number in range(3000):
            store.add(f"i{number}", row(number))
    return tmp_path / FILE


def test_results_come_back_in_the_order_that_is_asked_for(tmp_path):
    with opened(tmp_path) as store:
        fill(store, [7, 2, 9])
        assert (len(store), "i2" in store, "i3" in store) == (3, True, False)
        assert [store[i] for i in ("i2", "i7", "i9")] == [row(2), row(7), row(9)]
        assert list(store.lines(["i9", "unknown", "i2"])) == [b'{"name":"i9","value":0}', b'{"name":"i2","value":0}']
        with pytest.raises(KeyError, match="i3"):
            store["i3"]


def test_a_second_result_is_refused(tmp_path):
    with opened(tmp_path) as store:
        store.add("i2", row(2))
        with pytest.raises(ValueError, match="item 'i2' has two results"):
            store.add("i2", row(2, value=1))
        assert (len(store), store["i2"]) == (1, row(2))


@pytest.mark.parametrize("shards", [1, 3, 10, 99])  # one, an uneven split, one per item, more than items
def test_shards_hold_the_results_in_order_and_the_same_number_each(tmp_path, shards):
    with opened(tmp_path) as store:
        fill(store, [7, 2, 9, 0, 4, 1, 8, 3, 6, 5])
        write_shards(tmp_path / "out", store.lines(IDS), count=10, shards=shards)
    assert list(read_shards(tmp_path / "out", Row)) == [row(n) for n in range(10)]
    sizes = [len(list(read_jsonl(path, Row))) for path in sorted((tmp_path / "out").iterdir())]
    assert sizes == {1: [10], 3: [4, 4, 2], 10: [1] * 10, 99: [1] * 10}[shards]


def test_publishing_fails_whole(tmp_path):
    """What stood at the target stays, nothing half is left."""

    def full():
        yield b"{}"
        raise OSError(28, "No space left on device")

    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.jsonl").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_shards(tmp_path / "out", full(), count=10, shards=3)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["old.jsonl"]
    assert os.listdir(tmp_path) == ["out"]


ADDING = """
    import os, signal, sys
    from pathlib import Path
    from astro.execution.result_store import ResultStore
    from tests.execution.test_result_store import Row
    store = ResultStore(Path(sys.argv[1]), Row)
    for number in range(1000):
        store.add(f"i{number}", Row(name=f"i{number}", value=0))
        if number == 700:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_added_survives_a_kill(tmp_path):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(ADDING), str(tmp_path / FILE)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert stored(tmp_path / FILE) == 701
    with opened(tmp_path) as store:
        assert (len(store), store["i700"]) == (701, row(700))
        store.add("i701", row(701))


def test_another_process_is_refused_while_one_has_it_open(tmp_path):
    with opened(tmp_path) as store:
        store.add("i0", row(0))
        reading = ADDING.replace("range(1000)", "range(1)")
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(reading), str(tmp_path / FILE)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "UserError" in done.stderr
        assert done.stderr.strip().endswith(
            f"{tmp_path / FILE}: another process has this result store open; wait for it, or stop it"
        )
        assert stored(tmp_path / FILE) == 1  # a copy can be read


def cut(path):
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def older(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")


def newer(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")


def spoil(path):
    """Every page but the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


# what became of the file, message
DAMAGES = [
    (cut, r"damaged result store \(.*malformed\); .* remove it"),
    (older, r"result store of format 0, but this version reads format 1; .* remove it"),
    (newer, r"result store of format 2, but this version reads format 1; .* remove it"),
    (lambda path: path.write_text('{"name": "i1", "value": 0}\n' * 100), r"damaged result store \(.*not a database\)"),
    (spoil, r"damaged result store \(.*malformed\); .* remove it"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_file_that_is_no_whole_store_of_this_format_is_told(filled, damage, said):
    damage(filled)
    with pytest.raises(UserError, match=said) as caught:
        ResultStore(filled, Row)
    assert str(caught.value).startswith(f"{filled}: ")
    assert "\n" not in str(caught.value)


def test_a_record_of_another_shape_names_the_result(tmp_path):
    class Other(Strict):
        id: str

    with opened(tmp_path) as store:
        store.add("i1", row(1))
    with (
        contextlib.closing(ResultStore(tmp_path / FILE, Other)) as store,
        pytest.raises(UserError, match="result 'i1'"),
    ):
        store["i1"]


def test_a_log_that_was_cut_costs_its_last_results_only(tmp_path):
    """A power cut may leave half of what was written last: those items are done again."""
    with opened(tmp_path) as store:
        fill(store, range(10))
        folder = tmp_path / "copy"
        folder.mkdir()
        for file in tmp_path.glob(f"{FILE}*"):
            shutil.copy(file, folder)
    log = folder / f"{FILE}-wal"
    with log.open("rb+") as file:
        file.truncate(log.stat().st_size - 100)
    with opened(folder) as store:
        assert len(store) == 9


def test_a_full_disk_leaves_what_was_there_and_names_the_file(tmp_path):
    """The limit of this process's file size stands for the disk: both end a write in the middle."""
    with opened(tmp_path) as store:
        fill(store, [0, 1])
        log = tmp_path / f"{FILE}-wal"
        before, size = resource.getrlimit(resource.RLIMIT_FSIZE), log.stat().st_size
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
            with pytest.raises(OSError, match=r"disk|space") as caught:
                store.add("i2", row(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert caught.value.filename == str(tmp_path / FILE)
        assert [store[f"i{n}"] for n in (0, 1)] == [row(0), row(1)]
        store.add("i2", row(2))  # there is room again
    with opened(tmp_path) as store:
        assert len(store) == 3


def test_a_full_disk_is_called_so(tmp_path):
    """A store may have no more pages: what sqlite says of a disk without space."""
    with opened(tmp_path) as store:
        store._db.execute("PRAGMA max_page_count = 4")
        with pytest.raises(OSError, match="No space left on device") as caught:
            fill(store, range(10_000))
        assert caught.value.filename == str(tmp_path / FILE)
        assert 100 < len(store) < 10_000
