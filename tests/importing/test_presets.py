"""Fields of a row: levels, questions in several columns, columns that belong to the question."""

import json

import pytest

from astro.importing.presets import map_of, read_row
from astro.importing.row_fields import Unreadable
from schemas.problems import FieldMap
from tests.importing.world import import_math, params_of, read_source, spec, write

LEVELS = [
    # as it stands in JSON, the level; None: it is none, so 1
    ("8.0", 8), ("5.0", 5), ("2.0", 2), ("5.25", 5), ("5.9", 5), ("3", 3), ("10", 10), ("1e1", 10),
    ('"3"', 3), ('"8.0"', 8), ('" 4 "', 4), ('"Level 5"', 5), ('"level 3"', 3), ('"Level: 2"', 2), ('"level_4"', 4),
    ('"Level-4"', 4), ('"L3"', 3), ('"lvl 7"', 7), ('"Difficulty 6.5"', 6), ('"Grade 5"', 5),
    ("-2", None), ("0", None), ("0.5", None), ("-2.0", None), ("NaN", None), ("Infinity", None), ("true", None),
    ('"AMC 12"', None), ('"AIME 2024"', None), ('"Level ?"', None), ('"Level -2"', None), ('"-2"', None), ('"hard"', None),
    ('"2024-03-01"', None), ('"3/5"', None), ('"1-2"', None), ('"Level 5 of 7"', None), ('""', None), ("[3]", None),
    ('"99999"', None), ("99999", None), ('{"value": 3}', None),
]  # fmt: skip


@pytest.mark.parametrize(("written", "level"), LEVELS)
def test_levels(tmp_path, capsys, written, level):
    content = f'{{"question": "Or $5$?", "answer": 5, "level": {written}}}\n'
    for name, text in (("a.jsonl", content), ("a.json", f"[{content}]")):
        write(tmp_path / name, text)
        (found,) = read_source("eval_s", spec(path=name), str(tmp_path))
        assert found.problem.level == (level or 1)
        assert ("is not a level" in capsys.readouterr().out) == (level is None)


def test_levels_in_columns_of_floats_and_texts(tmp_path):
    import datasets

    rows = {"question": ["a", "b", "c"], "answer": ["1", "2", "3"], "difficulty": [8.0, 5.25, None]}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "a.parquet"))
    write(tmp_path / "a.csv", "question,answer,difficulty\na,1,8.0\nb,2,5.25\nc,3,\n")
    for name in ("a.parquet", "a.csv"):
        found = read_source("eval_s", spec(dataset=name, fields={"level": "difficulty"}), str(tmp_path))
        assert [g.problem.level for g in found] == [8, 5, 1]


def test_levels_that_are_none_are_counted_and_the_first_is_told(tmp_path, capsys):
    rows = [{"question": f"Or ${i}$?", "answer": i, "grade": g} for i, g in enumerate(("AMC 12", "Level 3", "AMC 10"))]
    grade = {"fields": {"level": "grade"}}
    sets = {
        "train": {"path": write(tmp_path / "train.jsonl", rows), **grade},
        "rl": {"path": write(tmp_path / "rl.jsonl", [{"question": "rl?", "answer": 1}]), **grade},
        "eval_e": [{"question": "e?", "answer": 1}],
    }
    found = import_math(params_of(tmp_path, sets))
    assert found.metrics().default_level == 3
    out = capsys.readouterr().out
    assert (
        f"warning: train: 2 of 3 problems with an invalid level, which becomes 1; the first is "
        f"{tmp_path}/train.jsonl, line 1: str 'AMC 12' is not a level" in out
    )


ASKED = [
    # row, fields.question, the question that is asked
    ({"Body": "Mia has 9.", "Question": "How many?"}, "{Body} {Question}", "Mia has 9. How many?"),
    ({"Body": None, "Question": "How many?"}, "{Body} {Question}", "How many?"),
    ({"Body": "Mia has 9. ", "Question": "How many?"}, "{Body}\n{Question}", "Mia has 9.\nHow many?"),
    ({"q": "Which?", "options": ["9", "18"]}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "Which?", "options": ["A)9", "B)18"]}, "{q} {options}", "Which?\nA)9\nB)18"),
    ({"q": "Which?", "options": ["(a) 9", "(b) 18"]}, "{q}\n{options}", "Which?\n\n(a) 9\n(b) 18"),
    ({"q": "Which?", "options": [9, 0.5]}, "{q} {options}", "Which?\nA. 9\nB. 0.5"),
    ({"q": "Which?", "options": {"A": "9", "B": "18"}}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "Which?", "c": {"text": ["9", "18"], "label": ["1", "2"]}}, "{q} {c}", "Which?\n1. 9\n2. 18"),
    ({"q": "Which?", "c": [{"label": "A", "text": "9"}, {"label": "B", "text": "8"}]}, "{q} {c}", "Which?\nA. 9\nB. 8"),
    ({"q": "Which?", "options": []}, "{q} {options}", "Which?"),
    ({"q": "Which?", "A": "9", "B": "18"}, "{q} (A) {A} (B) {B}", "Which? (A) 9 (B) 18"),
    ({"q": "How fast?", "unit": "m/s"}, "{q} Answer in {unit}.", "How fast? Answer in m/s."),
    ({"question": {"stem": "Which?", "choices": ["x", "y"]}}, "{question.stem} {question.choices}", "Which?\nA. x\nB. y"),
    ({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}, "prompt[-1].content", "q"),
    ({"prompt": [{"role": "user", "content": "q"}]}, "prompt[0].content", "q"),
    ({"prompt": [{"role": "user", "content": "q"}]}, "Solve: {prompt[0].content}", "Solve: q"),
    ({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "prompt[user].content", "q"),
    ({"m": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "m[human].value", "q"),
    ({"prompt": '[{"role": "user", "content": "q"}]'}, "prompt[user].content", "q"),
    ({"prompt": "[{'role': 'user', 'content': 'it\\'s'}]"}, "prompt[user].content", "it's"),
    ({"prompt": "[{'role': 'user', 'content': 'say \"it\"'}]"}, "prompt[user].content", 'say "it"'),
    ({"q": "Which?", "options": "['9', '18']"}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "Which?", "options": "['A)9' 'B)18'\n 'C)20']"}, "{q} {options}", "Which?\nA)9\nB)18\nC)20"),
    ({"q": "Which?", "options": '{"A": "9", "B": "18"}'}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "How long is", "i": "[2, 3]"}, "{q} {i}?", "How long is [2, 3]?"),
    ({"q": "Which?", "options": [{"A": "9"}, {"B": "18"}]}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "Which?", "options": [["A", "9"], ["B", "18"]]}, "{q} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "Which?", "o": [{"id": "a", "content": "9"}, {"id": "b", "content": "8"}]}, "{q} {o}", "Which?\na. 9\nb. 8"),
    ({"QUESTION": "Which?", "Options": ["9", "18"]}, "{question} {options}", "Which?\nA. 9\nB. 18"),
    ({"q": "How fast?", "unit": "m/s"}, "{q}[[ Answer in {unit}.]]", "How fast? Answer in m/s."),
    ({"q": "How fast?", "unit": ""}, "{q}[[ Answer in {unit}.]]", "How fast?"),
    ({"q": "How fast?"}, "[[{context}\n]]{q}[[ Answer in {unit}.]]", "How fast?"),
    ({"a.b": "dotted", "a": {"b": "inner"}}, "a.b", "dotted"),
    ({"q": "Find $\\frac{1}{2}$ of {x}."}, "q", "Find $\\frac{1}{2}$ of {x}."),
]  # fmt: skip


@pytest.mark.parametrize(("row", "question", "asked"), ASKED)
def test_questions_from_columns(row, question, asked):
    found = read_row(row | {"answer": "1"}, map_of("plain", FieldMap(question=question)))
    assert found.question == asked


NOT_ASKED = [
    # row, fields.question, message
    ({"Question": "How many?"}, "{Bdy} {Question}", r"field 'Bdy': missing \(map plain\); the row has: Question, answer"),
    ({"q": []}, "q", "field 'q': expected a text that is not blank, got a list"),
    ({"q": "[{'role': 'user', 'content': 'q'}]"}, "q", r"field 'q': expected a text .*name one item, such as q\[user\]\.content"),
    ({"Body": "", "Question": None}, "{Body} {Question}", "expected a text that is not blank"),
    ({"q": "Which?", "options": True}, "{q} {options}", "field 'options': expected a text, a number or a list"),
    ({"q": "Which?", "options": [["9"], ["1", "2"]]}, "{q} {options}", "field 'options': expected options as a list of texts"),
    ({"prompt": [{"role": "user", "content": "q"}]}, "prompt[tool].content", r"field 'prompt\[tool\]\.content': missing"),
    ({"question": "q", "Question": "r"}, "QUESTION", r"field 'QUESTION': missing"),
    ({"prompt": [{"content": "q"}]}, "prompt[3].content", r"field 'prompt\[3\]\.content': missing"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "question", "expected"), NOT_ASKED)
def test_faults_of_questions_from_columns(row, question, expected):
    with pytest.raises(Unreadable, match=expected):
        read_row(row | {"answer": "1"}, map_of("plain", FieldMap(question=question)))


HALVES = [
    # row, fields, columns that are told, the remedy
    ({"Body": "Mia has 9.", "Question": "How many?"}, {"question": "Question"}, ("Body",), "{Body} {Question}"),
    ({"question": "Which?", "options": ["A)9", "B)18"]}, {}, ("options",), "{question} {options}"),
    ({"question": "Which?", "choices": {"text": ["9"], "label": ["A"]}}, {}, ("choices",), "{question} {choices}"),
    ({"question": "Which?", "context": "A bus.", "unit": "m/s"}, {}, ("context", "unit"), "{context} {question} {unit}"),
    ({"question": "Which?", "passage": "Once."}, {}, ("passage",), "{passage} {question}"),
    ({"q": "?", "option_a": "9", "option_b": "8"}, {"question": "q"}, ("option_a", "option_b"), "{q} (A) {option_a} (B) {option_b}"),  # noqa: E501
    ({"question": "Which?", "A": "9", "B": "8", "C": "7"}, {}, ("A", "B", "C"), "{question} (A) {A} (B) {B} (C) {C}"),
    ({"q": {"stem": "Which?", "choices": ["x"]}}, {"question": "q.stem"}, ("q.choices",), "{q.stem} {q.choices}"),
    ({"instruction": "Add.", "input": "2 and 3"}, {"question": "instruction"}, ("input",), "{instruction} {input}"),
    # nothing is lost
    ({"Body": "Mia has 9.", "Question": "How many?"}, {"question": "{Body} {Question}"}, (), ""),
    ({"question": "Which? A) 9 B) 18", "options": ["A) 9", "B) 18"]}, {}, (), ""),
    ({"question": "Which?", "context": None, "options": [], "unit": ""}, {}, (), ""),
    ({"question": "How many meters is that, in m?", "unit": "m"}, {}, (), ""),
    ({"question": "Which?", "solution": "...", "source": "x", "A": 1}, {}, (), ""),
    ({"question": "Which?", "options": ["9"]}, {"answer": "options"}, (), ""),
]  # fmt: skip


@pytest.mark.parametrize(("row", "fields", "told", "remedy"), HALVES)
def test_a_column_that_belongs_to_the_question_is_told(tmp_path, capsys, row, fields, told, remedy):
    row = {"answer": "1", **row}
    path = write(tmp_path / "a.jsonl", [row])
    (found,) = read_source("eval_s", spec(path=path, fields=fields), str(tmp_path))
    assert found.row.unread == told
    out = capsys.readouterr().out
    if not told:
        assert "half" not in out
        return
    assert (
        "1 of 1 problem perhaps without half of the question, the first: "
        f"{tmp_path}/a.jsonl, line 1: not read is {', '.join(told)};" in out
    )
    assert f'fields: {{question: "{remedy}"}}' in out
    (mended,) = read_source(
        "eval_s", spec(path=path, fields=fields | {"question": remedy}), str(tmp_path)
    )  # and it works
    assert mended.row.unread == ()
    assert json.dumps(mended.problem.question) != json.dumps(found.problem.question)


def test_answers_are_texts_numbers_or_one_of_a_list():
    def gold(value, several=""):
        return read_row({"question": "q", "answer": value}, map_of("plain", FieldMap(several=several))).gold

    given = (["24"], ["5", "5"], [7.0], [], None, "  x ", '["24"]', "['1/2']", "[1, 2]", ["24", None])
    assert [gold(v) for v in given] == ["24", "5", "7", None, None, "x", "24", "1/2", "[1, 2]", "24"]
    assert [gold(v, "all") for v in (["5", 4.0], "['5' '4']", ["5"], "5; 4")] == ["5, 4", "5, 4", "5", "5; 4"]
    for value in ({"value": "64"}, True, float("nan"), b"12", [["1"], ["2"]]):
        with pytest.raises(Unreadable, match="field 'answer': expected a text or a number"):
            gold(value)
