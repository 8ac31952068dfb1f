"""Tasks of reasoning-gym. What needs the package runs where it is installed: make gym."""

import ast
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from astro.process import UserError
from astro.task_check import check_task
from astro.tasks import TaskError, get_task
from astro.tasks.user import gym
from astro.tasks.user.code import Refused
from astro.tasks.user.task import UserTask
from schemas.records import Problem
from tools.gym_audit import hostile

ROOT = Path(__file__).parents[2]
installed = pytest.mark.skipif(bool(gym.MISSING), reason="reasoning-gym is not installed: make gym")


# --- a small data set, made as those of the package are


@dataclasses.dataclass
class DoublesConfig:
    lowest: int = 1
    highest: int = 1_000_000
    share: float = 0.5
    signs: tuple = ("+", "-")
    label: str = "double"
    empty: bool = False
    seed: int | None = None
    size: int = 500

    def validate(self):
        assert self.lowest <= self.highest, "lowest must not be above highest"


class Doubles:
    """Doubles a number. Its scorer has the faults that scorers of the package have."""

    def __init__(self, config: DoublesConfig):
        self.config = config

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = Random(self.config.seed + index)
        number = rng.randint(self.config.lowest, self.config.highest)
        answer = "" if self.config.empty or number % 3 == 0 else str(2 * number)
        return {"question": f"{self.config.label} {number}", "answer": answer, "metadata": {"pair": (number, {1: 2})}}

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        assert entry["metadata"].pop("pair")[1] == {1: 2}  # a scorer that changes what it is given
        if answer == "too much":
            return 1.0000000000000002
        return min(1.0, 2.0 ** -abs(float(answer) - float(entry["answer"])))


class Whole(Doubles):
    """One that is made as a whole."""

    def __init__(self, config: DoublesConfig):
        super().__init__(config)
        self.made = [Doubles.__getitem__(self, n) for n in range(config.size)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.made[index]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(gym.DATASETS, "doubles", (Doubles, DoublesConfig))
    monkeypatch.setitem(gym.DATASETS, "whole", (Whole, DoublesConfig))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gym, "MISSING", "")


def made(task: gym.GymTask, seed: int = 0, level: int = 1) -> Problem:
    return task.made("one", task.problem(Random(seed), level), level)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("kind", ["doubles", "whole"])
def test_problems_of_neighbouring_seeds_share_nothing(kind):
    task = gym.open_gym(kind, {})
    sets = [{made(task, 1000 * seed + n).question for n in range(200)} for seed in range(2)]
    assert min(map(len, sets)) > 195  # drawn with Random(seed + index), they would share nearly all
    assert len(sets[0] & sets[1]) < 3
    assert made(task, 7) == made(gym.open_gym(kind, {}), 7)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("kind", ["doubles", "whole"])
def test_problems_without_an_answer_are_drawn_anew(kind):
    task = gym.open_gym(kind, {})
    assert all(made(task, seed).gold for seed in range(50))
    with pytest.raises(ValueError, match="empty answer"):
        made(gym.open_gym(kind, {"empty": True}))


@pytest.mark.usefixtures("there")
def test_only_a_full_score_is_right_unless_asked_for():
    task = gym.open_gym("doubles", {})
    problem = Problem.model_validate_json(made(task).model_dump_json())  # as a stage reads it
    near = str(int(problem.gold) + 1)
    assert [task.grade(problem, answer) for answer in (problem.gold, near, problem.gold)] == [
        "correct",
        "wrong",
        "correct",
    ]
    lenient = gym.open_gym("doubles", {"right_from": 0.5})
    assert [lenient.grade(problem, answer) for answer in (near, str(int(near) + 1))] == ["correct", "wrong"]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("answer", ["nan", "NaN", "-nan", "too much", "inf", "no number"])
def test_what_a_scorer_takes_by_mistake_is_not_right(answer):
    task = gym.open_gym("doubles", {})
    assert task.grade(made(task), answer) != "correct"


@pytest.mark.usefixtures("there")
def test_a_problem_that_is_another_one_here_ends_the_stage():
    problem = made(gym.open_gym("doubles", {}))
    with pytest.raises(Refused, match="options or reasoning-gym changed"):
        gym.open_gym("doubles", {"label": "twice"}).score(problem, "1")
    with pytest.raises(Refused, match="was not made by gym:doubles"):
        gym.open_gym("doubles", {}).score(problem.model_copy(update={"data": None}), "1")


@pytest.mark.usefixtures("there")
def test_levels_lie_over_the_options():
    options = {"label": "twice", "levels": {"1": {"highest": 10}, "2": {"lowest": 11, "highest": 99}}}
    task = gym.open_gym("doubles", json.loads(json.dumps(options)))
    numbers = {level: {int(made(task, n, level).question.split()[1]) for n in range(50)} for level in (1, 2)}
    assert max(numbers[1]) <= 10 < min(numbers[2])
    problem = made(task, 3, 2)
    assert problem.question.startswith("twice")
    assert task.grade(problem, problem.gold) == "correct"
    with pytest.raises(Refused, match=r"run\.options\.levels: gym:doubles has no level 3; it has 1, 2"):
        made(task, 0, 3)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("doubels", {}, r"run\.task: reasoning-gym has no task 'doubels'; similar names: doubles"),
        ("doubles", {"higest": 3}, r"run\.options\.higest: gym:doubles has no such option; similar names: highest"),
        (
            "doubles",
            {"zzz": 3},
            r"run\.options\.zzz: .*; it has: empty, highest, label, levels, lowest, right_from, share",
        ),
        ("doubles", {"lowest": 9, "highest": 3}, r"gym:doubles refuses .*: lowest must not be above highest"),
        ("doubles", {"lowest": "9"}, r"run\.options\.lowest: gym:doubles expects a whole number, not \"9\""),
        ("doubles", {"lowest": True}, r"run\.options\.lowest: gym:doubles expects a whole number, not true"),
        ("doubles", {"share": "half"}, r"run\.options\.share: gym:doubles expects a number"),
        ("doubles", {"empty": 1}, r"run\.options\.empty: gym:doubles expects true or false, not 1"),
        ("doubles", {"label": 1}, r"run\.options\.label: gym:doubles expects text, not 1"),
        (
            "doubles",
            {"seed": 1},
            r"run\.options\.seed: gym:doubles does not take it; run\.seed determines the problems",
        ),
        ("doubles", {"size": 1}, r"run\.options\.size: gym:doubles does not take it"),
        ("doubles", {"right_from": 0}, r"run\.options\.right_from: expected a score above 0 and up to 1, not 0"),
        ("doubles", {"right_from": "1"}, r"run\.options\.right_from"),
        ("doubles", {"levels": [1]}, r"run\.options\.levels: expected options for each level"),
        ("doubles", {"levels": {"0": {}}}, r"run\.options\.levels"),
        ("doubles", {"levels": {"1": {}, "2": {"higest": 1}}}, r"run\.options\.higest"),
        ("doubles", {"levels": {"1": {}, "2": {"lowest": 9, "highest": 3}}}, r"\(level 2\) refuses"),
        ("puzzle24", {}, r"gym:puzzle24 is excluded: .*which numbers"),
    ],
)
def test_bad_names_and_options_are_one_line(name, options, said):
    with pytest.raises(Refused, match=said) as caught:
        gym.open_gym(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("there")
def test_a_whole_number_is_a_number_and_a_list_a_tuple():
    task = gym.open_gym("doubles", {"share": 1, "signs": ["+"]})
    assert task._dataset(1, gym.SEED).config.signs == ("+",)
    assert json.loads(json.dumps(task.defaults)) == task.defaults


@pytest.mark.usefixtures("there")
def test_answers_of_several_lines_are_read_and_questions_hold_none():
    task = gym.open_gym("doubles", {})
    problem = made(task)
    answer = "1 2 3\n4 5 6\n\n7 8 9"
    text = task.response(["a thought\nof two lines", f"{task.answer_mark}\n{answer}\n{task.answer_end}"])
    assert task.extract(text) == answer
    assert task.extract(text + " and so on") == answer
    assert task.extract(task.ask(problem)) is None
    assert task.extract(task.restate(problem, ["a thought"])) is None
    assert task.extract(task.abandoned("<answer>3</answer>")[0]) is None


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("[[0, 1],\n [1, 0]]", "[[0,1],[1,0]]", True),
        ('["1.0", "2"]', "['1.0', '2']", True),
        ("103.0", "103", True),
        ("  a,   B ", "a, b", True),
        ("0 1\n1 0", "0 1 1 0", True),  # where the gold is words, lines are layout
        ("10 1", "1 01", False),
        ("a, b, c", "a, b", False),
        ("-103", "103", False),
        ("[NaN]", "[1]", False),
        ("1", "true", False),
        ("null", "NaN", False),
        ("[" * 100_000, "[]", False),
        ("9" * 10_000, "9", False),
        ("__import__('os')", "1", False),
    ],
)
def test_layout_alone_does_not_make_an_answer_another_one(answer, gold, same):
    assert (gym._value(answer) == gym._value(gold)) is same


def table() -> dict[str, list[str]]:
    """Task -> the cells of its row in docs/gym.md."""
    audit = (ROOT / "docs/gym.md").read_text(encoding="utf-8").partition("<!-- begin audit -->")[2]
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", audit, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in lines}


def test_the_page_says_what_is_left_out_and_why():
    rows = table()
    left_out = {name: cells[-1] for name, cells in rows.items() if cells[6] == "left out"}
    assert left_out == gym.REFUSED
    assert {name for name, cells in rows.items() if cells[5] == "here"} == set(gym.GOLD_ALONE)
    assert sum(cells[6] == "pass" for cells in rows.values()) >= 60
    assert not [name for name, cells in rows.items() if cells[6] not in ("pass", "left out")]


@pytest.mark.skipif(not gym.MISSING, reason="reasoning-gym is installed")
def test_without_the_package_its_name_is_told():
    with pytest.raises(
        UserError, match=r"gym:maze: No module named 'reasoning_gym'; run `make gym` to install reasoning-gym"
    ):
        get_task("gym:maze")


# --- the package itself


@installed
def test_the_page_holds_every_task_of_the_package():
    assert set(table()) == {*gym.DATASETS} - {"doubles", "whole"}
    assert {*gym.REFUSED, *gym.GOLD_ALONE, *gym.GOLDS, *gym.ALL_GOLDS} <= {*gym.DATASETS}


EVALUATE = {"eval", "exec", "parse_expr", "sympify", "simplify", "compile", "__import__", "S", "system", "Popen"}
HARMLESS = {"re.compile"}
REVIEWED = {
    "basic_arithmetic": "evaluates the expression that it made",
    "bf": "compiles and runs the program that it made",
    "bitwise_arithmetic": "evaluates the expression that it made",
    "dice": "calls a function of its own that is called simplify, on numbers",
}
"""Tasks whose module evaluates text that is not the model's."""


@installed
def test_no_task_is_offered_whose_module_evaluates_text_unless_it_was_read():
    found = set()
    for name, (kind, _) in gym.DATASETS.items():
        if name in ("doubles", "whole"):
            continue
        tree = ast.parse(Path(sys.modules[kind.__module__].__file__ or "").read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {getattr(f, "id", getattr(f, "attr", "")) for f in calls if ast.unparse(f) not in HARMLESS}
        if called & EVALUATE:
            found.add(name)
    assert found - {*gym.REFUSED, *gym.GOLD_ALONE} == {*REVIEWED}
    assert {name for name, why in gym.REFUSED.items() if why.startswith(gym.SYMPY)} <= found
    assert {name for name, why in gym.GOLD_ALONE.items() if why == gym.EVAL} <= found


@installed
@pytest.mark.slow
def test_no_answer_is_executed_by_any_task(tmp_path):
    canary = tmp_path / "canary"
    offered = sorted({*gym.DATASETS} - {*gym.REFUSED, "doubles", "whole"})
    assert len(offered) >= 60
    for name in offered:
        task = get_task(f"gym:{name}")
        problem = task.made("one", task.problem_many([("hostile", 1)])[0], 1)
        verdicts = task.grade_answers([problem] * len(hostile(canary)), hostile(canary))
        assert "correct" not in verdicts, name
        assert not canary.exists(), name


@installed
def test_the_package_is_imported_in_workers_alone():
    program = (
        "import sys; from astro.tasks import get_task; t = get_task('gym:maze'); assert t.problem_many([('0', 1)]); "
        + ("assert t.name == 'gym:maze' and not [m for m in sys.modules if m.startswith('reasoning_gym')]")
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@installed
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mini_sudoku", {"min_empty": 4, "max_empty": 6}),
        *(
            pytest.param(name, options, marks=pytest.mark.slow)
            for name, options in (
                ("n_queens", {"n": 5, "min_remove": 2, "max_remove": 3}),
                ("graph_color", {}),
                ("acre", {}),
                ("gsm_symbolic", {}),
            )
        ),
    ],
)
def test_the_contract_of_a_task_is_kept(name, options):
    task = get_task(f"gym:{name} {json.dumps(options)}")
    assert isinstance(task, UserTask)
    report, problems = check_task(task, level=1)
    assert report.faults == 0, "\n".join(report.lines)
    assert len({p.question for p in problems}) > len(problems) / 2


@installed
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gym:mini_sudok", r"^run\.task: reasoning-gym has no task 'mini_sudok'; similar names: mini_sudoku"),
        ('gym:mini_sudoku {"min_empy": 3}', r"^run\.options\.min_empy: .* similar names: min_empty"),
        (
            'gym:mini_sudoku {"min_empty": 30}',
            r"^run\.options: gym:mini_sudoku refuses \{\"min_empty\": 30\}: min_empty must be",
        ),
    ],
)
def test_the_user_is_told_what_is_wrong(spec, said):
    with pytest.raises(UserError, match=said):
        get_task(spec)


@installed
def test_other_options_end_the_stage_and_not_the_answers():
    task = get_task("gym:chain_sum")
    problem = task.made("one", task.problem_many([("0", 1)])[0], 1)
    assert task.grade(problem, problem.gold) == "correct"
    with pytest.raises((UserError, TaskError), match="options or reasoning-gym changed"):
        get_task('gym:chain_sum {"max_terms": 2}').grade(problem, problem.gold)


def test_the_extra_is_locked():
    locked = (ROOT / "requirements/gym.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in locked)
    assert "reasoning-gym==0.1.25" in locked
    assert importlib.util.find_spec("tabulate") is not None  # of the default
