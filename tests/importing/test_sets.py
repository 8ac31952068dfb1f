"""Imports of whole sets: field maps on small files in the public formats, faults, golds, overlap with eval sets."""

import json
import re
from pathlib import Path

import pytest

from astro.importing.imported import Imported
from astro.importing.sources import notes_on
from astro.process import UserError
from schemas.problems import ProblemsParams
from tests.importing.world import import_math, params_of, read_source, spec, write


def params(folder: Path, *, ngram: int = 13, **files) -> ProblemsParams:
    """A train, an rl and an eval set in `folder`; each a list of rows, a text, or a whole entry of problems.files."""
    plain = {
        "train": [{"question": "What is $2+2$?", "answer": "4"}],
        "rl": [{"question": "What is $3+3$?", "answer": "6"}],
        "eval_own": [{"question": "What is $1+1$?", "answer": "2"}],
    }
    return params_of(folder, plain | files, ngram=ngram)


DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
OLYMPIAD = {
    "id": 1606, "subfield": "Algebra", "context": None, "question": "q", "solution": ["$\\boxed{x}$"], "final_answer": ["24"],
    "is_multiple_answer": False, "unit": None, "answer_type": "Numerical", "error": None, "question_type": "Open-ended",
}  # fmt: skip

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
    ("plain", [{"ID": 7, "Question": "q", "ANSWER": "1", "Level": "Level 3"}], [("s-7", "1", 3)]),
    ("openr1", [{"problem": "q", "solution": "...", "answer": "11", "question_type": "math-word-problem", "uuid": "u-1",
                 "problem_is_valid": "Yes", "solution_is_valid": "Yes", "generations": ["..."],
                 "messages": [{"role": "user", "content": "q"}]}], [("s-u-1", "11", 1)]),
    ("openr1", [{"problem": "q", "answer": "11"}], [("s-000001", "11", 1)]),
    ("aime2025", [{"question": "q", "answer": "070"}], [("s-000001", "070", 1)]),
    ("aime2025", [{"problem_idx": 1, "problem": "q", "answer": 70, "problem_type": ["Algebra"]}], [("s-1", "70", 1)]),
    ("svamp", [{"ID": "chal-1", "Body": " ", "Question": "q", "Equation": "( 8.0 - 3.0 )", "Answer": "5.0",
                "Type": "Subtraction", "question_concat": "q"}], [("s-chal-1", "5.0", 1)]),
    ("asdiv", [{"body": "", "question": "q", "solution_type": "Addition", "answer": "9 (apples)", "formula": "7+2=9"}],
     [("s-000001", "9 (apples)", 1)]),
    ("asdiv", [{"ID": "nluds-0001", "Grade": "3", "Body": "", "Question": "q", "Answer": "9 (apples)"}],
     [("s-nluds-0001", "9 (apples)", 3)]),
    ("aqua", [{"question": "q", "options": [], "rationale": "...", "correct": "E"}], [("s-000001", "E", 1)]),
    ("omnimath", [{"domain": ["Algebra"], "difficulty": 5.25, "problem": "q", "solution": "", "answer": "2", "source": "HMMT_2"}],
     [("s-000001", "2", 5)]),
    ("deepscaler", [{"problem": "q", "answer": "-\\frac{2}{3}", "solution": ""}], [("s-000001", "-\\frac{2}{3}", 1)]),
    ("bigmath", [{"problem": "q", "answer": "18", "source": "orca_math", "domain": ["Algebra"], "llama8b_solve_rate": 0.25}],
     [("s-000001", "18", 1)]),
    ("dapo17k", [{"data_source": "math_dapo", "prompt": [{"content": DAPO.format("q"), "role": "user"}], "ability": "MATH",
                  "reward_model": {"ground_truth": "34", "style": "rule"}, "extra_info": {"index": "9a9b"}}],
     [("s-9a9b", "34", 1)]),
    ("dapo17k", [{"prompt": "q", "solution": "34", "source_prompt": [{"content": DAPO.format("q"), "role": "user"}],
                  "reward_model": {"ground_truth": "34"}, "extra_info": {"index": "9a9b"}}], [("s-9a9b", "34", 1)]),
    ("dapo17k", [{"prompt": [{"content": "q", "role": "user"}, {"content": "34", "role": "assistant"}], "solution": "34"}],
     [("s-000001", "34", 1)]),
    ("olympiadbench", [OLYMPIAD], [("s-1606", "24", 1)]),
    ("olympiadbench", [OLYMPIAD | {"final_answer": ["5", "4"], "is_multiple_answer": True}], [("s-1606", "5, 4", 1)]),
    ("olympiadbench", [OLYMPIAD | {"final_answer": ["$-2,0,2$"], "modality": "Text-only"}], [("s-1606", "$-2,0,2$", 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "rows", "expected"), FORMATS)
def test_ready_maps(tmp_path, preset, rows, expected):
    path = write(tmp_path / "s.jsonl", rows)
    found = [g.problem for g in read_source("eval_s", spec(path=path, preset=preset), str(tmp_path))]
    assert [(p.id, p.gold, p.level) for p in found] == expected
    assert {(p.question, p.task, p.chance) for p in found} == {("q", "math", None)}


OLYMPIADS = [
    # what is different, the question, or why it is not read
    ({}, "q"),
    ({"context": "Let $n > 2$."}, "Let $n > 2$.\n\nq"),
    ({"unit": "$\\mathrm{~m}$"}, "q\n\nGive the answer in $\\mathrm{~m}$."),
    ({"error": "1e-2"}, "error is '1e-2'"),
    ({"question_type": "Theorem proof", "answer_type": None}, "question_type is 'Theorem proof'"),
    ({"answer_type": "Need_human_evaluate"}, "answer_type is 'Need_human_evaluate'"),
    ({"modality": "Multimodal"}, "modality is 'Multimodal'"),
]


@pytest.mark.parametrize(("change", "expected"), OLYMPIADS)
def test_questions_and_filters_of_olympiadbench(tmp_path, change, expected):
    path = write(tmp_path / "s.jsonl", [OLYMPIAD | change, OLYMPIAD | {"id": 2, "question": "other"}])
    found = Imported()
    first = read_source("eval_s", spec(path=path, preset="olympiadbench"), str(tmp_path), found)[0]
    assert expected == (found.dropped[0].detail if found.dropped else first.problem.question)
    assert first.row.unread == ()


def test_a_filter_of_the_user_takes_the_place_of_the_presets(tmp_path):
    rows = [
        {"problem": q, "answer": 1, "problem_is_valid": v, "solution_is_valid": v}
        for q, v in (("a", "Yes"), ("b", "No"))
    ]
    path = write(tmp_path / "s.jsonl", rows)

    def questions(**where):
        return [
            g.problem.question
            for g in read_source("eval_s", spec(path=path, preset="openr1", where=where), str(tmp_path))
        ]

    assert questions() == ["a"]
    assert questions(problem_is_valid=[], solution_is_valid=["Yes", "No"]) == ["a", "b"]
    assert questions(problem_is_valid="No", solution_is_valid=[]) == ["b"]


def test_filtered_rows_are_counted_apart(tmp_path, capsys):
    rows = [{"question": f"Is it ${i}$?", "answer": i, "ok": i % 3 == 0} for i in range(9)]
    entry = {"path": write(tmp_path / "t.jsonl", rows), "where": {"ok": True}, "strict": True}
    found = import_math(params(tmp_path, train=entry))
    assert [p.id for p in found.sets["train"]] == ["train-000001", "train-000004", "train-000007"]
    assert (found.metrics().filtered, found.metrics().unreadable) == (6, 0)
    assert {(d.reason, d.detail) for d in found.dropped} == {("filtered", "ok is False")}
    out = capsys.readouterr().out
    assert "train: 3 of 9 rows of t.jsonl kept; left out: 6 filtered" in out
    assert "line 2" not in out


ANSWERS = [
    # answers, fields.several, the gold; None: left out
    (["1/2", "0.5", "\\frac12"], "", "1/2"),
    (["5", "4"], "", None),
    (["5", "4"], "all", "5, 4"),
    ("['5' '4']", "all", "5, 4"),
    (["5", "proof"], "", "5"),
]


@pytest.mark.parametrize(("answers", "several", "gold"), ANSWERS)
def test_several_answers(tmp_path, answers, several, gold):
    rows = [{"question": "Which?", "answer": answers}, {"question": "And?", "answer": 1}]
    entry = {"path": write(tmp_path / "t.jsonl", rows), "fields": {"several": several}}
    found = import_math(params(tmp_path, train=entry))
    assert [p.gold for p in found.sets["train"]] == ([gold, "1"] if gold else ["1"])
    assert [d.reason for d in found.dropped] == ([] if gold else ["unreadable"])


def test_a_set_of_several_answers_alone_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"line 1: field 'answer': .*set fields\.several to all"):
        import_math(params(tmp_path, train=[{"question": "Which?", "answer": [1, 2]}]))


def test_texts_around_a_question_are_taken_off(tmp_path):
    wrapped = [f"Solve it:\n\n {q}  Let's think   step by step." for q in ("Why?", "Solve it: how?")]
    rows = [{"question": q, "answer": 1} for q in (*wrapped, "As it is.", "Solve it: ")]
    fields = {"trim": ["Solve it:", "Let's think step by step."]}
    found = Imported()
    given = read_source("eval_s", spec(path=write(tmp_path / "s.jsonl", rows), fields=fields), str(tmp_path), found)
    assert [g.problem.question for g in given] == ["Why?", "Solve it: how?", "As it is."]
    assert [d.detail for d in found.dropped] == ["no question remains after the texts of fields.trim are removed"]


def test_the_archive_of_math(tmp_path):
    """A folder per subject, a file per problem, on one line or several."""
    for subject, indent in (("algebra", None), ("geometry", 4)):
        (tmp_path / "MATH/train" / subject).mkdir(parents=True)
        for i in (1, 2):
            row = {
                "problem": f"{subject} {i}",
                "level": f"Level {i}",
                "type": subject,
                "solution": f"So $\\boxed{{{i}}}$.",
            }
            (tmp_path / f"MATH/train/{subject}/{i}.json").write_text(json.dumps(row, indent=indent))
    (tmp_path / "MATH/train/geometry/3.json").write_text('{\n"problem": "cut')
    whole = [("algebra 1", "1", 1), ("algebra 2", "2", 2), ("geometry 1", "1", 1), ("geometry 2", "2", 2)]
    for given, expected in (("MATH", whole), ("MATH/train", whole), ("MATH/train/geometry", whole[2:])):
        found = Imported()
        read = read_source("eval_s", spec(dataset=given, preset="math"), str(tmp_path), found)
        assert [(g.problem.question, g.problem.gold, g.problem.level) for g in read] == expected
        assert [g.problem.id for g in read] == [f"s-{n:06d}" for n in range(1, len(expected) + 1)]
        assert [d.where for d in found.dropped] == ([f"{tmp_path}/MATH/train/geometry/3.json, line 1"])


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
    with pytest.raises(UserError, match="contains no problem from row 11 on for set 'rl'"):
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
    ({"dataset": "set"}, r"has the splits train, test; choose one in split"),
    ({"dataset": "set", "split": "valid"}, r"there is no split 'valid'; available: train, test"),
    ({"dataset": "saved"}, r"written by save_to_disk, .*; write it as Parquet"),
    ({"dataset": "set/train.jsonl", "split": "test"}, r"is a file; remove config and split"),
    (
        {"dataset": "none/such-data-set", "split": "test"},
        r"dataset none/such-data-set: cannot be loaded: .*check the name and the network",
    ),
]


@pytest.mark.parametrize(("given", "expected"), DATASETS)
def test_faults_of_datasets(tmp_path, monkeypatch, given, expected):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"question": ["q"], "answer": ["1"]}).save_to_disk(str(tmp_path / "saved"))
    for split in ("train", "test"):
        write(tmp_path / f"set/{split}.jsonl", [{"question": "q", "answer": "1"}])
    with pytest.raises(UserError, match=rf"problems\.files\.eval_s: .*{expected}"):
        read_source("eval_s", spec(**given), str(tmp_path))


# --- faults ------------------------------------------------------------------------------------------------------------

GOOD = '{"id": "a", "question": "What is $5+5$?", "answer": "10"}\n'

FAULTS = [
    # content of train.jsonl, of which no row can be read; the entry beside its path; message
    ("", {}, r"train\.jsonl: contains no problem for set 'train'"),
    ("\n \n", {}, r"train\.jsonl: contains no problem"),
    ('{"id": "b", "que\n', {}, r"train\.jsonl, line 1: invalid JSON"),
    ('{"id": "b", "que', {}, r"line 1: invalid JSON.*cut short"),
    ("\n7\n[1, 2]\n[3]\n", {}, r"line 3: expected a JSON object with named fields, got list \(none of 3 rows of set 'train'"),
    ("[" * 100_000 + "\n", {}, r"line 1: nested too deeply"),
    (
        '{"question": "q"}\n',
        {},
        r"line 1: field 'answer': missing \(map plain\); the row has: question; set fields\.answer to the right column$",
    ),
    (
        '{"answer": "1", "text": "q"}\n',
        {},
        r"field 'question' or 'problem': missing .*: answer, text; set fields\.question to the right column$",
    ),
    ('{"question": "q", "answer": "1"}\n', {"preset": "math"}, r"line 1: field 'problem': missing \(map math\)"),
    ('{"question": "  ", "answer": "1"}\n', {}, r"line 1: field 'question': expected a text that is not blank, got str '  '"),
    ('{"question": null, "answer": "1"}\n', {}, r"line 1: field 'question': expected a text .*got nothing"),
    ('{"question": 7, "answer": "1"}\n', {}, r"line 1: field 'question': expected a text .*got int 7"),
    ('{"question": "\\ud800", "answer": "1"}\n', {}, r"line 1: field 'question': invalid text"),
    ('{"question": "q", "answer": {"a": 1}}\n', {}, r"line 1: field 'answer': expected .*, got an object .*answer\.a$"),
    ('{"question": "q", "answer": {"value": "1"}}\n', {"fields": {"answer": "answer.val"}}, r"field 'answer\.val': missing"),
    ('{"question": [{"role": "user", "content": "q"}], "answer": "1"}\n', {}, r"got a list .*such as question\[user\]\.content$"),
    ('{"question": "q", "answer": true}\n', {}, r"line 1: field 'answer': expected a text or a number, got bool True"),
    ('{"id": [1], "question": "q", "answer": "1"}\n', {}, r"line 1: field 'id': expected an id .*list.*set fields\.id to false"),
    (GOOD, {"fields": {"id": "uid"}}, r"line 1: field 'uid': expected an id .*got nothing"),
    (GOOD, {"preset": "gsm8k"}, r"of 1 problems for set 'train' none has an answer .*; check problems\.files\.train\.preset"),
    ('{"v": 1, "rows": [{"question": "q", "answer": "1"}]}\n', {}, r"missing.*if 'rows' contains the rows, write only these"),
    (
        GOOD.replace("5+5", "1 + 1"),
        {},
        r"train\.jsonl: set 'train' would be empty, .* in an eval set",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "entry", "expected"), FAULTS)
def test_a_set_without_a_readable_row_names_file_line_field_and_remedy(tmp_path, content, entry, expected):
    write(tmp_path / "train.jsonl", content)
    for key in ("path", "dataset"):
        with pytest.raises(UserError) as caught:
            import_math(params(tmp_path, train={key: "train.jsonl", **entry}))
        assert re.search(expected, str(caught.value)), caught.value
        assert "\n" not in str(caught.value)


BAD_ROWS = [
    # a line between good ones, what is told of it
    ('{"id": "b", "que', "invalid JSON"),
    ("# a remark", "invalid JSON"),
    ("[1, 2]", "expected a JSON object with named fields, got list"),
    ("[" * 5000 + "]" * 5000, "nested too deeply"),
    (
        '{"question": "Is it?", "answer": ["4", "5"]}',
        "field 'answer': expected a text or a number, got a list of different answers, '4' and '5'; ",
    ),
    ('{"question": "Is it?", "answer": NaN}', "field 'answer': expected a text or a number, got float nan"),
    ('{"question": "Is it?", "answer": -Infinity}', "got float -inf"),
    ('{"question": "Is it?", "answer": true}', "got bool True"),
    ('{"question": "Is it?"}', "field 'answer': missing (map plain); the row has: question"),
    ('{"question": "Is it?", "answer": "1", "id": ""}', "field 'id': expected an id"),
    ('{"question": "Is it?", "answer": "1", "id": false}', "field 'id': expected an id"),
    ('{"question": "Is it?", "answer": "1", "id": "g1"}', "field 'id': 'g1' occurs already in"),
    ('{"question": "Is it?", "answer": "1", "answer": "2"}', "field 'answer': occurs twice in one object"),
    ('{"question": "Is it?", "answer": "1", "meta": {"k": 1, "k": 1}}', "field 'k': occurs twice in one object"),
    ('{"question": "Is it \udcff?", "answer": "1"}', "the text is not UTF-8"),
    ('{"question": "Is it?", "answer": ' + "9" * 5000 + "}", "invalid JSON"),
    ('{"question": "Is it?", "answer": 1e99999999999999999999}', "invalid JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), BAD_ROWS)
def test_a_bad_row_is_left_out_and_told(tmp_path, capsys, line, told):
    good = [json.dumps({"id": f"g{i}", "question": f"What is ${i}+5$?", "answer": i + 5}) for i in range(300)]
    text = "\n".join([*good[:150], line, *good[150:]]) + "\n"
    found = import_math(params(tmp_path, train=text))
    assert [p.id for p in found.sets["train"]] == [f"train-g{i}" for i in range(300)]
    (dropped,) = found.dropped
    assert (dropped.set, dropped.reason, dropped.where) == (
        "train",
        "unreadable",
        f"{tmp_path / 'train.jsonl'}, line 151",
    )
    assert told in dropped.detail
    assert found.metrics().unreadable == 1
    out = capsys.readouterr().out
    assert f"{tmp_path / 'train.jsonl'}, line 151: left out: " in out
    assert "[problems] train: 300 of 301 rows of train.jsonl kept; left out: 1 unreadable" in out
    with pytest.raises(UserError, match=r"train\.jsonl, line 151: .*\(problems\.files\.train\.strict\)"):
        import_math(params(tmp_path, train={"path": "train.jsonl", "strict": True}))


def test_many_bad_rows_are_counted_and_the_first_are_listed(tmp_path, capsys):
    rows = [{"question": f"What is ${i}$?", "answer": [1, 2]} for i in range(2500)]
    found = import_math(params(tmp_path, train=[*rows, {"question": "What is $7$?", "answer": 7}]))
    assert found.metrics().unreadable == 2500
    assert len(found.dropped) == 1000
    assert len(capsys.readouterr().out.splitlines()) < 40


def test_copies_of_a_row_are_counted_and_not_listed_without_end(tmp_path):
    rows = [{"question": f"What is ${i}$?", "answer": i} for i in range(20)]
    found = import_math(params(tmp_path, train=rows * 100))
    assert found.metrics().repeated == 20 * 99
    assert (len(found.sets["train"]), len(found.dropped)) == (20, 1000)


def test_ids_can_be_switched_off(tmp_path):
    rows = [{"id": "same", "question": "Is it $1$?", "answer": 1}, {"id": "same", "question": "Or $2$?", "answer": 2}]
    found = import_math(params(tmp_path, train={"path": write(tmp_path / "t.jsonl", rows), "fields": {"id": False}}))
    assert [p.id for p in found.sets["train"]] == ["train-000001", "train-000002"]
    assert found.dropped == []


CONTRADICTIONS = [
    # answers to one question, are they one answer
    (["71", "72"], False),
    (["1/2", "0.5"], True),
    ([r"\frac{1}{2}", r"\dfrac12", "0.5"], True),
    (["5", "5", "6"], False),
    (["5", "proof"], True),  # one of them is none
]


@pytest.mark.parametrize(("answers", "one"), CONTRADICTIONS)
def test_a_question_with_two_answers_is_in_no_set(tmp_path, capsys, answers, one):
    asked = ["How many?", "how  many", "How many ?"]
    rows = [{"id": i, "question": q, "answer": a} for i, (q, a) in enumerate(zip(asked, answers, strict=False))]
    found = import_math(params(tmp_path, eval_own=[*rows, {"id": "z", "question": "What is $1+1$?", "answer": "2"}]))
    kept = [p.id for p in found.sets["eval_own"]]
    assert kept == (["own-0", "own-z"] if one else ["own-z"])
    assert found.metrics().contradictory == (0 if one else len(answers))
    if not one:
        own, other = (d for d in found.dropped[:1] + found.dropped[-1:])
        assert (own.reason, own.hits, other.hits) == (
            "contradictory",
            f"eval_own:own-{len(answers) - 1}",
            "eval_own:own-0",
        )
        assert (
            f"both left out, because one question has two answers: '{answers[0]}' here, '{answers[-1]}' in"
            in capsys.readouterr().out
        )


def test_rows_of_one_id_that_ask_the_same(tmp_path):
    rows = [{"id": "a", "question": q, "answer": a} for q, a in (("How many?", "71"), ("How  many", "72"))]
    rows += [{"id": "b", "question": q, "answer": "5"} for q in ("Who?", "who")]
    found = import_math(params(tmp_path, eval_own=rows))
    assert [p.id for p in found.sets["eval_own"]] == ["own-b"]
    assert [(d.id, d.reason) for d in found.dropped] == [
        ("own-a", "contradictory"),
        ("own-a#2", "contradictory"),
        ("own-b#4", "repeated"),
    ]


def test_train_and_rl_contradict_each_other(tmp_path):
    rows = [{"question": "Is it $9$?", "answer": "9"}, {"question": "Or $8$?", "answer": "8"}]
    found = import_math(
        params(tmp_path, train=rows, rl=[rows[0] | {"answer": "8"}, {"question": "Or $7$?", "answer": "7"}])
    )
    assert [p.gold for name in ("train", "rl") for p in found.sets[name]] == ["8", "7"]
    assert [(d.set, d.reason, d.hits) for d in found.dropped] == [
        ("train", "contradictory", "rl:rl-000001"),
        ("rl", "contradictory", "train:train-000001"),
    ]


def test_a_leak_with_another_answer_says_so(tmp_path):
    rows = [{"question": "What is $1+1$?", "answer": "3"}, {"question": "Or $8$?", "answer": "8"}]
    (dropped,) = import_math(params(tmp_path, train=rows)).dropped
    assert (dropped.reason, dropped.detail) == ("exact", "'3' here, '2' there")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        import_math(params(tmp_path, train={"path": "nowhere.jsonl"}))
    with pytest.raises(UserError, match=r"no such file \(it is a folder; name it in dataset instead of path\)"):
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
    assert (
        f"{tmp_path / 'rl.jsonl'}, line 4: left out, because the answer cannot be graded: 'proof'"
        in capsys.readouterr().out
    )
    assert found.metrics().unparseable_gold == 6


@pytest.mark.parametrize(
    "gold", ["3-Apr", "Apr-3", "4-Mar-24", "2024-03-04", "2024-03-04 00:00:00", "3/4/2024", "#REF!", "####"]
)
def test_what_a_spreadsheet_made_of_an_answer_is_none(tmp_path, gold):
    rows = [{"question": "What is three quarters?", "answer": gold}, {"question": "And a half?", "answer": "3/4"}]
    found = import_math(params(tmp_path, train=rows))
    assert [(d.reason, d.detail) for d in found.dropped] == [("unparseable_gold", gold)]


def test_a_question_that_no_model_reads_is_kept_with_a_warning(tmp_path, capsys):
    rows = [{"question": f"Add up {i}: " + "1 " * 200_000, "answer": "200000"} for i in range(3)]
    found = import_math(params(tmp_path, train=rows))
    assert len(found.sets["train"]) == 3
    assert found.metrics().long_question == 3
    out = capsys.readouterr().out
    assert "warning: train: 3 of 3 questions too long for most models, the first is " in out
    assert "train.jsonl, line 1: 400,009 characters;" in out


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
    counts = {name: count for name, count in found.metrics().model_dump().items() if count}
    assert counts == {"exact": 5, "ngram": 2}


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
        ("train", "repeated", "train:train-000001"),
        ("train", "exact", "eval_own:own-000001"),
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
    assert "DVC does not notice edits" in notes_on("train", spec(path=str(tmp_path / "b.jsonl")), watched)[0]
    assert "has no revision" in notes_on("train", spec(dataset="org/name"), watched)[0]
    assert notes_on("train", spec(dataset="org/name", revision="abc"), watched) == []
