"""Files: whole writes or none, errors that name the place of a fault, hashes of content."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pydantic import Field

from astro.files import (
    atomic_path,
    digest,
    digest_path,
    enumerate_jsonl,
    read_json,
    read_jsonl,
    read_shards,
    write_csv,
    write_json,
    write_jsonl,
    write_text,
)
from astro.process import UserError
from schemas.strict import Strict

ROOT = Path(__file__).parents[1]
NOBODY = 65534


class Row(Strict):
    """A small record."""

    name: str
    count: int = Field(ge=0)


A, B = Row(name="a", count=1), Row(name="b", count=2)


@pytest.fixture
def powerless(tmp_path):
    """A folder that may be read and not written to. Root may write anywhere, so the test then acts as nobody."""
    folder = tmp_path / "shut"
    folder.mkdir()
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        for parent in tmp_path.parents:  # nobody must get there
            if parent.is_relative_to(tempfile.gettempdir()) and parent != Path(tempfile.gettempdir()):
                parent.chmod(0o755)
        tmp_path.chmod(0o755)
        os.seteuid(NOBODY)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)


# --- writing ----------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "deep" / "file"
    with atomic_path(target) as temporary:
        temporary.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"
    assert names(target.parent) == ["file"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["out"]


def fill_file(path):
    path.write_text("half")


def fill_folder(path):
    path.mkdir()
    (path / "half").write_text("half")


@pytest.mark.parametrize("fill", [fill_file, fill_folder, lambda path: None])  # cut in a file, in a folder, at once
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_target_as_it_was(tmp_path, fill, error):
    target = tmp_path / "out"
    target.write_text("old")

    def cut():
        with atomic_path(target) as temporary:
            fill(temporary)
            raise error

    with pytest.raises(error):
        cut()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_of_the_same_id_left_is_not_taken_in(tmp_path):
    left = tmp_path / f".out.{os.getpid()}.tmp"
    left.mkdir()
    (left / "stale").write_text("stale")
    with atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert names(tmp_path / "out") == ["new"]


def test_what_a_killed_process_left_beside_a_model_is_no_part_of_the_models(tmp_path):
    """DVC hashes the folder models for eval, so half a model in it would run eval again, and once more when it is removed."""
    with atomic_path(tmp_path / "models/grpo") as temporary:
        temporary.touch()
        name = temporary.name
    paths = [f"models/{name}/model.safetensors", f"metrics/{name}", "models/grpo/model.safetensors"]
    told = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.stdout.split() == paths[:2], told.stderr


def test_a_read_only_folder_is_an_error_with_its_path(powerless):
    with pytest.raises(PermissionError) as caught:
        write_text(powerless / "out", "x")
    assert str(powerless) in str(caught.value.filename)
    assert names(powerless) == []


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [2.5, "é"]})
    write_json(tmp_path / "b", {"a": [2.5, "é"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "é" in (tmp_path / "a").read_text(encoding="utf-8")
    write_json(tmp_path / "c", A)
    assert read_json(tmp_path / "c", Row) == A


def test_jsonl_round_trip_and_count(tmp_path):
    assert write_jsonl(tmp_path / "x", [A, B]) == 2
    assert list(read_jsonl(tmp_path / "x", Row)) == [A, B]
    assert write_jsonl(tmp_path / "y", []) == 0
    assert list(read_jsonl(tmp_path / "y", Row)) == []


def test_a_table_without_records_is_its_header(tmp_path):
    write_csv(tmp_path / "x.csv", Row, [])
    assert (tmp_path / "x.csv").read_bytes() == b"name,count\n"
    odd = Row(name='a "quoted", word\nand a line', count=1)
    write_csv(tmp_path / "x.csv", Row, [odd])
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{"name": odd.name, "count": "1"}]


def test_jsonl_that_fails_midway_is_not_there(tmp_path):
    def records():
        yield A
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "x", records())
    assert names(tmp_path) == []


def test_records_are_written_as_json_with_all_their_fields(tmp_path):
    write_jsonl(tmp_path / "x", [A])
    assert json.loads((tmp_path / "x").read_text()) == {"name": "a", "count": 1}


# --- reading ----------------------------------------------------------------------------------------------------------

GOOD = '{"name": "a", "count": 1}'

BROKEN = [
    # (text of the file, parts of the message)
    # no JSON
    (f"{GOOD}\n{{oops\n", ["line 2", "JSON"]),
    # blank lines are passed over, and still counted
    (f"\n{GOOD}\n\n{{}}\n", ["line 4", "'name'", "required", "'count'"]),
    # a type, a bound, an unknown field: the field and what came
    ('{"name": "a", "count": "1"}\n', ["line 1", "'count'", "integer", "'1'"]),
    ('{"name": "a", "count": -1}\n', ["line 1", "'count'", "greater than or equal to 0", "-1"]),
    ('{"name": "a", "count": 1, "size": 2}\n', ["line 1", "'size'", "not permitted"]),
    # no object
    ("[]\n", ["line 1", "'record'"]),
    ("\x00\n", ["line 1"]),
    # a last line cut by a kill or a full disk
    (f'{GOOD}\n{{"name": "b", "co', ["line 2", "cut short"]),
]


@pytest.mark.parametrize(("text", "parts"), BROKEN)
def test_a_broken_line_is_named_with_file_line_and_field(tmp_path, text, parts):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(read_jsonl(path, Row))
    assert [part for part in [str(path), *parts] if part not in str(caught.value)] == []


def test_a_whole_last_line_needs_no_line_end(tmp_path):
    (tmp_path / "x").write_text(f"\n{GOOD}\n\n{GOOD}")
    assert [line for line, _ in enumerate_jsonl(tmp_path / "x", Row)] == [2, 4]


def test_bytes_that_are_no_text_are_a_broken_line(tmp_path):
    (tmp_path / "x").write_bytes(GOOD.encode() + b'\n{"name": "\xff", "count": 1}\n')
    with pytest.raises(UserError, match="x, line 2: "):
        list(read_jsonl(tmp_path / "x", Row))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="gone: no such file"):
        list(read_jsonl(tmp_path / "gone", Row))
    with pytest.raises(UserError, match="gone: no such file"):
        read_json(tmp_path / "gone", Row)
    with pytest.raises(UserError, match=r"contains no \.jsonl file"):
        list(read_shards(tmp_path, Row))


def test_json_that_does_not_fit_is_named_with_its_field(tmp_path):
    write_json(tmp_path / "x", {"name": "a"})
    with pytest.raises(UserError, match=r"x: field 'count'.*required"):
        read_json(tmp_path / "x", Row)


def test_shards_are_read_by_name(tmp_path):
    write_jsonl(tmp_path / "00001.jsonl", [B])
    write_jsonl(tmp_path / "00000.jsonl", [A])
    (tmp_path / "notes.txt").write_text("not a shard")
    assert list(read_shards(tmp_path, Row)) == [A, B]


# --- digests ----------------------------------------------------------------------------------------------------------


def test_a_digest_tells_values_apart_and_not_key_orders():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(1), digest("1"), digest(1, 1), digest([1, 1]), digest(Path("1"), 1)}) == 5


def test_the_digest_of_a_folder_holds_names_and_contents(tmp_path):
    def made(name, **files):
        for file, text in files.items():
            (tmp_path / name / "sub").mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "sub" / file).write_text(text)
        return digest_path(tmp_path / name)

    one = made("one", a="x", b="y")
    assert made("same", b="y", a="x") == one
    assert made("content", a="x", b="z") != one
    assert made("name", a="x", c="y") != one
    assert made("more", a="x", b="y", c="") != one
    assert digest_path(tmp_path / "one" / "sub" / "a") == digest_path(tmp_path / "same" / "sub" / "a")
