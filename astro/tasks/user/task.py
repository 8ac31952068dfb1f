"""The stages' view of a user's task. The task's own code runs in workers with limits; everything else runs here."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.grading import Pool
from astro.grading.batch import Failed
from astro.process import UserError
from astro.tasks.base import Task, TaskError
from astro.tasks.chain_reader import JumpWords
from astro.tasks.user.code import home_of
from schemas.records import Problem, Verdict
from schemas.run import Reading

if TYPE_CHECKING:
    from random import Random

    from astro.tasks.chat import ChatTemplate

TIME_LIMIT = 10.0
"""Seconds of processor time per call; loading the file counts as one call."""

MEMORY_LIMIT = 2 << 30
"""Bytes of memory that a worker may add to its initial size."""

TRIED = 3
"""Golds that are graded one by one before all others, to detect a scorer that always exceeds its limits."""

REMEMBERED = 1 << 14
"""Cached results of methods, because a search asks for the same prompt many times."""

_log = logging.getLogger(__name__)


@cache
def pool(home: str, folder: Path) -> Pool:
    """The worker pool of this process for functions of the module `home`.

    Args:
        folder: the working folder. Workers keep that of their start, so another one needs workers of its own.
    """
    return Pool(time_limit=TIME_LIMIT, memory_limit=MEMORY_LIMIT, home=home, cache_size=0)


class Overrun(TaskError):
    """The task's own code exceeded a limit of its worker."""


class UserTask(Task):
    """A task from a file, or one of reasoning-gym ("gym:<name>")."""

    def __init__(
        self,
        source: str,
        phrases: JumpWords | None = None,
        chat: "ChatTemplate | None" = None,
        answers: Reading = "box",
        options: Mapping[str, Any] | None = None,
    ):
        """Load the task.

        Raises:
            UserError: the task cannot be loaded, or is not a task; names file and line.
        """
        self.name, self._given = source, json.dumps(dict(options or {}), sort_keys=True)
        if source.endswith(".py") and not Path(source).is_file():
            raise UserError(f"run.task: {source}: no such file")
        self._home, self._folder = home_of(source), Path.cwd()
        about = self.workers.run_batch(f"{self._home}describe", [(source, self._given)])[0]
        if isinstance(about, Failed):
            raise UserError(f"{source}: loading failed: {self._limit(about)}")
        if "error" in about:
            raise UserError(about["error"])
        super().__init__(phrases, chat, answers, about["options"])
        for name, value in about["sets"].items():
            setattr(self, name, value)
        self.about, self.defines, self._digest = about["doc"], frozenset(about["defines"]), about["digest"]
        self.makes_problems = "problem" in self.defines
        self._told: set[str] = set()
        self._one = lru_cache(maxsize=REMEMBERED)(self._call)

    @property
    def workers(self) -> Pool:
        """The pool of processes that run the task's own code."""
        return pool(self._home, self._folder)

    def fresh(self) -> "UserTask":
        """A copy of the task, loaded again from its file."""
        return UserTask(self.name, self.phrases, self.chat, self.answers, json.loads(self._given))

    # --- calls of the task's own code

    def problem_many(self, seeds: Sequence[tuple[str, int]]) -> list[Mapping[str, Any]]:
        """As `Task.problem_many`."""
        if "problem" not in self.defines:
            raise TaskError(
                f"problems.source generated: {self.name} has no problem(self, random, level); define it, or set problems.source "
                "to files"
            )
        return self._many("problem", [[seed, level] for seed, level in seeds])

    def solutions(self, seeds: Sequence[str], problems: Sequence[Problem]) -> list[Sequence[str]]:
        """As `Task.solutions`."""
        if "solution" not in self.defines:
            raise TaskError(
                f"{self.name} has no solution(self, random, problem), which base.source train and base.warmup learn "
                "from; define it, or use a pretrained base without a warm-up"
            )
        return self._many("solution", [[seed, _plain(p)] for seed, p in zip(seeds, problems, strict=True)])

    def ask(self, problem: Problem) -> str:
        """As `Task.ask`."""
        return self._one("ask", json.dumps([_plain(problem)])) if "ask" in self.defines else problem.question

    def score(self, problem: Problem, answer: str) -> float:
        """As `Task.score`."""
        return self._one("score", json.dumps([_plain(problem), answer]))

    def extract(self, text: str) -> str | None:
        """As `Task.extract`. If the task's own code fails, the text counts as having no answer."""
        if "extract" not in self.defines:
            return super().extract(text)
        try:
            return self._one("extract", json.dumps([text]))
        except TaskError as error:
            self._tell("extract", error, "the text counts as having no answer")
            return None

    def state_key(self, steps: Sequence[str]) -> str:
        """As `Task.state_key`. If the task's own code fails, the default key is used."""
        if "state_key" in self.defines:
            try:
                return self._one("state_key", json.dumps([list(steps)]))
            except TaskError as error:
                self._tell("state_key", error, "the step counts as a state of its own")
        return super().state_key(steps)

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """As `Task.grade_answers`, in one batch. If the task's own code fails, the answer is an unparseable prediction."""
        asked = [(p, a) for p, a in zip(problems, answers, strict=True) if a is not None]
        scores = iter(self.try_many("score", [[_plain(p), a] for p, a in asked]))
        verdicts: list[Verdict] = []
        for answer in answers:
            score = None if answer is None else next(scores)
            if isinstance(score, TaskError):
                self._tell("score", score, "the answer counts as unreadable")
                score = None
            verdicts.append("unparseable_prediction" if score is None else self.verdict_of(score))
        return verdicts

    def grade_golds(self, problems: Sequence[Problem]) -> list[Verdict]:
        """As `Task.grade_golds`.

        Raises:
            UserError: `score` exceeds its limits for the first golds. Without this check the stage would hang for hours.
        """
        for problem in problems[:TRIED]:
            score = self.try_many("score", [[_plain(problem), problem.gold]])[0]
            if not isinstance(score, Overrun):
                return super().grade_golds(problems)
        if not problems:
            return []
        raise UserError(f"{score} on each of the first golds, the last of them {problem.gold!r:.80}")

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """As `Task.grade`."""
        return self.grade_answers([problem], [answer])[0]

    def valid_many(self, paths: Sequence[tuple[Problem, Sequence[str]]]) -> list[bool]:
        """As `Task.valid_many`. If the task's own code fails, the step counts as illegal."""
        if "valid" not in self.defines:
            return [True] * len(paths)
        found = self.try_many("valid", [[_plain(problem), list(steps)] for problem, steps in paths])
        for error in found:
            if isinstance(error, TaskError):
                self._tell("valid", error, "the step counts as breaking the rules")
        return [value is True for value in found]

    def valid(self, problem: Problem, steps: Sequence[str]) -> bool:
        """As `Task.valid`."""
        return self.valid_many([(problem, steps)])[0]

    def example(self, level: int) -> Problem:
        """As `Task.example`, generated by the task if it generates problems."""
        if "problem" not in self.defines:
            return super().example(level)
        return self.made("example", self.problem_many([("example", level)])[0], level)

    def problem(self, random: "Random", level: int) -> Mapping[str, Any]:
        """As `Task.problem`. The seed is one draw of `random`."""
        return self.problem_many([(str(random.getrandbits(64)), level)])[0]

    def solution(self, random: "Random", problem: Problem) -> Sequence[str]:
        """As `Task.solution`. The seed is one draw of `random`."""
        return self.solutions([str(random.getrandbits(64))], [problem])[0]

    # --- calls of workers

    def _call(self, method: str, arguments: str) -> Any:
        return self._many_json(method, [arguments], fails=True)[0]

    def _many(self, method: str, arguments: Sequence[list]) -> list[Any]:
        """Results of all calls. Raises the TaskError of the first call that fails."""
        return self._many_json(method, [json.dumps(given) for given in arguments], fails=True)

    def try_many(self, method: str, arguments: Sequence[list]) -> list[Any]:
        """Results of all calls, with a TaskError in the place of each failed call."""
        return self._many_json(method, [json.dumps(given) for given in arguments], fails=False)

    def _many_json(self, method: str, arguments: Sequence[str], *, fails: bool) -> list[Any]:
        different = list(dict.fromkeys(arguments))
        calls = [(self.name, self._given, self._digest, method, given) for given in different]
        found: dict[str, Any] = {}
        for given, answer in zip(different, self.workers.run_batch(f"{self._home}call", calls), strict=True):
            value: Any = (
                Overrun(f"{self.name}: {method}(): {self._limit(answer)}") if isinstance(answer, Failed) else None
            )
            if value is None and "error" in answer:
                if answer.get("refused"):
                    raise UserError(answer["error"])
                value = TaskError(f"{answer['error']} (in {method})")
            found[given] = answer["value"] if value is None else value
            if fails and isinstance(value, TaskError):
                raise value
        return [found[given] for given in arguments]

    def _limit(self, failed: Failed) -> str:
        limits = {
            "time limit": f"it ran longer than {TIME_LIMIT:.0f} s",
            "memory limit": f"it took more than {MEMORY_LIMIT >> 30} GiB",
            "crashed": "its process crashed",
        }
        return limits.get(failed.reason, failed.reason)

    def _tell(self, method: str, error: TaskError, meaning: str) -> None:
        """Warn about failing code, once per method."""
        if method not in self._told:
            self._told.add(method)
            _log.warning("%s; %s (reported once)", error, meaning)


def _plain(problem: Problem) -> dict[str, Any]:
    return problem.model_dump()
