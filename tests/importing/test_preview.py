"""`astro check problems`: the report, its exit code, and that it writes nothing."""

import json
import sys

import pytest

from astro import __main__ as cli
from astro.importing import preview
from astro.params import load_params
from tests.importing.world import params_of, write

PARAMS = load_params()
ROWS = [
    {"q": f"What is {i} + {i}?", "a": str(2 * i), "ok": "Yes" if i % 4 else "No", "grade": f"Level {i}"}
    for i in range(1, 9)
]
ENTRY = {"fields": {"question": "q", "answer": "a", "level": "grade"}, "where": {"ok": "Yes"}}


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder of its own, with params of these sets; (exit code, output, errors)."""

    def run(*arguments, task="math", **sets):
        plain = {name: [{"question": f"Is it ${name}$?", "answer": 1}] for name in ("train", "rl", "eval_own")}
        problems = params_of(tmp_path, plain | sets) if sets else PARAMS.problems
        fixed = PARAMS.model_copy(update={"problems": problems, "run": PARAMS.run.model_copy(update={"task": task})})
        monkeypatch.setattr(preview, "load_params", lambda: fixed)
        monkeypatch.setattr(sys, "argv", ["astro", "check", "problems", *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert sorted(tmp_path.rglob("*")) == before
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_set_is_shown_with_what_is_left_out(tmp_path, check):
    write(
        tmp_path / "own.jsonl", [*ROWS, ROWS[0], {"q": "Why?", "ok": "Yes"}, {"q": "Prove.", "a": "proof", "ok": "Yes"}]
    )
    code, out, _ = check(eval_own={"path": "own.jsonl", **ENTRY})
    assert code == 0
    assert "eval_own: own.jsonl: 11 rows, 6 kept\n" in out
    assert "  map plain: question 'q', answer 'a', level 'grade', id 'id'\n  only rows with ok: Yes\n" in out
    assert f"  left out, filtered: 2\n    {tmp_path}/own.jsonl, line 4: ok is 'No'\n" in out
    assert f"  left out, repeated: 1\n    {tmp_path}/own.jsonl, line 9: as eval_own:own-000001\n" in out
    assert f"  left out, unreadable: 1\n    {tmp_path}/own.jsonl, line 10: field 'a': missing" in out
    assert f"  left out, unparseable_gold: 1\n    {tmp_path}/own.jsonl, line 11: proof\n" in out
    assert (
        "  own-000001, level 1, gold '2':\n    What is 1 + 1?\n  own-000002, level 2, gold '4':\n    What is 2 + 2?\n"
        in out
    )
    assert "train: train.jsonl: 1 row, 1 kept" in out
    assert "[problems]" not in out
    assert out.endswith("no fault\n")


FAULTS = [
    # the eval set, what is told; the other sets are shown all the same
    ({"path": "nowhere.jsonl"}, "error: nowhere.jsonl: no such file"),
    ({"path": "own.jsonl", **ENTRY, "where": {"okay": "Yes"}}, "there is no field 'okay'; did you mean 'ok'?"),
    (
        {"path": "own.jsonl", **ENTRY, "where": {"ok": "yes"}},
        "excludes all rows: ok should be 'yes', but ok is 'Yes' (6 rows)",
    ),
    (
        {"path": "own.jsonl", "fields": ENTRY["fields"], "preset": "countdown3to4"},
        "countdown3to4 is for run.task countdown",
    ),
    (
        {"path": "own.jsonl", "strict": True, "fields": {"question": "q", "answer": "a"}},
        "line 9: left out: invalid JSON",
    ),
    ({"path": "own.jsonl"}, "error: own.jsonl"),
]


@pytest.mark.parametrize(("entry", "told"), FAULTS)
def test_a_fault_of_one_set_hides_no_other(tmp_path, check, entry, told):
    write(tmp_path / "own.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS) + "oops\n")
    code, out, _ = check(eval_own=entry)
    assert code == 1
    assert told.removeprefix("error: own.jsonl") in out
    assert "  error: " in out
    assert "train: train.jsonl: 1 row, 1 kept" in out
    assert out.endswith("faults in 1 of 3 sets: eval_own\n")
    assert check("--set", "train", eval_own=entry)[0] == 0
    code, out, _ = check("--set", "eval_own", eval_own=entry)
    assert code == 1
    assert "train" not in out.replace(str(tmp_path), "")


def test_a_strict_set_shows_all_of_its_bad_rows(tmp_path, check):
    write(tmp_path / "own.jsonl", '{"question": "a?", "answer": 1}\noops\n{"question": "b?", "answer": 1}\n7\n')
    code, out, _ = check(train={"path": "own.jsonl", "strict": True})
    assert code == 1
    assert "train: own.jsonl: 4 rows, 2 kept" in out
    assert "left out, unreadable: 2" in out


def test_a_file_that_no_set_names(tmp_path, check):
    write(tmp_path / "own.csv", "Body;Question;Answer\n" + "Mia has 9.;How many?;9\n")
    code, out, _ = check(tmp_path / "own.csv", "--preset", "svamp", task="countdown")
    assert (code, "file-000001, level 1, gold '9':\n    Mia has 9. How many?\n" in out, "note:" in out) == (
        0,
        True,
        False,
    )
    write(tmp_path / "cd.jsonl", [{"nums": [3, 8], "target": 24}])
    code, out, _ = check("cd.jsonl", "--preset", "countdown3to4")
    assert (code, "make 24 from 3 8" in out) == (0, True)
    code, out, _ = check("own.csv", "--entry", "{fields: {question: Question}, where: {Body: 'Mia has 9.'}}")
    assert (code, "perhaps without half of the question" in out) == (0, True)
    assert check("own.csv")[0] == 0
    assert check("none.csv")[0] == 1


REFUSED = [
    # arguments, message
    (["own.csv", "--entry", "{limits: 1}"], "--entry, line 1: limits: unknown parameter; the nearest is limit"),
    (["own.csv", "--entry", "{limit: one}"], "--entry, line 1: limit: "),
    (["own.csv", "--entry", "{limit"], "--entry: expected YAML, such as '{limit: 100}'"),
    (["own.csv", "--entry", "[1]"], "--entry: expected YAML, such as"),
    (["--set", "eval_x"], "there is no set 'eval_x'; available: "),
    (["--preset", "svamp"], "--preset, --entry and --task need a file"),
    (["own.csv", "--task", "chess"], "run.task: unknown task 'chess'; available: countdown, math, "),
]


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_checked_is_told(tmp_path, check, arguments, told):
    write(tmp_path / "own.csv", "question,answer\na?,1\n")
    code, _, errors = check(*arguments, eval_own={"path": "own.csv"})
    assert (code, told in errors) == (2, True), errors


def test_problems_that_are_made_come_from_no_file(check):
    code, _, errors = check()
    assert (code, "problems.source is generated, so there are no files to read" in errors) == (2, True)


def test_params_are_checked_as_before(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["astro", "check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, "params.yaml: valid" in capsys.readouterr().out) == (0, True)
