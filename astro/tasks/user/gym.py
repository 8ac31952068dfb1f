"""Tasks of reasoning-gym, such as `run.task: gym:mini_sudoku`. docs/gym.md lists which tasks pass and which are left out.

Workers run `call` and `describe` of this module. The fork server imports the package once; no other process imports it.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import lru_cache
from random import Random
from typing import Any

from astro.tasks.base import Task
from astro.tasks.user.code import Refused, call, describe
from schemas.records import Problem

try:
    from reasoning_gym.factory import DATASETS

    MISSING = ""
except ImportError as error:  # the extra is missing or incomplete
    DATASETS, MISSING = {}, str(error)

__all__ = ["GOLD_ALONE", "OWN", "REFUSED", "GymTask", "call", "describe", "open_gym"]

SYMPY = "its scorer hands what a model wrote to sympy's parse_expr, which evaluates it as Python"
REFUSED: Mapping[str, str] = {
    "composite": "it mixes other tasks; name one of them",
    "countdown": f"{SYMPY}; run.task countdown is this project's own",
    "intermediate_integration": SYMPY,
    "polynomial_multiplication": SYMPY,
    "puzzle24": f"{SYMPY}, and it does not check which numbers were used",
    "simple_integration": SYMPY,
    "codeio": "it runs programs that a language model wrote",
    "boxnet": "it has no gold answer",
    "rush_hour": "it has no gold answer",
    "coin_flip": 'it also accepts the first characters of a probability: "0" for 0.25',
    "sokoban": "some of its problems need more time than the ten seconds that a worker has",
    "propositional_logic": "it accepts a premise copied from the question",
}
"""Excluded tasks, with the reason."""

EVAL = "its scorer evaluates what a model wrote as Python"
GOLD_ALONE: Mapping[str, str] = {
    "binary_matrix": EVAL,
    "n_queens": EVAL,
    "spiral_matrix": EVAL,
    "string_insertion": EVAL,
    "decimal_arithmetic": "its scorer accepts an answer that is off by 0.001",
    "figlet_font": "its scorer accepts ten letters of a longer word",
    "game_of_life": "its scorer accepts extra rows and cells",
    "game_of_life_halting": "its scorer accepts any text",
    "gsm_symbolic": "its scorer accepts the first number of any text, without its sign",
    "letter_jumble": "its scorer accepts extra words",
    "number_sorting": "its scorer accepts numbers that are off by 1, and NaN",
    "word_sorting": "its scorer accepts extra words",
}
"""Tasks that are scored by comparison with the gold, with the reason. Any layout of the gold is right; other answers are
wrong."""

GOLDS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "graph_color": lambda metadata: json.dumps(metadata["possible_answer"]),
    "rubiks_cube": lambda metadata: metadata["example_correct_answer"],
}
"""How to find a right answer in the metadata if the entry's own answer is empty because there are many."""

ALL_GOLDS: Mapping[str, str] = {"n_queens": "valid_answers"}
"""Field of the metadata with all right answers, for tasks of `GOLD_ALONE` that have several."""

OWN: Mapping[str, Any] = {"right_from": 1.0, "levels": {}}
"""Options that are ours and not the data set's."""

OURS = {
    "seed": "run.seed determines the problems",
    "size": "the section problems sets the sizes",
}
"""Fields of the data sets that may not be set as options."""

INDICES = 1 << 31
"""Number of indices that problems are drawn from. numpy needs seed + index below 2**32."""

SIZE = 5
"""Size of a data set that is generated as a whole. Acre needs five to include each of its kinds."""

SEED = 0
"""Seed of every data set. A problem is drawn with Random(seed + index), so other seeds would only shift the problems."""

TRIES = 100
"""Draws until a problem with an answer is found."""

REMEMBERED = 1 << 10
"""Problems that a worker caches, because many answers are scored against one problem."""

NAN = re.compile(r"(?<![a-z])nan(?=[ij]?(?![a-z]))", re.IGNORECASE)
"""Pattern of "not a number". Comparisons with NaN make some scorers accept it."""


def open_gym(name: str, options: Mapping[str, Any]) -> "GymTask":
    """Open the task `name` of reasoning-gym.

    Args:
        options: fields of its configuration, and those of `OWN`.

    Raises:
        Refused: the task does not exist or is excluded, or its configuration is invalid.
    """
    if MISSING:
        raise Refused(f"gym:{name}: {MISSING}; run `make gym` to install reasoning-gym")
    if name in REFUSED:
        raise Refused(f"gym:{name} is excluded: {REFUSED[name]}; docs/gym.md lists the available ones")
    if name not in DATASETS:
        raise Refused(f"run.task: reasoning-gym has no task {name!r}{_nearest(name, sorted({*DATASETS} - {*REFUSED}))}")
    return GymTask(name, options)


class GymTask(Task):
    """A task of reasoning-gym."""

    step_end = "\n\n"
    answer_mark = "<answer>"
    answer_end = "</answer>"
    tried_mark = "<answer given up>"

    def __init__(self, kind: str, options: Mapping[str, Any]):
        """See `open_gym`."""
        self.kind, self.name = kind, f"gym:{kind}"
        self._make, config = DATASETS[kind]
        self._config = config
        self._fields = {f.name: f for f in dataclasses.fields(config) if f.name not in OURS}
        self.defaults = {**{name: _plain(_default(field)) for name, field in self._fields.items()}, **OWN}  # type: ignore[misc]
        self._given = {name: value for name, value in options.items() if name not in OWN}
        super().__init__(options=options)
        self.right_from = self._share("right_from")
        self.levels = self._levels()
        self._dataset = lru_cache(maxsize=64)(self._open)
        self._entry = lru_cache(maxsize=REMEMBERED)(self._drawn)
        for level in self.levels or {1: {}}:
            self._dataset(level, SEED)

    # --- problems

    def problem(self, random: Random, level: int) -> Mapping[str, Any]:
        """Draw a problem of the data set by a random index."""
        level = level if self.levels else 1
        for _ in range(TRIES):
            data = {"index": random.randrange(INDICES), "level": level}
            entry = self._entry(data["index"], level)
            gold = self._gold(entry)
            if gold.strip():
                return {"question": entry["question"], "gold": gold, "data": data}
        raise ValueError(f"{TRIES} problems in a row had an empty answer")

    def ask(self, problem: Problem) -> str:
        """The question and how to answer. The tags are empty and adjacent, so that the text itself contains no answer."""
        return (
            f"{problem.question.strip()}\n\nThink step by step, with a blank line between steps, and end with your answer "
            f"between {self.answer_mark}{self.answer_end}."
        )

    def score(self, problem: Problem, answer: str) -> float:
        """The score by the data set's own scorer, except for tasks of `GOLD_ALONE`."""
        place = problem.data if isinstance(problem.data, dict) else {}
        index, level = place.get("index"), place.get("level")
        if not isinstance(index, int) or not isinstance(level, int):
            raise Refused(f"problem {problem.id} was not made by {self.name}; its data lack an index and a level")
        entry = self._entry(index, level)
        if entry["question"] != problem.question:
            raise Refused(
                f"problem {problem.id} is a different one now, because the options or reasoning-gym changed; run "
                "`dvc repro problems` again"
            )
        gold = self._gold(entry)
        if self.kind in GOLD_ALONE:
            golds = entry["metadata"][ALL_GOLDS[self.kind]] if self.kind in ALL_GOLDS else [gold]
            return float(_value(answer) in [_value(one) for one in golds])
        if NAN.search(answer) and not NAN.search(gold):
            return 0.0
        score = float(self._dataset(level, SEED).score_answer(answer, deepcopy(entry)))
        if not 0 <= score <= 1:
            raise ValueError(f"its scorer returned {score}, expected a number from 0 to 1")
        return score

    def _gold(self, entry: Mapping[str, Any]) -> str:
        gold = entry["answer"]
        return str(GOLDS[self.kind](entry["metadata"]) if gold is None and self.kind in GOLDS else gold or "")

    def _drawn(self, index: int, level: int) -> dict[str, Any]:
        """The entry of an index. A data set that is generated as a whole is created anew with the index as its seed."""
        try:
            return self._dataset(level, SEED)[index]
        except IndexError:
            return self._open(level, index)[0]

    def _open(self, level: int, seed: int) -> Any:
        if self.levels and level not in self.levels:
            offered = ", ".join(map(str, sorted(self.levels)))
            raise Refused(f"run.options.levels: {self.name} has no level {level}; it has {offered}")
        given = {**self._given, **self.levels.get(level, {})}
        try:
            config = self._config(
                **{name: self._fitting(name, value) for name, value in given.items()}, seed=seed, size=SIZE
            )
            if hasattr(config, "validate"):
                config.validate()
            return self._make(config)
        except Refused:
            raise
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            where = f" (level {level})" if self.levels else ""
            raise Refused(f"run.options: {self.name}{where} refuses {json.dumps(given)}: {said:.300}") from None

    # --- options

    def _fitting(self, name: str, value: Any) -> Any:
        """Convert a value to the type of the field's default, because YAML has no tuples."""
        if name in OURS:
            raise Refused(f"run.options.{name}: {self.name} does not take it; {OURS[name]}")
        if name not in self._fields:
            raise Refused(f"run.options.{name}: {self.name} has no such option{_nearest(name, sorted(self.defaults))}")
        default = _default(self._fields[name])
        for kind, said in ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text")):
            if isinstance(default, kind):
                fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (
                    kind is bool
                )
                if not fits and not (value is None and "Optional" in str(self._fields[name].type)):
                    raise Refused(f"run.options.{name}: {self.name} expects {said}, not {json.dumps(value)}")
                break
        return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value

    def _share(self, name: str) -> float:
        value = self.options[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise Refused(f"run.options.{name}: expected a score above 0 and up to 1, not {json.dumps(value)}")
        return float(value)

    def _levels(self) -> dict[int, dict[str, Any]]:
        levels = self.options["levels"]
        fits = isinstance(levels, dict) and all(isinstance(over, dict) for over in levels.values())
        if not fits or not all(re.fullmatch("[1-9][0-9]*", str(level)) for level in levels):
            raise Refused(
                "run.options.levels: expected options for each level, such as {1: {...}, 2: {...}}, not "
                f"{json.dumps(levels)}"
            )
        return {int(level): over for level, over in levels.items()}


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    """Convert a value to plain JSON types."""
    return json.loads(json.dumps(value, default=str))


def _value(text: str) -> Any:
    """Normalise the layout of an answer: numbers and lists of numbers by value, any other text by its words."""
    try:
        value = json.loads(text.replace("'", '"'), parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    kinds = (int, float, list, dict)
    return value if isinstance(value, kinds) and not isinstance(value, bool) else " ".join(text.split()).lower()


def _no_number(text: str) -> None:
    raise ValueError(text)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 3, 0.5)
    return f"; similar names: {', '.join(close)}" if close else f"; it has: {', '.join(known)}"
