"""A task in one file: what it may be, what happens when its code misbehaves, and what the check says of it."""

import json
import textwrap
from pathlib import Path

import pytest

from astro.code_identity import ROOT, Sources
from astro.params import load_params
from astro.process import UserError
from astro.task_check import check_task, main
from astro.tasks import TaskError, get_task
from astro.tasks.user import task as user_task
from astro.tasks.user.code import HOME
from astro.training.model_checks import prompt_tokens
from schemas.problems import EvalSet
from schemas.records import Problem

SUMS = "examples/sums.py"
PARAMS = load_params()
WORLD = PARAMS.problems.model_copy(
    update={"train": 12, "rl": 5, "levels": {"2": 1.0}, "eval": {"two": EvalSet(level=2, size=6)}}
)

MINIMAL = """
    from astro.tasks import Task
    class T(Task):
        def problem(self, random, level):
            return {"question": f"double {random.randint(1, 10**6)}", "gold": "x"}
        def score(self, problem, answer):
            return answer == problem.gold
"""


@pytest.fixture
def write(tmp_path):
    """Writes a task's file; its path."""

    def written(code: str, name: str = "own.py") -> str:
        (tmp_path / name).write_text(textwrap.dedent(code))
        return str(tmp_path / name)

    return written


@pytest.fixture
def short(monkeypatch):
    """Limits that end soon, in workers of this test alone."""
    monkeypatch.setattr(user_task, "TIME_LIMIT", 0.5)
    monkeypatch.setattr(user_task, "MEMORY_LIMIT", 1 << 29)
    user_task.pool.cache_clear()
    yield
    user_task.pool(HOME, Path.cwd()).close()
    user_task.pool.cache_clear()


def own(write, body: str, name: str = "own.py"):
    """The minimal task with its class changed."""
    return get_task(write(textwrap.dedent(MINIMAL) + textwrap.indent(textwrap.dedent(body), "    "), name))


def asked(question="add 1 2", gold="3", **more) -> Problem:
    return Problem(id="p", task=SUMS, question=question, gold=gold, level=1, chance=None, **more)


# --- what a task is ----------------------------------------------------------------------------------------------------


def test_sets_are_made_once_and_apart():
    task = get_task(SUMS)
    sets, _ = task.make_sets(WORLD, 3)
    assert {name: len(found) for name, found in sets.items()} == {"eval_two": 6, "train": 12, "rl": 5}
    questions = [p.question for found in sets.values() for p in found]
    assert len(set(questions)) == 23
    assert task.make_sets(WORLD, 3)[0] == sets
    assert task.make_sets(WORLD, 4)[0] != sets
    assert {p.task for p in sets["train"]} == {SUMS}


def test_the_corpus_holds_no_eval_problem_and_its_words_make_the_vocabulary():
    task = get_task(SUMS)
    corpus = PARAMS.base.corpus.model_copy(update={"levels": {"1": 1.0}})
    excluded = [asked(f"add {a} {b}", str(a + b)) for a in range(1, 51) for b in range(1, 26)]
    documents = [text for text, _ in zip(task.corpus(corpus, {}, excluded, 1), range(300), strict=False)]
    assert all(int(text.split("\n")[0].split()[2]) > 25 for text in documents)
    assert {"add", "Answer:", "\n", "+", "="} <= set(task.vocabulary({}, documents))
    assert "Tried:" in task.vocabulary({}, documents), "chains that go back hold it, the corpus does not"


def test_answers_are_graded_and_what_cannot_be_read_is_told_once(caplog):
    task = get_task(SUMS)
    verdicts = task.grade_answers([asked()] * 5, ["3", "4", "three", None, "drei"])
    assert verdicts == [
        "correct",
        "wrong",
        "unparseable_prediction",
        "unparseable_prediction",
        "unparseable_prediction",
    ]
    (told,) = caplog.messages
    assert "examples/sums.py, line " in told
    assert "ValueError" in told


def test_a_chain_that_goes_back_is_read_by_the_steps_that_it_writes_again():
    task = get_task(SUMS)
    problem = asked("add 1 2 3", "6")
    text = "1 + 2 = 3\n3 + 3 = 7\nTried: 7\nadd 1 2 3\n1 + 2 = 3\n3 + 3 = 6\nAnswer: 6"  # the second step was wrong
    chain = task.parse_chain(problem, text)
    assert [node.text for node in chain.nodes] == ["1 + 2 = 3", "3 + 3 = 7", "Tried: 7", "3 + 3 = 6", "Answer: 6"]
    assert [node.parent for node in chain.nodes] == [-1, 0, 1, 0, 3]
    assert [node.valid for node in chain.nodes] == [True, False, True, True, True]
    assert (chain.back_edges, chain.attempts, chain.unparsed) == ([(2, 0)], [2, 4], 0)
    assert [chain.nodes[i].right for i in chain.attempts] == [False, True]


def test_a_question_of_several_lines_is_known_when_it_is_asked_again(write):
    task = own(write, 'def ask(self, problem):\n    return f"first\\n{problem.question}\\n"')
    problem = asked("second")
    text = task.response(["a", task.abandoned("Answer: no")[0]]) + task.restate(problem, []) + "b\nAnswer: x"
    chain = task.parse_chain(problem, text)
    assert [(n.text, n.parent) for n in chain.nodes] == [("a", -1), ("Tried: no", 0), ("b", -1), ("Answer: x", 2)]


def test_options_reach_the_task_and_unknown_ones_are_refused(write):
    body = 'defaults = {"largest": 5}\ndef ask(self, problem):\n    return f"up to {self.options[\'largest\']}"'
    path = own(write, body).name
    assert get_task(path + ' {"largest": 9}').prompt(asked()) == "up to 9\n"
    with pytest.raises(UserError, match=r"run.options.largst: .*own.py has no such option; it has: largest"):
        get_task(path + ' {"largst": 9}')


def test_the_example_for_dry_runs_has_a_level_of_the_run(write, tmp_path):
    """A task need not know level 1."""
    code = textwrap.dedent(MINIMAL).replace("return {", "assert level >= 4; return {", 1)
    path = write(code.replace("double {", "level {level}: {"))
    assert get_task(path).example(4).question.startswith("level 4: ")
    levels = {"5": 0.5, "3": 0.0, "4": 0.5}
    params = PARAMS.model_copy(
        update={
            "run": PARAMS.run.model_copy(update={"task": path}),
            "problems": PARAMS.problems.model_copy(update={"levels": levels}),
        }
    )
    assert prompt_tokens(None, params, None) == 0


def test_data_of_a_problem_reaches_the_score(write):
    task = own(write, "def score(self, problem, answer):\n    return problem.data['right'] == answer")
    assert task.grade(asked(data={"right": "7"}), "7") == "correct"


def test_the_file_and_what_it_imports_are_part_of_the_identity(write, tmp_path):
    write("LIMIT = 1\n", "helper.py")
    path = write("import helper\n" + textwrap.dedent(MINIMAL))
    before = Sources(ROOT).identity("mcts", path)
    assert {path, str(tmp_path / "helper.py")} <= before.keys()
    assert not [name for name in before if "tasks/countdown" in name or "tasks/math" in name]
    write("LIMIT = 1  # a comment\n", "helper.py")
    assert Sources(ROOT).identity("mcts", path) == before
    write("LIMIT = 2\n", "helper.py")
    assert Sources(ROOT).identity("mcts", path) != before
    assert not [name for name in Sources(ROOT).identity("mcts", "countdown") if "tasks/user" in name]


# --- bad files ---------------------------------------------------------------------------------------------------------

BAD_FILES = [
    ("class T(", r"own.py, line 1: '\(' was never closed"),
    ("import astro.tasks\n1 / 0", r"own.py, line 2: ZeroDivisionError: division by zero"),
    ("import no_such_package", r"own.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"),
    ("x = 1", r"expected one class that subclasses astro.tasks.Task, found none"),
    ("from astro.tasks import Task\nclass A(Task): pass", r"class A has no score\(self, problem, answer\)"),
    (
        "from astro.tasks import Task\nclass A(Task):\n    def score(self, p, a): return 1\nclass B(Task): pass",
        r"found 2: A, B; keep one",
    ),
    (
        "from astro.tasks import Task\nclass A(Task):\n    def score(self, p, a): return 1\n    def prompt(self, p): return ''",
        r"class A overrides prompt, which a task may not override",
    ),
    (
        "from astro.tasks import Task\nclass A(Task):\n    answer_mark = ' '\n    def score(self, p, a): return 1",
        r"answer_mark is empty",
    ),
    ("import sys\nsys.exit(0)", r"own.py, line 2: SystemExit"),
    (
        "from astro.tasks import Task\nclass A(Task):\n    def score(self, p, a): return 1\n    soluton = None",
        r"class A has soluton; did you mean solution\?",
    ),
]


@pytest.mark.parametrize(("code", "said"), BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(write, code, said):
    with pytest.raises(UserError, match=said) as refused:
        get_task(write(code))
    assert "\n" not in str(refused.value)


def test_a_path_is_read_in_the_working_folder_of_its_task(write, tmp_path, monkeypatch):
    """The workers of the first task have their own working folder, and outlive a change of it."""
    for name, line in (("one", "from the first folder"), ("two", "from the second")):
        (tmp_path / name).mkdir()
        write(MINIMAL.replace("(Task):", f"(Task):\n        '{line}'"), f"{name}/own.py")
        monkeypatch.chdir(tmp_path / name)
        assert get_task("own.py").about == line


def test_no_file_and_an_unknown_name():
    with pytest.raises(UserError, match=r"run.task: nowhere/own.py: no such file"):
        get_task("nowhere/own.py")
    with pytest.raises(ValueError, match=r"run\.task: unknown task 'chess'; available: countdown, math"):
        get_task("chess")


def test_a_file_that_loops_or_takes_all_memory_when_it_is_loaded(write, short):
    with pytest.raises(UserError, match="loading failed: it ran longer than"):
        get_task(write("while True: pass"))
    with pytest.raises(UserError, match="loading failed: it took more than"):
        get_task(write("x = bytearray(1 << 33)", "large.py"))


# --- code that misbehaves ----------------------------------------------------------------------------------------------


def test_a_score_that_loops_crashes_or_exits_is_no_verdict_and_the_others_stand(write, short, caplog):
    task = own(
        write,
        """
        def score(self, problem, answer):
            import ctypes, os, sys
            if answer == "loop":
                while True: pass
            if answer == "crash": ctypes.string_at(0)
            if answer == "exit": sys.exit(3)
            if answer == "memory": return bytearray(1 << 33) is None
            if answer == "nan": return float("nan")
            return answer == problem.gold
        """,
    )
    answers = ["3", "loop", "crash", "exit", "memory", "nan", "4", "3"]
    good = ["correct", *["unparseable_prediction"] * 5, "wrong", "correct"]
    assert task.grade_answers([asked()] * 8, answers) == good
    assert len(caplog.messages) == 1


NO_SCORES = [
    # what score() returns, words of the warning
    ('float("nan")', "finite number, not nan"),
    ('float("inf")', "finite number, not inf"),
    ('float("-inf")', "finite number, not -inf"),
    ("None", "not None"),
    ('"1"', "not '1'"),
    ('"yes"', "not 'yes'"),
    ("[1.0]", "TypeError"),
    ("1j", "TypeError"),
    ("1 / 0", "ZeroDivisionError"),
]


@pytest.mark.parametrize(("value", "words"), NO_SCORES)
def test_what_is_no_score_is_never_right_and_is_said(write, caplog, value, words):
    task = own(
        write, f"def score(self, problem, answer): return {value} if answer == 'odd' else answer == problem.gold"
    )
    unread = "unparseable_prediction"
    assert task.grade_answers([asked()] * 3, ["odd", "3", "odd"]) == [unread, "correct", unread]
    (said,) = caplog.messages
    assert words in said
    assert "(in score); the answer counts as unreadable" in said


def test_what_it_prints_and_forks_does_not_reach_us(write, capfd, tmp_path):
    task = own(
        write,
        f"""
        def score(self, problem, answer):
            import os
            print("hello from the task")
            if os.fork() == 0:
                open({str(tmp_path / "child")!r}, "w").close()
            return answer == problem.gold
        """,
    )
    assert task.grade_answers([asked()] * 3, ["3", "4", "3"]) == ["correct", "wrong", "correct"]
    assert "hello" not in capfd.readouterr().out
    assert not (tmp_path / "child").exists()


def test_an_edit_during_a_run_is_told(write):
    path = write(MINIMAL)
    task = get_task(path)
    write(MINIMAL + "\n# edited\n")
    with pytest.raises(UserError, match="was edited while the stage ran; run the stage again"):
        task.problem_many([("a", 1)])


def test_too_few_different_problems_are_told(write):
    task = own(write, "def problem(self, random, level):\n    return {'question': random.choice('ab'), 'gold': 'x'}")
    with pytest.raises(TaskError, match="200 draws in a row gave no new problem of level 2"):
        task.make_sets(WORLD, 1)


def test_without_problem_or_solution_it_says_what_to_do(write):
    task = get_task(write("from astro.tasks import Task\nclass A(Task):\n    def score(self, p, a): return 1"))
    with pytest.raises(
        TaskError, match=r"has no problem\(self, random, level\); define it, or set problems.source to files"
    ):
        task.make_sets(WORLD, 1)
    with pytest.raises(TaskError, match="define it, or use a pretrained base without a warm-up"):
        task.solutions(["a"], [asked()])


def test_a_problem_that_is_none_is_told(write):
    task = own(write, "def problem(self, random, level):\n    return {'question': 'q', 'answer': 3}")
    with pytest.raises(TaskError, match=r'problem\(\) must return {"question": text, "gold": text}'):
        task.make_sets(WORLD, 1)


# --- the check ---------------------------------------------------------------------------------------------------------

GOOD = [SUMS]

FAULTS = [
    ("def score(self, problem, answer):\n    return True", "nonsense is graded right"),
    ("def score(self, problem, answer):\n    return False", "gold answers that are graded right: 0 of 20"),
    (
        "def problem(self, random, level):\n    import os\n    return {'question': os.urandom(4).hex(), 'gold': 'x'}",
        "problem() gives different problems for the same seed",
    ),
    (
        "def problem(self, random, level):\n    return {'question': 'q', 'gold': 'x'}",
        "check that problem() uses `random`",
    ),
    (
        "def ask(self, problem):\n    import os\n    return os.urandom(4).hex()",
        "ask() gives a different text at each call",
    ),
    ("def ask(self, problem):\n    return 'solve it'", "different problems have the same prompt"),
    ("def extract(self, text):\n    return text.split()[-1]", "FAULT  only the last of the steps"),
    ("def solution(self, random, problem):\n    return ['a', 'b']", "the steps of solution() must not contain"),
    ("def solution(self, random, problem):\n    return ['a', 'Answer: y']", "no solution is right"),
    ("answer_end = '.'\nstep_end = 'x'", "FAULT  steps"),
    ("def score(self, problem, answer):\n    return nothing", "NameError: name 'nothing' is not defined (in score)"),
    (
        "def solution(self, random, problem):\n    return ['a', 'Answer: x']\ndef state_key(self, steps):\n    return None",
        "state_key() fails on a step",
    ),
    (
        "def solution(self, random, problem):\n    return ['a', 'Answer: x']\ndef valid(self, problem, steps):\n    return False",
        "right solutions with a step that valid() rejects: 20 of 20",
    ),
]


@pytest.mark.parametrize(("body", "said"), FAULTS)
def test_the_check_finds_what_would_spoil_a_run(write, body, said):
    report, _ = check_task(own(write, body), level=1)
    assert report.faults
    assert [line for line in report.lines if said in line], report.lines


def test_the_check_passes_a_good_task(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["astro check", SUMS, "--level", "2", "--show", "2"])
    assert main() == 0
    said = capsys.readouterr().out
    assert "no fault" in said
    assert "--- check-01, level 2, gold" in said


def test_the_check_needs_a_file_of_ones_own(monkeypatch):
    monkeypatch.setattr("sys.argv", ["astro check", "math"])
    with pytest.raises(UserError, match="math is a built-in task; this command checks your own task file"):
        main()


def test_params_name_a_task():
    values = PARAMS.model_dump()
    for name, options, said in (
        ("countdwn", {}, "did you mean countdown"),
        ("countdown", {"a": 1}, "run.task countdown has no options"),
    ):
        with pytest.raises(ValueError, match=said):
            type(PARAMS).model_validate(values | {"run": values["run"] | {"task": name, "options": options}})
    run = type(PARAMS).model_validate(values | {"run": values["run"] | {"task": SUMS, "options": {"a": 1}}}).run
    assert json.loads(run.spec.partition(" ")[2]) == {"a": 1}


def files(tmp_path, rows: str, **fields):
    """The params of a run on a file of the task's problems."""
    (tmp_path / "train.csv").write_text(rows)
    entry = {"path": "train.csv", "fields": {"question": "asked", "answer": "right", **fields}}
    values = PARAMS.model_dump()
    values["run"] |= {"task": SUMS}
    values["problems"] |= {
        "source": "files",
        "folder": str(tmp_path),
        "files": {"train": entry, "rl": "rl.csv", "eval_a": "a.csv"},
    }
    return type(PARAMS).model_validate(values)


def test_problems_of_files_are_checked_as_the_stage_reads_them(write, tmp_path):
    rows = "asked,right,unit\n" + "".join(f"add {n} 1,{n + 1},m\n" for n in range(30))
    params = files(tmp_path, rows + "add 7 7,15,m\n", data=["unit"])
    task = own(
        write,
        "def score(self, problem, answer):\n    return int(answer) == sum(map(int, problem.question.split()[1:]))",
    )
    report, problems = check_task(task, level=1, params=params)
    assert not report.faults, report.lines
    assert any("30 of the first 200 rows" in line for line in report.lines)
    assert (len(problems), problems[3].data) == (20, {"unit": "m"})
    wrong = own(write, "def score(self, problem, answer):\n    return 0.5", "wrong.py")
    report, _ = check_task(wrong, level=1, params=params)
    assert any("score() of" in line and "must accept each row's own answer" in line for line in report.lines)


def test_without_problems_anywhere_the_check_does_not_pass(write):
    task = get_task(write("from astro.tasks import Task\nclass A(Task):\n    def score(self, p, a): return 1"))
    report, _ = check_task(task, level=1)
    assert report.faults == 1


def test_a_score_that_never_ends_stops_the_import_soon(write, short):
    task = own(write, "def score(self, problem, answer):\n    while True: pass")
    with pytest.raises(UserError, match=r"score\(\): it ran longer than .* on each of the first golds"):
        task.grade_golds([asked()] * 500)


def test_the_corpus_of_a_file_goes_round_with_other_solutions():
    task = get_task(SUMS)
    given = [asked(f"add {n} {n}", str(2 * n)).model_copy(update={"id": str(n)}) for n in range(1, 9)]
    documents = [text for text, _ in zip(task.corpus_of(given, 1), range(160), strict=False)]
    assert {text.split("\n")[0] for text in documents[:8]} == {p.question for p in given}
    assert len(set(documents)) > 16
    assert documents == [text for text, _ in zip(task.corpus_of(given, 1), range(160), strict=False)]


def test_generated_problems_whose_own_gold_is_wrong_stop_the_run_at_once(write):
    task = own(write, "def score(self, problem, answer):\n    return answer != problem.gold")
    with pytest.raises(
        TaskError, match=r"score\(\) does not accept the problem's own gold: 'double \d+', gold 'x': wrong"
    ):
        task.make_sets(WORLD, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--level", "0"], "levels are whole numbers from 1"),
        (["--options", "3"], "expected names and values, such as"),
    ],
)
def test_what_the_command_line_refuses(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr("sys.argv", ["astro check", SUMS, *arguments])
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err
