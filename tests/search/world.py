"""A toy world for search tests: climb to a height by steps of +1 to +3, then state where you stand.

    climb 5        the problem +2             a step; "+ 2" is the same step in another spelling +3 =5             a
    terminal step: correct if it is where the climb stands, and that is the goal

A world also has what makes searches hard: steps that are blank, steps that never end ("um um um ..."), answers that
hold no number ("=?"), and, above the goal, heights from which only blank steps lead on (dead ends). Every probability
is hashed from (world seed, height, token), so that no two scores are equal by accident.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from astro.execution import search_and_sample_jobs
from astro.inference.engine import Request
from astro.search import Expand, Grade, Graded, Search, Simulate
from schemas.records import Problem, Verdict
from tests.scripted_engine import END

Judge = Callable[[Sequence[str], str], Graded]
"""`judge(steps, rest)` grades what a `Grade` asks for."""

STEP_TOKENS = 4
ROLLOUT_TOKENS = 24


@dataclass(frozen=True)
class World:
    """One world; the weights are relative to 1 for an ordinary step."""

    seed: int
    goal: int = 5
    blank: float = 0.1
    ramble: float = 0.1
    answer: float = 0.2
    """At the goal 25 times as much."""
    headroom: int = 2
    """Heights above goal + headroom are dead ends."""

    @property
    def problem(self) -> Problem:
        return Problem(
            id=f"climb-{self.goal}-{self.seed}",
            task="countdown",
            question=f"climb {self.goal}",
            gold=str(self.goal),
            level=1,
            chance=None,
        )

    def request(self, _: str, wanted: Expand | Simulate) -> Request:
        """Renders what a search wants (the id is not needed: the goal is this world's)."""
        is_step = isinstance(wanted, Expand)
        return Request(
            prompt=f"climb {self.goal}\n" + "".join(step + "\n" for step in wanted.steps),
            n=wanted.n,
            max_tokens=STEP_TOKENS if is_step else ROLLOUT_TOKENS,
            temperature=1.0,
            stop=("\n",) if is_step else (),
            seed=wanted.seed,
            logprobs=is_step,
        )

    def next_tokens(self, text: str) -> dict[str, float]:
        """The policy: token -> probability."""
        *lines, line = text.split("\n")
        height = climbed(lines[1:])
        if lines[-1].startswith("=") and not line:
            return {END: 1.0}
        if line.startswith("um"):
            return {" um": 1.0}
        if line == "=":
            return self._normalised(height, {str(height): 2.0, str(height + 1): 1.0, "?": 0.5})
        if line:
            return {"\n": 1.0}
        if height > self.goal + self.headroom:
            return {"\n": 1.0}
        weights = {"+1": 1.0, "+2": 1.0, "+3": 1.0, "+ 1": 0.5, "+ 2": 0.5}
        weights |= {"=": self.answer * (25 if height == self.goal else 1), "\n": self.blank, "um": self.ramble}
        return self._normalised(height, {token: weight for token, weight in weights.items() if weight})

    def _normalised(self, height: int, weights: dict[str, float]) -> dict[str, float]:
        hashed = {token: weight * (0.1 + self._chance(height, token)) for token, weight in weights.items()}
        total = sum(hashed.values())
        return {token: weight / total for token, weight in hashed.items()}

    def _chance(self, height: int, token: str) -> float:
        digest = blake2b(f"{self.seed}/{height}/{token}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**32

    def judge(self, steps: Sequence[str], rest: str) -> tuple[str | None, Verdict]:
        """Grades a complete solution: (answer, verdict)."""
        lines = [*steps, *rest.split("\n")]
        stated = next((line[1:] for line in lines if line.startswith("=")), None)
        if stated is None or not stated.isdigit():
            return None, "unparseable_prediction"
        right = int(stated) == climbed(lines) == self.goal
        return stated, "correct" if right else "wrong"

    @staticmethod
    def is_terminal(step: str) -> bool:
        return step.startswith("=")

    @staticmethod
    def key(steps: Sequence[str]) -> str:
        """Where the climb stands; two spellings of a step lead to the same place."""
        return steps[-1] if steps[-1].startswith("=") else str(climbed(steps))


def climbed(lines: Sequence[str]) -> int:
    """Height after these lines; a line that is no step adds nothing."""
    return sum(int(found[1]) for line in lines if (found := re.fullmatch(r"\+ ?(\d)", line)))


def judged(search: Search, judge: Judge) -> Search:
    """A search whose solutions are graded here: only what is to be generated is left to its driver."""
    answers = None
    try:
        while True:
            try:
                wanted = search.send(answers)
            except StopIteration as stop:
                return stop.value
            if isinstance(wanted[0], Grade):
                answers = [judge(w.steps, w.rest) for w in wanted]
            else:
                answers = yield wanted
    finally:
        search.close()


def rendered(search: Search, world: World) -> Search:
    """A search of a world as a job for an engine."""
    return search_and_sample_jobs.rendered(search, lambda wanted: world.request("", wanted))
