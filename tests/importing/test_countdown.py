"""Imports of Countdown problems: what is taken, what is left out, and what ends the import."""

import json

import pytest

from astro.importing.countdown import import_countdown
from astro.process import UserError
from tests.importing.world import params_of, write

GOOD = {"id": "a", "numbers": [3, 8], "target": 24}


def params(folder, **files):
    """train, rl and eval_x of valid rows, with `files` instead where given."""
    plain = {
        "train": [GOOD | {"id": "t"}],
        "rl": [GOOD | {"id": "r", "target": 11}],
        "eval_x": [GOOD | {"id": "e", "target": 5}],
    }
    return params_of(folder, plain | files)


def test_rows_keep_their_order_and_get_exact_chances(tmp_path):
    rows = [GOOD | {"id": f"t{i}", "target": target} for i, target in enumerate((24, 11))]
    found = import_countdown(params(tmp_path, train=rows, rl=[{"id": "r", "numbers": [2, 3, 4], "target": 24}]))
    assert [(p.id, p.question, p.level) for p in found.sets["train"]] == [
        ("t0", "make 24 from 3 8", 2),
        ("t1", "make 11 from 3 8", 2),
    ]
    assert found.sets["train"][0].chance == pytest.approx(1 / 3)  # of 3 + 8, 3 * 8, 8 - 3
    assert found.dropped == []


def test_what_stands_in_an_eval_set_or_twice_is_left_out_in_whatever_order_its_numbers_are(tmp_path):
    train = [
        GOOD | {"id": "t0", "target": 5},
        GOOD | {"id": "t1", "numbers": [8, 3], "target": 5},
        GOOD | {"id": "t2"},
        GOOD | {"id": "t3", "numbers": [8, 3]},
    ]
    rl = [GOOD | {"id": "r0", "numbers": [8, 3]}, GOOD | {"id": "r1", "target": 11}]
    evals = [GOOD | {"id": "e", "target": 5}, GOOD | {"id": "f", "numbers": [8, 3], "target": 5}]
    found = import_countdown(params(tmp_path, train=train, rl=rl, eval_x=evals, eval_y=evals[:1]))
    assert {name: [p.id for p in problems] for name, problems in found.sets.items()} == {
        "eval_x": ["e"],
        "eval_y": ["eval_y-e"],
        "train": ["t2"],
        "rl": ["r1"],
    }
    assert [(d.id, d.set, d.reason, d.hits) for d in found.dropped] == [
        ("f", "eval_x", "repeated", "eval_x:e"),
        ("t0", "train", "exact", "eval_x:e"),
        ("t1", "train", "exact", "eval_x:e"),
        ("t3", "train", "repeated", "train:t2"),
        ("r0", "rl", "repeated", "train:t2"),
    ]


TAKEN = [
    # a row, the id, numbers and target that are read
    ({"numbers": [3, 8], "target": 24}, ("train-000001", "make 24 from 3 8")),
    ({"nums": [3, 8], "target": 24}, ("train-000001", "make 24 from 3 8")),
    ({"id": 0, "numbers": [3, 8], "target": 24}, ("0", "make 24 from 3 8")),
    ({"id": "a", "numbers": [3.0, 8], "target": 24.0}, ("a", "make 24 from 3 8")),
    (GOOD | {"solution": "?", "meta": {"a": [1]}}, ("a", "make 24 from 3 8")),
    (GOOD | {"id": None}, ("train-000001", "make 24 from 3 8")),
    (GOOD | {"id": "e"}, ("train-e", "make 24 from 3 8")),  # an id that stands in another set
]


@pytest.mark.parametrize(("row", "expected"), TAKEN)
def test_rows_are_taken_as_people_have_them(tmp_path, row, expected):
    write(tmp_path / "own.jsonl", b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\r\n")
    for key in ("path", "dataset"):
        (problem,) = import_countdown(params(tmp_path, train={key: "own.jsonl"})).sets["train"]
        assert (problem.id, problem.question) == expected


def test_other_kinds_of_file_and_parts_of_them(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = {"nums": [[3, 8], [2, 5], [4, 6]], "target": [24, 7, 10], "score": [None, 0.5, 1.0]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "own.parquet")
    found = import_countdown(params(tmp_path, train={"dataset": "own.parquet", "skip": 1, "limit": 1}))
    assert [(p.id, p.question) for p in found.sets["train"]] == [("train-000002", "make 7 from 2 5")]


@pytest.mark.parametrize("numbers", ['"[3, 8]"', "[3 8]", '"[3,8]"'])
def test_tables_have_lists_and_numbers_as_texts(tmp_path, numbers):
    write(tmp_path / "own.csv", f"nums,target\n{numbers},24\n3 8,11\n{numbers},x\n")
    found = import_countdown(params(tmp_path, train={"path": "own.csv", "preset": "countdown3to4"}))
    assert [(p.id, p.question) for p in found.sets["train"]] == [("train-000001", "make 24 from 3 8")]
    assert [d.detail for d in found.dropped] == [
        "field 'nums': expected a list of 2 to 6 whole numbers, got str '3 8'",
        "field 'target': expected a whole number from 1 to 999999999, got str 'x'",
    ]


def test_filters(tmp_path):
    rows = [GOOD | {"id": "t0", "split": "a"}, {"id": "t1", "numbers": [2, 5], "target": 7, "split": "b"}]
    found = import_countdown(
        params(tmp_path, train={"path": write(tmp_path / "t.jsonl", rows), "where": {"split": "b"}})
    )
    assert [p.id for p in found.sets["train"]] == ["t1"]
    assert [d.reason for d in found.dropped] == ["filtered"]


def test_ids_can_be_switched_off_or_named(tmp_path):
    rows = [
        {"id": "x", "key": 7, "numbers": [3, 8], "target": 24},
        {"id": "x", "key": 8, "numbers": [3, 8], "target": 11},
    ]
    rl = [{"id": "r", "numbers": [2, 5], "target": 7}]
    for given, ids in ((False, ["train-000001", "train-000002"]), ("key", ["7", "8"])):
        path = write(tmp_path / "own.jsonl", rows)
        found = import_countdown(params(tmp_path, train={"path": path, "fields": {"id": given}}, rl=rl))
        assert [p.id for p in found.sets["train"]] == ids


BAD_ROWS = [
    # a line, what is told of it
    ("{oops", "invalid JSON"),
    ("[1, 2]", "expected a JSON object"),
    ('{"id": "b", "numbers": [3, 8]}', "field 'target': missing (map countdown); the row has: id, numbers"),
    ('{"id": "b", "numbers": [3, 8], "goal": 3}', "the row has: goal, id, numbers; rename the column to 'target'"),
    ('{"id": "b", "digits": [3, 8], "target": 3}', "field 'numbers' or 'nums': missing"),
    ('{"id": "b", "numbers": "3 8", "target": 24}', "field 'numbers': expected a list of 2 to 6 whole numbers, got str '3 8'"),
    ('{"id": "b", "numbers": ["3", "8"], "target": 24}', "field 'numbers.0': expected a whole number from 1 to 9"),
    ('{"id": "b", "numbers": [3, 8], "target": "24"}', "field 'target': expected a whole number"),
    ('{"id": "b", "numbers": [3, 8], "target": 2.5}', "to 999999999, got number 2.5"),
    ('{"id": "b", "numbers": [3], "target": 24}', "field 'numbers': expected a list of 2 to 6"),
    ('{"id": "b", "numbers": [3, 3, 3, 3, 3, 3, 3], "target": 24}', "field 'numbers': expected a list of 2 to 6"),
    ('{"id": "b", "numbers": [3, -8], "target": 24}', "field 'numbers.1': expected a whole number"),
    ('{"id": "b", "numbers": [3, true], "target": 24}', "field 'numbers.1': expected a whole number"),
    ('{"id": "b", "numbers": [3, NaN], "target": 24}', "field 'numbers.1': expected a whole number"),
    ('{"id": "b", "numbers": [3, 8], "target": 1000000000}', "field 'target'"),
    ('{"id": "", "numbers": [3, 8], "target": 3}', "field 'id': expected an id"),
    ('{"id": "t", "numbers": [2, 8], "target": 10}', "field 'id': 't' occurs twice"),
    ('{"id": "b", "numbers": [2, 2], "target": 23}', "23 cannot be reached from [2, 2] with results up to 60"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), BAD_ROWS)
def test_a_bad_row_is_left_out_and_told(tmp_path, capsys, line, told):
    good = [json.dumps(GOOD | {"id": "t"}), json.dumps({"id": "u", "numbers": [2, 4], "target": 6})]
    found = import_countdown(params(tmp_path, train="\n".join([good[0], line, good[1]])))
    if "'t' occurs" in told:  # it gets the name of its set first
        assert [p.id for p in found.sets["train"]] == ["t", "train-t", "u"]
        return
    assert [p.id for p in found.sets["train"]] == ["t", "u"]
    (dropped,) = found.dropped
    assert (dropped.reason, dropped.where) == ("unreadable", f"{tmp_path / 'train.jsonl'}, line 2")
    assert told in dropped.detail
    assert f"line 2: left out: {dropped.detail}" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"train\.jsonl, line 2: .*strict"):
        import_countdown(params(tmp_path, train={"path": "train.jsonl", "strict": True}))
    if "JSON" not in told:
        with pytest.raises(UserError, match=r"train\.jsonl"):
            import_countdown(params(tmp_path, train=line + "\n"))


ENDS = [
    # content of train.jsonl or its entry, message
    ("", r"train\.jsonl: contains no problem for set 'train'"),
    ("\n\n", r"train\.jsonl: contains no problem for set 'train'"),
    ([GOOD | {"target": 5}], r"train\.jsonl: set 'train' would be empty, .* in an eval set \(1 exact\)"),
    ({"path": "nowhere.jsonl"}, r"nowhere\.jsonl: no such file"),
    ({"path": "rl.jsonl", "preset": "math"}, r"problems\.files\.train: preset and fields .* are for run\.task math"),
    ({"path": "rl.jsonl", "fields": {"question": "nums"}}, r"Countdown reads the columns numbers or nums, and target"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), ENDS)
def test_a_set_without_problems_is_an_error(tmp_path, content, expected):
    with pytest.raises(UserError, match=expected):
        import_countdown(params(tmp_path, train=content))
