"""Results on disk: each once, in order at the end, whole whatever happens in between."""

import os
import resource
import signal

import pytest

from astro.execution.result_store import Spool, count_ids
from astro.runtime import UserError, read_jsonl, read_shards, write_jsonl
from schemas.base import Strict
from schemas.records import Problem


class Row(Strict):
    name: str
    value: int


NUMBER_OF = {f"i{n}": n for n in range(10)}


def row(number, value=0):
    return Row(name=f"i{number}", value=value)


def spool(folder, shards=3):
    opened = Spool(folder, Row, count=10, shards=shards)
    opened.load(NUMBER_OF, lambda r: r["name"])
    return opened


def fill(opened, numbers):
    for number in numbers:
        opened.add(number, row(number))


@pytest.mark.parametrize("shards", [1, 3, 10, 99])  # one, an uneven split, one per item, more than items
def test_results_are_published_in_order_whatever_order_they_came_in(tmp_path, shards):
    opened = spool(tmp_path, shards)
    fill(opened, [7, 2, 9, 0, 4, 1, 8, 3, 6, 5])
    opened.publish(tmp_path / "out")
    assert list(read_shards(tmp_path / "out", Row)) == [row(n) for n in range(10)] == list(opened)
    sizes = [len(list(read_jsonl(path, Row))) for path in sorted((tmp_path / "out").iterdir())]
    assert len(sizes) == min({1: 1, 3: 3, 10: 10, 99: 10}[shards], 10)
    assert max(sizes) == -(-10 // min(shards, 10))


def test_a_killed_run_goes_on_and_a_half_written_line_is_done_again(tmp_path):
    first = spool(tmp_path)
    fill(first, [7, 2, 3])
    first.close()
    part = tmp_path / "00000.part.jsonl"  # items 0..3
    part.write_bytes(part.read_bytes()[:-5])
    second = spool(tmp_path)
    assert second.found == 2
    assert [n for n in range(10) if n in second] == [2, 7]
    fill(second, [3, 0, 1, 4, 5, 6, 8, 9])
    second.publish(tmp_path / "out")
    assert [r.name for r in read_shards(tmp_path / "out", Row)] == list(NUMBER_OF)


def test_a_second_result_is_refused_and_one_of_before_counts_once(tmp_path):
    opened = spool(tmp_path)
    opened.add(2, row(2))
    with pytest.raises(ValueError, match="item 2 has two results"):
        opened.add(2, row(2, value=1))
    opened.close()
    part = tmp_path / "00000.part.jsonl"
    unknown = row(77).model_dump_json().encode() + b"\n"
    part.write_bytes(part.read_bytes() * 2 + unknown)
    again = spool(tmp_path)
    assert (again.found, list(again)) == (1, [row(2)])


def test_a_spoiled_line_names_file_and_line(tmp_path):
    (tmp_path / "00000.part.jsonl").write_bytes(row(0).model_dump_json().encode() + b"\n" + b'{"name": \n')
    with pytest.raises(UserError, match=r"00000\.part\.jsonl, line 2: no result"):
        spool(tmp_path)


def test_a_full_disk_leaves_whole_lines_and_names_the_file(tmp_path):
    """The limit of this process's file size stands for the disk: both end a write in the middle of a line."""
    opened = spool(tmp_path)
    fill(opened, [0, 1])
    part = tmp_path / "00000.part.jsonl"
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), part.stat().st_size
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 7, before[1]))
        with pytest.raises(OSError, match="too large") as caught:
            opened.add(2, row(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(part)
    assert part.stat().st_size == size
    opened.close()
    assert spool(tmp_path).found == 2
    opened = spool(tmp_path)
    opened.add(2, row(2))  # there is room again
    assert opened.found == 3


def test_publishing_fails_whole(tmp_path, monkeypatch):
    """What stood at the target stays, nothing half is left."""
    opened = spool(tmp_path)
    fill(opened, range(10))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.jsonl").write_text("old")

    def full(self, part):
        if part == 1:
            raise OSError(28, "No space left on device")
        return iter(())

    monkeypatch.setattr(Spool, "_lines", full)
    with pytest.raises(OSError, match="No space left"):
        opened.publish(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["old.jsonl"]
    assert sorted(os.listdir(tmp_path)) == [f"{i:05d}.part.jsonl" for i in range(3)] + ["out"]


def test_ids_are_counted_up_to_a_limit(tmp_path):
    made = [
        Problem(id=f"p{i}", domain="countdown", question="make 9 from 4 5", gold="9", level=2, chance=None)
        for i in (3, 1, 2)
    ]
    write_jsonl(tmp_path / "p.jsonl", made)
    assert count_ids(tmp_path / "p.jsonl", Problem, limit=2) == {"p3": 0, "p1": 1}
    assert count_ids(tmp_path / "p.jsonl", Problem, limit=9) == {"p3": 0, "p1": 1, "p2": 2}
