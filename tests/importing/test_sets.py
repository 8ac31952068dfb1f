"""Imports of whole sets: field maps on small files in the public formats, faults, golds, overlap with eval sets."""

import json
import re
from pathlib import Path

import pytest

from astro.importing.countdown import import_countdown
from astro.importing.math import import_math, read_source
from astro.importing.sources import notes_on
from astro.params import load_params
from astro.runtime import UserError
from schemas.problems import ProblemsParams, SourceSpec

PROBLEMS = load_params().problems.model_dump()


def write(path: Path, rows) -> str:
    """A JSONL file of rows, or of text as it is; its name."""
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path.name


def spec(**values) -> SourceSpec:
    return SourceSpec.model_validate(values)


def params(folder: Path, *, ngram: int = 13, **files) -> ProblemsParams:
    """A train, an rl and an eval set in `folder`; each a list of rows, a text, or a whole entry of problems.files."""
    plain = {
        "train": [{"question": "What is $2+2$?", "answer": "4"}],
        "rl": [{"question": "What is $3+3$?", "answer": "6"}],
        "eval_own": [{"question": "What is $1+1$?", "answer": "2"}],
        **files,
    }
    given = {
        name: rows if isinstance(rows, dict) else {"path": write(folder / f"{name}.jsonl", rows)}
        for name, rows in plain.items()
    }
    values = {"source": "files", "folder": str(folder), "files": given, "overlap": {"ngram": ngram}}
    return ProblemsParams.model_validate(PROBLEMS | values)


# preset, rows as the public set has them, (id, gold, level) of the problems
FORMATS = [
    (
        "math",
        [{"problem": "q", "level": "Level 5", "type": "Algebra", "solution": r"Hence $\boxed{1}$ or $\boxed{\frac{1}{2}}$."}],
        [("s-000001", r"\frac{1}{2}", 5)],
    ),
    (
        "math500",
        [
            {"problem": "q", "solution": "...", "answer": r"\left( 3, \frac{\pi}{2} \right)", "subject": "Algebra", "level": 2,
             "unique_id": "test/precalculus/807.json"}
        ],
        [("s-test/precalculus/807.json", r"\left( 3, \frac{\pi}{2} \right)", 2)],
    ),
    ("amc2023", [{"id": 0, "problem": "q", "answer": 27.0, "url": "u"}], [("s-0", "27", 1)]),
    ("amc2023", [{"id": 1, "question": "q", "answer": "36.0", "url": "u"}], [("s-1", "36.0", 1)]),
    ("aime2024", [{"id": 60, "problem": "q", "answer": "025", "url": "u", "year": "2024"}], [("s-60", "025", 1)]),
    ("aime2024", [{"ID": "2024-II-4", "Problem": "q", "Solution": "...", "Answer": 33}], [("s-2024-II-4", "33", 1)]),
    ("gsm8k", [{"question": "q", "answer": "48/2 = <<48/2=24>>24\n#### 1,072"}], [("s-000001", "1,072", 1)]),
    ("numina", [{"source": "aops", "problem": "q", "solution": r"$\boxed{C}$", "messages": []}], [("s-000001", "C", 1)]),
    ("numina", [{"problem": "q", "solution": "...", "answer": "11", "problem_type": "Algebra"}], [("s-000001", "11", 1)]),
    ("plain", [{"id": "a", "question": "q", "answer": 0.5, "level": 3}], [("s-a", "0.5", 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "rows", "expected"), FORMATS)
def test_ready_maps(tmp_path, preset, rows, expected):
    path = write(tmp_path / "s.jsonl", rows)
    found = [g.problem for g in read_source("eval_s", spec(path=path, preset=preset), str(tmp_path))]
    assert [(p.id, p.gold, p.level) for p in found] == expected
    assert {(p.question, p.domain, p.chance) for p in found} == {("q", "math", None)}


def test_own_fields_take_the_place_of_the_maps(tmp_path):
    rows = [{"key": 7, "text": {"body": "q"}, "result": "so\n#### 5", "grade": "L3"}]
    fields = {"id": "key", "question": "text.body", "answer": "result", "answer_in": "hashes", "level": "grade"}
    path = write(tmp_path / "s.jsonl", rows)
    (found,) = read_source("eval_s", spec(path=path, fields=fields), str(tmp_path))
    assert (found.problem.id, found.problem.question, found.problem.gold, found.problem.level) == ("s-7", "q", "5", 3)


def test_the_solution_of_a_set_without_answers(tmp_path):
    """math-ai/aime24 has its answers in a box."""
    path = write(tmp_path / "s.jsonl", [{"id": 1, "problem": "q", "solution": r"\boxed{204}"}])
    fields = {"answer": "solution", "answer_in": "boxed"}
    (found,) = read_source("eval_s", spec(path=path, preset="aime2024", fields=fields), str(tmp_path))
    assert found.problem.gold == "204"


def test_skip_and_limit_split_one_file(tmp_path):
    path = write(tmp_path / "s.jsonl", [{"question": f"q{i}", "answer": i} for i in range(10)])
    found = [g.problem.question for g in read_source("rl", spec(path=path, skip=3, limit=4), str(tmp_path))]
    assert found == ["q3", "q4", "q5", "q6"]
    with pytest.raises(UserError, match="holds no problem from row 11 on for set 'rl'"):
        read_source("rl", spec(path=path, skip=10), str(tmp_path))


# --- datasets ----------------------------------------------------------------------------------------------------------


def test_a_local_dataset_is_loaded_as_one_of_the_hub(tmp_path):
    import datasets

    rows = {"problem": ["q1", "q2"], "answer": [27.0, 0.5], "id": [0, 1], "url": ["u", "u"]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "set/test-00000.parquet"))
    for given in ({"dataset": "set", "split": "test"}, {"dataset": "set"}, {"dataset": "set/test-00000.parquet"}):
        found = read_source("eval_s", spec(preset="amc2023", **given), str(tmp_path))
        assert [(g.problem.id, g.problem.gold) for g in found] == [("s-0", "27"), ("s-1", "0.5")]
        assert found[1].where.endswith("row 2")


DATASETS = [
    # what is asked of a folder with the splits train and test, message
    ({"dataset": "set"}, r"has the splits train, test; name one in split"),
    ({"dataset": "set", "split": "valid"}, r"cannot be loaded: .*valid"),
    (
        {"dataset": "none/such-data-set", "split": "test"},
        r"dataset none/such-data-set: cannot be loaded: .*is there a network",
    ),
    ({"dataset": "note.txt"}, r"expected a folder, or a file that ends in \.jsonl"),
]


@pytest.mark.parametrize(("given", "expected"), DATASETS)
def test_faults_of_datasets(tmp_path, monkeypatch, given, expected):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "set").mkdir()
    (tmp_path / "note.txt").write_text("no data")
    for split in ("train", "test"):
        write(tmp_path / f"set/{split}.jsonl", [{"question": "q", "answer": "1"}])
    with pytest.raises(UserError, match=rf"problems\.files\.eval_s: .*{expected}"):
        read_source("eval_s", spec(**given), str(tmp_path))


# --- faults ------------------------------------------------------------------------------------------------------------

GOOD = '{"id": "a", "question": "What is $5+5$?", "answer": "10"}\n'

FAULTS = [
    # content of train.jsonl, the entry beside its path, message
    ("", {}, r"train\.jsonl: holds no problem for set 'train'"),
    ("\n \n", {}, r"train\.jsonl: holds no problem"),
    (GOOD + '{"id": "b", "que\n', {}, r"train\.jsonl, line 2: no valid JSON"),
    (GOOD + '{"id": "b", "que', {}, r"line 2: no valid JSON.*cut short"),
    (GOOD + "\n[1, 2]\n", {}, r"line 3: expected a JSON object with named fields, got list"),
    (GOOD + '{"question": "q", "answer": NaN}\n', {}, r"line 2: no valid JSON: NaN"),
    ("\udcff\udcfe\n", {}, r"line 1: no valid JSON"),
    ("[" * 100_000 + "\n", {}, r"line 1: no valid JSON"),
    ('{"question": "q"}\n', {}, r"line 1: field 'answer': missing \(map plain\); the row has: question"),
    ('{"answer": "1", "text": "q"}\n', {}, r"line 1: field 'question' or 'problem': missing .*: answer, text"),
    ('{"question": "q", "answer": "1"}\n', {"preset": "math"}, r"line 1: field 'problem': missing \(map math\)"),
    (
        '{"question": "  ", "answer": "1"}\n',
        {},
        r"line 1: field 'question': expected a text that is not blank, got str '  '",
    ),
    ('{"question": null, "answer": "1"}\n', {}, r"line 1: field 'question': expected a text .*got nothing"),
    ('{"question": 7, "answer": "1"}\n', {}, r"line 1: field 'question': expected a text .*got int 7"),
    ('{"question": "\\ud800", "answer": "1"}\n', {}, r"line 1: field 'question': .*valid"),
    ('{"question": "q", "answer": {"a": 1}}\n', {}, r"line 1: field 'answer': expected a text or a number, got dict"),
    ('{"question": "q", "answer": true}\n', {}, r"line 1: field 'answer': expected a text or a number, got bool True"),
    (GOOD + GOOD, {}, r"line 2: field 'id': 'a' stands already in .*train\.jsonl, line 1"),
    ('{"id": [1], "question": "q", "answer": "1"}\n', {}, r"line 1: field 'id': expected an id .*got list"),
    (GOOD, {"fields": {"id": "uid"}}, r"line 1: field 'uid': expected an id .*got nothing"),
    (GOOD, {"preset": "gsm8k"}, r"of 1 problems for set 'train' none has an answer that can be graded.*right map"),
    (
        GOOD.replace("5+5", "1 + 1"),
        {},
        r"train\.jsonl: holds no problem for set 'train' that is readable, new and in no eval",
    ),
]


@pytest.mark.parametrize(("content", "entry", "expected"), FAULTS)
def test_faults_name_file_line_and_field(tmp_path, content, entry, expected):
    write(tmp_path / "train.jsonl", content)
    with pytest.raises(UserError) as caught:
        import_math(params(tmp_path, train={"path": "train.jsonl", **entry}))
    assert re.search(expected, str(caught.value)), caught.value


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        import_math(params(tmp_path, train={"path": "nowhere.jsonl"}))
    with pytest.raises(UserError, match=r"no such file \(it is a folder: name it as dataset\)"):
        import_math(params(tmp_path, train={"path": str(tmp_path)}))


def test_equal_ids_of_different_sets_are_different_problems(tmp_path):
    rows = (
        [{"id": 1, "question": "What is $4+5$?", "answer": 9}],
        [{"id": 1, "question": "What is $4+6$?", "answer": 10}],
    )
    sets = import_math(params(tmp_path, eval_a=rows[0], eval_b=rows[1])).sets
    assert [p.id for name in ("eval_a", "eval_b") for p in sets[name]] == ["a-1", "b-1"]


# --- golds -------------------------------------------------------------------------------------------------------------


def test_unreadable_golds_are_listed_and_in_no_set(tmp_path, capsys):
    rows = [
        {"question": "Which?", "answer": "proof"},
        {"question": "What is $7+1$?", "answer": "8"},
        {"question": "Where?", "answer": ""},
        {"question": "Why?", "answer": None},
    ]
    rl = [*rows[::-1], {"question": "What is $7+2$?", "answer": "9"}]
    found = import_math(params(tmp_path, rl=rl, eval_own=rows))
    assert [len(found.sets[name]) for name in ("eval_own", "rl")] == [1, 1]
    listed = [d for d in found.dropped if d.set == "rl" and d.reason == "unparseable_gold"]
    assert [(d.where, d.hits) for d in listed] == [(f"{tmp_path / 'rl.jsonl'}, line {n}", "") for n in (1, 2, 4)]
    assert listed[-1].detail == "proof"
    assert f"{tmp_path / 'rl.jsonl'}, line 4: the answer cannot be graded, left out: 'proof'" in capsys.readouterr().out
    assert found.metrics().unparseable_gold == 6


# --- overlap -----------------------------------------------------------------------------------------------------------

EVAL = (
    r"Let $\triangle ABC$ have $AB = 5$ and let $D$ be the foot of the altitude from $A$. If the circle through $A$, $B$ and "
    r"$D$ has area $\frac{25}{4}\pi$, what is the length of the median from $C$ to the side $AB$?"
)
TRAIN = [
    # a train problem, the reason for which it is left out; None: it stays
    (EVAL, "exact"),
    (EVAL.upper(), "exact"),
    (EVAL.replace(" ", "  ").replace("$", " $ ") + "\n", "exact"),
    (EVAL.replace(r"\frac", r"\dfrac").replace("= 5", "\\, = \\; 5").replace("?", "."), "exact"),
    (EVAL.replace("$AB = 5$", "\\(AB=5\\)").replace("{25}", "{ 25 }"), "exact"),
    ("Consider the following. " + EVAL + " Give your answer as a decimal.", "ngram"),
    ("Here, " + EVAL[EVAL.index("let $D$") : EVAL.index("has area")] + " is drawn. What is its area?", "ngram"),
    ("Let $ABC$ be a triangle with $AB = 5$. What is the length of the median from $C$?", None),
    ("What is the sum of the first $20$ odd numbers?", None),
]


def test_what_is_an_eval_problem_and_what_is_not(tmp_path):
    rows = [{"id": str(i), "question": question, "answer": "3"} for i, (question, _) in enumerate(TRAIN)]
    found = import_math(params(tmp_path, train=rows, eval_own=[{"id": "e", "question": EVAL, "answer": "3"}]))
    reasons = {d.id: d.reason for d in found.dropped}
    assert [reasons.get(f"train-{i}") for i in range(len(TRAIN))] == [reason for _, reason in TRAIN]
    assert {d.hits for d in found.dropped} == {"eval_own:own-e"}
    assert [p.id for p in found.sets["train"]] == ["train-7", "train-8"]
    assert found.metrics().model_dump() == {"exact": 5, "ngram": 2, "repeated": 0, "unparseable_gold": 0}


def test_without_ngrams_only_equal_problems_go(tmp_path):
    rows = [{"question": "Consider the following. " + EVAL, "answer": "3"}, {"question": EVAL, "answer": "3"}]
    found = import_math(params(tmp_path, train=rows, eval_own=[{"question": EVAL, "answer": "3"}], ngram=0))
    assert [d.reason for d in found.dropped] == ["exact"]


def test_rl_is_cleaned_too_and_repeats_go(tmp_path):
    rows = [
        {"question": "What is $2+2$?", "answer": "4"},
        {"question": EVAL, "answer": "3"},
        {"question": "Is it $9$?", "answer": "9"},
    ]
    found = import_math(params(tmp_path, train=rows + rows[:1], rl=[*rows[:2], {"question": "Or $8$?", "answer": "8"}],
                               eval_own=[{"question": EVAL, "answer": "3"}] * 2))  # fmt: skip
    assert [(d.set, d.reason, d.hits) for d in found.dropped] == [
        ("eval_own", "repeated", "eval_own:own-000001"),
        ("train", "exact", "eval_own:own-000001"),
        ("train", "repeated", "train:train-000001"),
        ("rl", "exact", "eval_own:own-000001"),
        ("rl", "repeated", "train:train-000001"),
    ]
    assert [len(found.sets[name]) for name in ("eval_own", "train", "rl")] == [1, 2, 1]


def test_an_import_is_the_same_each_time(tmp_path):
    given = params(
        tmp_path, train=[{"question": q, "answer": "3"} for q, _ in TRAIN], eval_own=[{"question": EVAL, "answer": "3"}]
    )
    one, other = import_math(given), import_math(given)
    assert (one.sets, one.dropped) == (other.sets, other.dropped)


# --- what DVC sees -----------------------------------------------------------------------------------------------------


def test_a_source_that_dvc_does_not_watch_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/a.jsonl", GOOD)
    write(tmp_path / "b.jsonl", GOOD)
    watched = str(tmp_path / "in")
    assert notes_on("train", spec(path="a.jsonl"), watched) == []
    assert "DVC does not see an edit" in notes_on("train", spec(path=str(tmp_path / "b.jsonl")), watched)[0]
    assert "has no revision" in notes_on("train", spec(dataset="org/name"), watched)[0]
    assert notes_on("train", spec(dataset="org/name", revision="abc"), watched) == []


# --- Countdown ---------------------------------------------------------------------------------------------------------


def test_countdown_files_list_what_they_lose(tmp_path):
    files = {
        "eval_own": [{"id": "e", "numbers": [2, 5], "target": 7}],
        "train": [{"id": "a", "numbers": [4, 5], "target": 9}, {"id": "b", "numbers": [5, 2], "target": 7}],
        "rl": [{"id": "r", "numbers": [3, 5], "target": 8}, {"id": "s", "numbers": [5, 3], "target": 8}],
    }
    found = import_countdown(params(tmp_path, **files))
    assert {(d.id, d.set, d.reason, d.hits) for d in found.dropped} == {
        ("b", "train", "exact", "eval_own:e"),
        ("s", "rl", "repeated", "rl:r"),
    }
    assert [p.id for p in found.sets["train"]] == ["a"]
