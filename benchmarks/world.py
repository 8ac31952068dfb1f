"""Countdown without a model: problems in any number, and a policy that plays random legal moves. Cheap: microseconds a step."""

import contextlib
import math
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from astro.inference.engine import Request
from astro.search import Sample
from benchmarks.simulated_engine import SimulatedEngine
from schemas.mcts import MctsParams
from schemas.records import Problem

TOKENS = 12
"""Mean tokens of a step."""


def problems(count: int, *, seed: int = 0) -> Iterator[Problem]:
    """So many problems of three numbers, one at a time. Not all of them can be solved."""
    draw = random.Random(seed)
    for i in range(count):
        numbers = [draw.randint(1, 9) for _ in range(3)]
        target = draw.randint(5, 30)
        question = f"make {target} from {' '.join(map(str, numbers))}"
        yield Problem(id=f"s{i}", task="countdown", question=question, gold=str(target), level=3, chance=None)


def settings(**changes: object) -> MctsParams:
    """A small search; `changes` as in params.mcts."""
    values = {
        "method": "mcts", "samples": 8, "problems": 1, "num_actions": 3, "rollouts_per_child": 1, "num_simulations": 4,
        "max_depth": 4, "c_puct": 1.0, "prior": "uniform", "temperature": 1.0, "step_tokens": 64, "rollout_tokens": 4096,
        "shards": 8,
        "savings": {"grade_once": True, "merge_steps": True, "reuse_rollouts": False},
        "gate": {"min_solved": 0.05, "min_valid": 0.02, "min_readable_gold": 1.0},
    }  # fmt: skip
    return MctsParams.model_validate(values | changes)


@dataclass(frozen=True)
class Policy:
    """Random legal moves; lengths are drawn apart from the text.

    Attributes:
        sigma: of the log-normal lengths, in log tokens: 0 is even, 1 long-tailed (the longest of a hundred is ten times the
            median). The mean stays `TOKENS` per step.
    """

    sigma: float = 0.0

    def __call__(self, request: Request) -> list[Sample]:
        """The samples of a request; sample i depends on the prompt and seed + i."""
        return [self._sample(request, request.seed + i) for i in range(request.n)]

    def _sample(self, request: Request, seed: int) -> Sample:
        draw = random.Random(seed)
        question, *steps = request.prompt.rstrip("\n").split("\n")
        words = question.split()
        target, numbers = int(words[1]), [(int(n), n) for n in words[3:]]
        for step in steps:
            numbers = _replay(numbers, step)
        lines = []
        while len(numbers) > 1:
            line, numbers = _move(numbers, target, draw)
            lines.append(line)
            if request.stop:
                break
        long = (
            sum(math.exp(draw.gauss(0.0, self.sigma) - self.sigma**2 / 2) for _ in lines) if self.sigma else len(lines)
        )
        tokens = max(1, min(request.max_tokens, round(TOKENS * long)))
        return Sample("\n".join(lines), 0.0, tokens, True)


def _move(numbers: list[tuple[int, str]], target: int, draw: random.Random) -> tuple[str, list[tuple[int, str]]]:
    """One random step: its line, and the (value, expression) pairs that are left."""
    i, j = draw.sample(range(len(numbers)), 2)
    (a, first), (b, second) = numbers[i], numbers[j]
    sign = draw.choice("+-*")
    if sign == "-" and a < b:
        (a, first), (b, second) = (b, second), (a, first)
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    left = [pair for n, pair in enumerate(numbers) if n not in (i, j)] + [(value, f"( {first} {sign} {second} )")]
    if len(left) > 1:
        return f"{a} {sign} {b} = {value} left {' '.join(str(v) for v, _ in left)}", left
    says = "yes" if value == target else "no"
    return f"{a} {sign} {b} = {value} make {target} got {value} {says} answer {left[0][1]}", left


def _replay(numbers: list[tuple[int, str]], step: str) -> list[tuple[int, str]]:
    """The pairs that are left after a step that `_move` wrote."""
    a, sign, b, _, value = step.split()[:5]
    i = next(n for n, (v, _) in enumerate(numbers) if v == int(a))
    j = next(n for n, (v, _) in enumerate(numbers) if v == int(b) and n != i)
    left = [pair for n, pair in enumerate(numbers) if n not in (i, j)]
    return [*left, (int(value), f"( {numbers[i][1]} {sign} {numbers[j][1]} )")]


def stored(path: Path) -> int:
    """Results in a store that another process has open (it holds a lock): counted in a copy of its files."""
    with tempfile.TemporaryDirectory() as home:
        for file in path.parent.glob(path.name + "*"):
            with contextlib.suppress(FileNotFoundError):  # a log that was just put away
                shutil.copy(file, home)
        try:
            with contextlib.closing(sqlite3.connect(Path(home) / path.name)) as db:
                return db.execute("SELECT count(*) FROM results").fetchone()[0]
        except sqlite3.Error:  # not there yet, or copied while it was moved from the log to the file
            return 0


@dataclass(frozen=True)
class Open:
    """Opens a simulated engine; picklable, for the workers of a cluster."""

    slots: int = 32
    token_s: float = 0.001
    sigma: float = 0.0
    sleeps: bool = True

    def __call__(self) -> SimulatedEngine:
        """Create the engine."""
        return SimulatedEngine(Policy(self.sigma), slots=self.slots, token_s=self.token_s, sleeps=self.sleeps)
