"""Files as people have them: by `path` and as `dataset` they give the same rows, or the same message in one line."""

import gzip
import json
import re

import pytest

from astro.importing.sources import read_rows
from astro.process import UserError
from tests.importing.world import read_source, spec, write

ROWS = [{"id": f"r{i}", "question": f"What is {i} plus {i}?", "answer": str(2 * i)} for i in range(1, 4)]


def packed(content: bytes) -> bytes:
    """Gzipped, without the time: it is part of a test's name, which two processes of tests must agree on."""
    return gzip.compress(content, mtime=0)


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = "id,question,answer\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)
BOM = b"\xef\xbb\xbf"


def rows_of(folder, name, key):
    return list(read_rows("eval_s", spec(**{key: name}), str(folder)))


READ = [
    # name, bytes; all hold ROWS
    ("a.jsonl", LINES.encode()),
    ("a.jsonl", BOM + LINES.encode()),
    ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
    ("a.jsonl", LINES.replace("\n", "\n\n").strip().encode()),
    ("a.txt", LINES.encode()),
    ("a", LINES.encode()),
    ("a.json", json.dumps(ROWS).encode()),
    ("a.jsonl", json.dumps(ROWS, indent=2).encode()),
    ("a.json", BOM + json.dumps(ROWS).encode()),
    ("a.json", json.dumps({"data": ROWS}).encode()),
    ("a.json", json.dumps({"examples": ROWS}, indent=1).encode()),
    ("a.json", b"[" + LINES.strip().replace("\n", ",\n").encode() + b",\n]\n"),
    ("a.csv", CSV.encode()),
    ("a.csv", BOM + CSV.replace("\n", "\r\n").encode()),
    ("a.jsonl.gz", packed(LINES.encode())),
    ("a.gz", packed(BOM + LINES.encode())),
    ("a.jsonl", packed(LINES.encode())),
    ("a.json.gz", packed(json.dumps(ROWS).encode())),
    ("a.csv.gz", packed(CSV.encode())),
    *[(name, CSV.replace(",", mark).encode()) for mark in ",;\t|" for name in ("a.csv", "a.tsv", "a.tab", "a.psv")],
    ("a.csv", BOM + CSV.replace(",", ";").replace("\n", "\r\n").encode()),
    ("a.csv", b"sep=;\r\n" + CSV.replace(",", ";").encode()),
    ("a.csv", BOM + b'"sep=\t"\n' + CSV.replace(",", "\t").encode()),
    ("a.tsv.gz", packed(CSV.replace(",", "\t").encode())),
]


@pytest.mark.parametrize(("name", "content"), READ)
def test_what_is_read(tmp_path, name, content):
    write(tmp_path / name, content)
    by_path, as_dataset = (rows_of(tmp_path, name, key) for key in ("path", "dataset"))
    assert [entry.content for entry in by_path] == ROWS
    assert by_path == as_dataset
    assert {entry.fault for entry in by_path} == {""}
    assert all(re.search(r", line \d+(, item \d)?$", entry.where) for entry in by_path)


def test_parquet_is_read_by_its_content(tmp_path):
    import datasets

    datasets.Dataset.from_list(ROWS).to_parquet(str(tmp_path / "a.bin"))
    for key in ("path", "dataset"):
        assert [entry.content for entry in rows_of(tmp_path, "a.bin", key)] == ROWS


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"

REFUSED = [
    # name, bytes, message
    ("a.jsonl", POINTER, r"line 1: a Git LFS pointer .*git lfs pull"),
    ("a.parquet", POINTER, r"line 1: a Git LFS pointer"),
    ("a.csv", POINTER, r"line 1: a Git LFS pointer"),
    ("a.jsonl", b"<!DOCTYPE html>\n<html><head>", r"line 1: a web page .*download the file itself"),
    ("a.json", b"\n  <html lang='en'>", r"line 1: a web page"),
    ("a.csv", b'<?xml version="1.0"?><Error>', r"line 1: a web page"),
    ("a.jsonl", LINES.encode("utf-16"), r"line 1: text in UTF-16: save it as UTF-8 \(iconv -f UTF-16 "),
    ("a.jsonl", LINES.encode("utf-16-le"), r"line 1: text in UTF-16 \(little endian\)"),
    ("a.csv", CSV.encode("utf-16-be"), r"line 1: text in UTF-16 \(big endian\)"),
    ("a.jsonl", LINES.encode("utf-32"), r"line 1: text in UTF-32"),
    ("a.jsonl", (LINES * 2 + '{"question": "Zoë"}\n').encode("latin-1"), r"line 7: the text is not UTF-8 \(byte 0xeb\).*iconv"),
    ("a.csv", CSV.encode() + "r4,½ of 3?,1.5\n".encode("latin-1"), r"a\.csv, line 5: the text is not UTF-8 \(byte 0xbd\)"),
    ("a.json", json.dumps([{"q": "é"}], ensure_ascii=False).encode("latin-1"), r"line 1: the text is not UTF-8"),
    ("a.jsonl", CSV.encode(), r"line 1: it looks like a table; name it \.csv, or set separator; .*\.jsonl.*\.csv, \.tsv"),
    ("a.txt", CSV.replace(",", "|").encode(), r"line 1: it looks like a table; name it \.csv, or set separator"),
    ("a.txt", CSV.replace(",", "\t").encode(), r"line 1: it looks like a table with tabs; name it \.tsv, or set separator"),
    ("a.csv", CSV.replace(",", ";").encode("utf-16"), r"line 1: text in UTF-16"),
    ("a.jsonl", json.dumps(ROWS[0], indent=2).encode(), r"line 1: an object over several lines; write one object per line"),
    ("a.json", "\n".join(json.dumps(r, indent=4) for r in ROWS).encode(), r"line 1: an object over several lines"),
    (
        "a.json",
        json.dumps({"v": 1, "rows": ROWS}, indent=4).encode(),
        r"line 1: one object with its rows in 'rows'; write only the rows ",
    ),
    ("a.json", json.dumps(ROWS)[:-9].encode(), r"line 1: the JSON array is never closed"),
    ("a.xlsx", b"PK\x03\x04" + bytes(40), r"line 1: a zip archive or a workbook"),
    ("a.jsonl.bz2", b"BZh91AY&SY", r"line 1: a compressed file: unpack it"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00", r"line 1: a compressed file"),
    ("a.arrow", b"ARROW1\0\0", r"line 1: an Arrow file: write it as Parquet"),
    ("a.db", b"SQLite format 3\0", r"line 1: binary data: expected"),
    ("a.pdf", b"%PDF-1.7\n", r"line 1: a PDF"),
    ("a.txt", b"What is 2 plus 2?\n", r"line 1: no JSON; expected \.jsonl \(one object per line\)"),
    ("a.tar.gz", packed(b"x" + bytes(256) + b"ustar\0" + bytes(200)), r"line 1: a tar archive: unpack it"),
    ("a.jsonl.gz", packed(LINES.encode())[:-12], r"a\.jsonl\.gz: the \.gz is damaged or cut short"),
    ("a.parquet", b"PAR1" + bytes(60), r"a\.parquet: cannot be read as Parquet: "),
    ("a.csv", (CSV + 'r4,"What is\n' + CSV).encode(), r"line 5: a quoted text begins here and is never closed"),
    ("a.csv", CSV.replace("id,", "answer,").encode(), r"line 1: column 'answer' occurs twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), REFUSED)
def test_what_is_not_read_is_told_in_one_line(tmp_path, name, content, expected):
    write(tmp_path / name, content)
    for key in ("path", "dataset"):
        with pytest.raises(UserError) as caught:
            rows_of(tmp_path, name, key)
        assert re.search(expected, str(caught.value)), caught.value
        assert str(caught.value).startswith(f"{tmp_path / name}")
        assert "\n" not in str(caught.value)


def test_a_damaged_line_in_a_file_of_utf8_is_a_bad_row(tmp_path):
    """Not a wrong encoding: other lines are UTF-8 beyond ASCII, or it is one of very many."""
    bad = b'{"question": "Zo\xeb"}\n'
    wide = '{"question": "Zoë"}\n'.encode()
    for content in (bad + wide + LINES.encode(), LINES.encode() * 100 + bad):
        write(tmp_path / "a.jsonl", content)
        faults = [entry for entry in rows_of(tmp_path, "a.jsonl", "path") if entry.fault]
        assert [entry.fault for entry in faults] == ["the text is not UTF-8"]


def test_a_bad_item_of_an_array_ends_nothing(tmp_path):
    items = [
        '{"a": 1}',
        '{"a": 1, "a": 2}',
        "[" * 3000 + "]" * 3000,
        '{"a": oops}',
        '"text, [with] {marks} \\" in it"',
        '{"a": 2}',
    ]
    write(tmp_path / "a.json", "[" + ",\n".join(items) + "]")
    entries = rows_of(tmp_path, "a.json", "path")
    assert [entry.content for entry in entries if not entry.fault] == [
        {"a": 1},
        'text, [with] {marks} " in it',
        {"a": 2},
    ]
    assert [entry.where.rpartition(".json, ")[2] for entry in entries if entry.fault] == [
        f"line {n}, item {n}" for n in (2, 3, 4)
    ]


SEPARATED = [
    # a table, how it is separated
    ("id;question;answer\n1;Was ist 1,5 + 2, gerundet?;3,5\n2;Und 2,5 + 2?;4,5\n", ";"),
    ('id,question,answer\n1,"Is a;b;c so?",4\n2,"Or a;b;c?",5\n', ","),
    ('id;"question, or so";answer\n1;"A quoted; mark\nand a line";4\n2;B;5\n', ";"),
    ("id\tquestion\tanswer\n1\tWhich, a, b; or c?\t3\n", "\t"),
    ("id|question|answer\n1|What is, in the end, |-3|?|3\n2|So?|4\n3|And?|5\n", "|"),
    ("question\nWhat is 1, 2; 3?\n", ","),
    ("question,answer\n", ","),
    ('question,answer\n"' + "one\n" * 700 + 'two",5\n', ","),  # the sample ends inside of a cell
]


@pytest.mark.parametrize(("content", "separator"), SEPARATED)
def test_the_separator_of_a_table_is_found(tmp_path, content, separator):
    write(tmp_path / "a.csv", content)
    specs = spec(path="a.csv"), spec(path="a.csv", separator=separator)
    found, given = (list(read_rows("eval_s", one, str(tmp_path))) for one in specs)
    assert found == given
    header = content.split("\n", 1)[0].replace('"', "").split(separator)
    assert all(list(entry.content) == header[: len(entry.content)] for entry in found)


def test_a_separator_can_be_given_for_any_file(tmp_path):
    write(tmp_path / "a.txt", "question~answer\nWhat is 1, 2; 3?~6\n")
    (entry,) = read_rows("eval_s", spec(path="a.txt", separator="~"), str(tmp_path))
    assert entry.content == {"question": "What is 1, 2; 3?", "answer": "6"}


FILTERED = [
    # a cell as JSON, the value of `where`, is the row read
    ('"Yes"', "Yes", True), ('" Yes "', "Yes", True), ('"yes"', "Yes", False), ('"No"', ["Yes", "No"], True),
    ("null", "Yes", False), ("null", None, True), ('""', None, True), ("[]", None, True), ("NaN", None, True),
    ('"x"', None, False),
    ("true", True, True), ("true", "true", True), ("false", True, False), ('"True"', True, True), ('"FALSE"', False, True),
    ("5", 5, True), ("5.0", 5, True), ('"5"', 5, True), ('"5.0"', 5, True), ("5", "5", True), ('"5.0"', "5", False),
    ("0", None, False), ("0", False, False), ("0.5", 0.5, True), ('"0.50"', 0.5, True), ('"Level 5"', 5, False),
    ('["Algebra", "Geometry"]', "Geometry", True), ('["Algebra"]', "Geometry", False), ('"anything"', [], True),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "value", "read"), FILTERED)
def test_rows_are_filtered_by_what_is_written(tmp_path, cell, value, read):
    asked = json.dumps(value[0] if isinstance(value, list) and value else value)
    write(tmp_path / "a.jsonl", f'{{"q": 1, "ok": {cell}}}\n{{"q": 2, "ok": {asked}}}\n')
    out = []
    given = spec(path="a.jsonl", where={"ok": value})
    rows = read_rows("eval_s", given, str(tmp_path), leave_out=lambda entry, why: out.append((entry.number, why)))
    assert [entry.number for entry in rows] == ([1, 2] if read else [2])
    assert [number for number, _ in out] == ([] if read else [1])
    assert all(why.startswith("ok is ") for _, why in out)


def test_filters_come_before_skip_and_limit_and_look_inside(tmp_path):
    rows = [{"q": i, "meta": {"Kind": "ab"[i % 2]}} for i in range(10)]
    write(tmp_path / "a.jsonl", [rows[0], *rows[1:]])
    given = spec(path="a.jsonl", where={"meta.kind": "b"}, skip=1, limit=2)
    assert [entry.content["q"] for entry in read_rows("eval_s", given, str(tmp_path))] == [3, 5]


FILTER_FAULTS = [
    # where, message
    ({"problem_valid": "Yes"}, r"a\.csv, line 2: problems\.files\.eval_s\.where: there is no field 'problem_valid'; did you mean "
                               r"'problem_is_valid'\? the row has: answer, problem_is_valid, question$"),
    ({"xyz": "Yes"}, r"there is no field 'xyz'; the row has: answer"),
    ({"problem_is_valid": "yes"}, r"where or the preset excludes all rows: problem_is_valid should be 'yes', but "
                                  r"problem_is_valid is 'Yes' \(2 rows\), problem_is_valid is None \(1 row\)"),
    ({"problem_is_valid": "Yes", "answer": 7}, r"excludes all rows: .*answer should be 7, but .*answer is '1' \(1 row\)"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "expected"), FILTER_FAULTS)
def test_a_filter_that_leaves_nothing_is_told(tmp_path, where, expected):
    write(tmp_path / "a.csv", "question,answer,problem_is_valid\na,1,Yes\nb,2,Yes\nc,3,\n")
    with pytest.raises(UserError, match=expected):
        list(read_rows("eval_s", spec(path="a.csv", where=where), str(tmp_path)))


def test_cells_of_a_table(tmp_path):
    write(
        tmp_path / "a.csv",
        'id,question,answer\n1,"A ""magic"" box,\nholds 4.",007\n\n2,short\n3,long,4,5\n4,"x"y,6\n5,,\n',
    )
    entries = rows_of(tmp_path, "a.csv", "path")
    assert entries[0].content == {"id": "1", "question": 'A "magic" box,\nholds 4.', "answer": "007"}
    assert [(e.number, e.where.rpartition(", ")[2]) for e in entries] == [
        (1, "line 2"), (2, "line 5"), (3, "line 6"), (4, "line 7"), (5, "line 8"),
    ]  # fmt: skip
    assert [e.fault for e in entries[1:4]] == [
        "2 cells, but the table has 3 columns",
        "4 cells, but the table has 3 columns",
        "invalid CSV: ',' expected after '\"'",
    ]
    assert entries[4].content == {"id": "5", "question": None, "answer": None}


def test_a_cell_of_any_length(tmp_path):
    write(tmp_path / "a.csv", "question,answer\n" + "1" * 400_000 + ",2\n")
    assert len(rows_of(tmp_path, "a.csv", "path")[0].content["question"]) == 400_000


SEPARATORS = "a\u2028b\u2029c\u0085d\x0ce\x1cf"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_only_a_line_feed_ends_a_line(tmp_path, name):
    texts = {
        "a.jsonl": json.dumps({"q": SEPARATORS}, ensure_ascii=False) + '\n{"q": "z"}\n',
        "a.json": json.dumps([{"q": SEPARATORS}, {"q": "z"}], ensure_ascii=False),
        "a.csv": f"q,r\n{SEPARATORS},\nz,\n",
    }
    write(tmp_path / name, texts[name].encode())
    assert [entry.content["q"] for entry in rows_of(tmp_path, name, "dataset")] == [SEPARATORS, "z"]


# --- numbers keep their digits -------------------------------------------------------------------------------------------

BIG = 9007199254740993  # 2^53 + 1, which no float holds


def golds(folder, name, key="dataset"):
    fields = {"question": "q", "answer": "a"}
    return [g.row.gold for g in read_source("eval_s", spec(**{key: name}, fields=fields), str(folder))]


@pytest.mark.parametrize("other", [None, 0.5, ""])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "folder"])
def test_whole_numbers_beside_an_empty_or_fractional_cell_keep_their_digits(tmp_path, name, other):
    import pyarrow
    import pyarrow.parquet

    values = [BIG, other, 2**63 - 1]
    if name == "a.parquet":
        if other == 0.5:
            pytest.skip("a column of Parquet has one type")
        column = pyarrow.array([BIG, None, 2**63 - 1])
        pyarrow.parquet.write_table(pyarrow.table({"q": ["x", "y", "z"], "a": column}), tmp_path / name)
    elif name == "folder":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "test.jsonl", [{"q": q, "a": a} for q, a in zip("xyz", values, strict=True)])
    elif name == "a.csv":
        write(
            tmp_path / name,
            "q,a\n" + "".join(f"{q},{'' if a is None else a}\n" for q, a in zip("xyz", values, strict=True)),
        )
    else:
        rows = [{"q": q, "a": a} for q, a in zip("xyz", values, strict=True)]
        write(tmp_path / name, json.dumps(rows) if name == "a.json" else rows)
    assert golds(tmp_path, name)[::2] == [str(BIG), str(2**63 - 1)]


NUMBERS = [
    # as JSON writes it, the gold
    ("27.0", "27"),
    ("27", "27"),
    ("0.75", "0.75"),
    ("13.50", "13.50"),
    ("-0.0", "0"),
    ("1e3", "1000"),
    ("1e22", "1" + "0" * 22),
    ("1e+23", "1" + "0" * 23),
    ("1.5e-7", "0.00000015"),
    ("12345678901234567.0", "12345678901234567"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("1.8446744073709552e+19", "18446744073709551616"),  # how Python writes the float 2^64
    ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
]


@pytest.mark.parametrize(("written", "gold"), NUMBERS)
def test_numbers_as_they_are_written(tmp_path, written, gold):
    write(tmp_path / "a.jsonl", f'{{"q": "x", "a": {written}}}\n')
    write(tmp_path / "a.json", f'[{{"q": "x", "a": {written}}}]')
    assert {*golds(tmp_path, "a.jsonl"), *golds(tmp_path, "a.json", "path")} == {gold}


def test_a_number_of_endless_size_takes_no_time(tmp_path):
    write(tmp_path / "a.jsonl", '{"q": "x", "a": 1e999999999}\n')
    assert golds(tmp_path, "a.jsonl") == ["1E+999999999"]


# --- folders and splits --------------------------------------------------------------------------------------------------


def test_a_folder_of_several_files_is_numbered_through(tmp_path):
    (tmp_path / "set").mkdir()
    for part in (0, 1):
        write(tmp_path / f"set/test-0000{part}-of-00002.jsonl", [{"q": f"{part}{i}", "a": i} for i in range(2)])
    entries = list(read_rows("eval_s", spec(dataset="set", split="test", skip=1, limit=2), str(tmp_path)))
    assert [(e.number, e.content["q"]) for e in entries] == [(2, "01"), (3, "10")]
    assert entries[1].where == f"{tmp_path}/set/test-00001-of-00002.jsonl, line 1"


def test_rows_that_cannot_be_read_count_for_skip_and_limit(tmp_path):
    write(tmp_path / "a.jsonl", '{"q": 0}\noops\n{"q": 2}\n{"q": 3}\n')
    entries = list(read_rows("eval_s", spec(path="a.jsonl", skip=1, limit=2), str(tmp_path)))
    assert [(e.number, bool(e.fault)) for e in entries] == [(2, True), (3, False)]


def test_an_lfs_pointer_in_a_folder(tmp_path):
    (tmp_path / "set").mkdir()
    write(tmp_path / "set/train.parquet", "version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"set/train\.parquet, line 1: a Git LFS pointer"):
        rows_of(tmp_path, "set", "dataset")


def test_the_inner_cause_of_a_dataset_error_is_shown(tmp_path, monkeypatch):
    import datasets

    def fails(*_args, **_kwargs):
        try:
            raise OSError("disk quota exceeded")
        except OSError as error:
            raise RuntimeError("An error occurred while generating the dataset\nsee above") from error

    monkeypatch.setattr(datasets, "load_dataset_builder", fails)
    with pytest.raises(
        UserError, match="cannot be loaded: An error occurred while generating the dataset: disk quota exceeded"
    ):
        rows_of(tmp_path, "org/name", "dataset")
