"""What callers use: grades one by one or in batches, from any thread and any process.

Easy pairs (numbers, words, choices, and tuples, sets, lists of them) are decided in the calling process, in microseconds and by
the same code; all others in workers with limits. What cannot be decided within its limits is never correct. Where the machine
lets no worker end its work, each function that grades raises `GraderFault`, and nothing is cached.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict

from astro.grading.batch import Failed, run_tasks
from astro.grading.cache import Cache
from astro.grading.compare import Grade
from astro.grading.extract import found_in
from astro.grading.processes import Workers
from astro.grading.worker import PACKAGE
from astro.grading.worker_tasks import at_sight
from schemas.records import Extraction
from schemas.run import Reading

TIME_LIMIT = 2.0
MEMORY_LIMIT = 512 << 20
CACHE_SIZE = 1 << 15

NO_ANSWER: dict[Reading, str] = {"box": "no box", "box_or_statement": "no box and no final statement"}
"""Rule of a response that holds no answer."""
NOTHING = ""
"""The answer of such a response, while it is graded."""


class _Settings(TypedDict):
    """What a pool was made with: the arguments of `Pool`."""

    workers: int | None
    time_limit: float
    memory_limit: int
    cache_size: int
    home: str


class Pool:
    """Workers with limits of their own. `grade` and the like use one that all callers of a process share.

    May be used from threads at once, and after a fork in both processes (each then has its own workers); pickled it is a pool
    with the same settings. Workers are started at the first pair that needs one, and end with the pool or its process.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        time_limit: float = TIME_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
        cache_size: int = CACHE_SIZE,
        home: str = PACKAGE,
    ) -> None:
        """A pool; nothing is started yet.

        Args:
            workers: processes; None: one for each core that this process may use.
            time_limit: seconds of processor time that one grading may take. By the clock a worker that gets no time has twice
                that and a second.
            memory_limit: bytes that one worker may add to what it was started with.
            cache_size: pairs whose grades are kept; 0: none.
            home: what the functions that the workers run begin with: a package and a dot, or a module and a colon.
        """
        if (workers is not None and workers < 1) or time_limit <= 0 or memory_limit <= 0 or cache_size < 0:
            raise ValueError(
                f"expected workers >= 1, time_limit > 0, memory_limit > 0, cache_size >= 0; got {workers}, {time_limit}, "
                f"{memory_limit}, {cache_size}"
            )
        self._settings: _Settings = {
            "workers": workers,
            "time_limit": time_limit,
            "memory_limit": memory_limit,
            "cache_size": cache_size,
            "home": home,
        }
        self._start()

    def _start(self) -> None:
        size = self._settings["workers"] or len(os.sched_getaffinity(0))
        self._workers = Workers(
            size, self._settings["time_limit"], self._settings["memory_limit"], self._settings["home"]
        )
        self._cache = Cache(self._settings["cache_size"])
        self._finalizer = weakref.finalize(self, self._workers.close)
        _pools.add(self)

    def __getstate__(self) -> _Settings:
        return self._settings

    def __setstate__(self, settings: _Settings) -> None:
        self._settings = settings
        self._start()

    # --- grading

    def grade(self, gold: str, response: str, reading: Reading = "box") -> Grade:
        """Grade a whole response: its last boxed answer after the reasoning; see `extract` for the readings."""
        return self.grade_batch([(gold, response)], responses=True, reading=reading)[0]

    def grade_answer(self, gold: str, answer: str) -> Grade:
        """Grade an answer that has been extracted, or is given bare or in a sentence."""
        return self.grade_batch([(gold, answer)])[0]

    def grade_batch(
        self, pairs: Sequence[tuple[str, str]], *, responses: bool = False, reading: Reading = "box"
    ) -> list[Grade]:
        """Grades of (gold, answer) pairs, or of (gold, response) with `responses`, in order.

        Args:
            responses: texts of a model: their answers are extracted first.
            reading: how, see `extract`.

        Raises:
            GraderFault: the machine lets no worker end a grading. No grade of the batch that needs one is cached.
        """
        grades: list[Grade | None] = [None] * len(pairs)
        left: dict[tuple[str, str], list[int]] = {}
        found = [found_in(given, reading) for _, given in pairs] if responses else []
        for number, (gold, given) in enumerate(pairs):
            answer = (found[number][0] or NOTHING) if responses else given
            grade = self._cache.get(gold, answer)
            if grade is None:
                grade = at_sight(gold, answer)
                if grade is not None:
                    self._cache.put(gold, answer, grade)
            if grade is None:
                left.setdefault((gold, answer), []).append(number)
            grades[number] = grade
        if left:
            for (pair, numbers), grade in zip(left.items(), self._in_workers(list(left)), strict=True):
                self._cache.put(*pair, grade)
                for number in numbers:
                    grades[number] = grade
        if responses:
            grades = [
                _extracted(grade, reading, where) for grade, (_, where) in zip(grades, found, strict=True) if grade
            ]
        return grades  # type: ignore[return-value]  # none is None any more

    def _in_workers(self, pairs: list[tuple[str, str]]) -> list[Grade]:
        values = run_tasks(self._workers, [(f"{PACKAGE}worker_tasks:grade_pair", pair) for pair in pairs])
        lost = [gold for (gold, _), value in zip(pairs, values, strict=True) if isinstance(value, Failed)]
        faults = dict(zip(lost, self._gold_faults(lost), strict=True)) if lost else {}
        return [
            _ungraded(answer, value, faults[gold]) if isinstance(value, Failed) else Grade(value[0], value[1], value[2])
            for (gold, answer), value in zip(pairs, values, strict=True)
        ]

    def gold_parses(self, gold: str) -> bool:
        """Can answers be graded against this gold?"""
        return self.gold_fault(gold) is None

    def gold_fault(self, gold: str) -> str | None:
        """Why no answer can be graded against this gold; None: they can."""
        return self._gold_faults([gold])[0]

    def gold_faults(self, golds: Sequence[str]) -> list[str | None]:
        """Why each is no gold; None: it is one.

        A gold can be read, with all that is written beside it, and is graded right against itself. Any other must be left out.
        """
        grades = self.grade_batch([(gold, gold) for gold in golds])
        return [None if g.verdict == "correct" else g.rule for g in grades]

    def _gold_faults(self, golds: list[str]) -> list[str | None]:
        distinct = list(dict.fromkeys(golds))
        values = run_tasks(self._workers, [(f"{PACKAGE}worker_tasks:gold_fault", (gold,)) for gold in distinct])
        faults = {g: v.reason if isinstance(v, Failed) else v for g, v in zip(distinct, values, strict=True)}
        return [faults[gold] for gold in golds]

    # --- anything else that must be isolated

    def call(self, function: str, *arguments: str, failed: Any = None) -> Any:
        """Run "astro.grading.<module>:<function>" of texts in a worker, within the same limits.

        Returns:
            Its value, which must be JSON-able (tuples come back as lists); `failed` where it raises or overruns its limits.

        Raises:
            ValueError: a function of another package.
            GraderFault: the machine lets no worker end it.
        """
        return self.call_batch(function, [arguments], failed=failed)[0]

    def call_batch(self, function: str, arguments: Sequence[Sequence[str]], *, failed: Any = None) -> list[Any]:
        """`call` for each of `arguments`, in order, on all workers."""
        return [failed if isinstance(value, Failed) else value for value in self.run_batch(function, arguments)]

    def run_batch(self, function: str, arguments: Sequence[Sequence[str]]) -> list[Any]:
        """As `call_batch`; `Failed`, which says why, where a call gave no value."""
        home = self._settings["home"]
        if not function.startswith(home) or ":" not in function:
            raise ValueError(f"expected {home}..., got {function!r}")
        return run_tasks(self._workers, [(function, given) for given in arguments])

    def close(self) -> None:
        """End the workers. A later call starts new ones."""
        self._workers.close()


def _extracted(grade: Grade, reading: Reading, where: Extraction) -> Grade:
    """The grade of a response. One without an answer is graded as an empty one: a gold that is none must not punish it."""
    if where != "none":
        return replace(grade, extraction=where)
    fault = grade.verdict == "unparseable_gold"
    return Grade(grade.verdict, None, grade.rule if fault else NO_ANSWER[reading], where)


def _ungraded(answer: str, lost: Failed, gold_fault: str | None) -> Grade:
    if gold_fault is not None:
        return Grade("unparseable_gold", answer, gold_fault)
    return Grade("unparseable_prediction", answer, lost.reason)


# --- the pool of a process ---------------------------------------------------------------------------------------------

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_default: Pool | None = None
_default_lock = threading.Lock()


def _after_fork() -> None:
    """In the copy: its locks may be held by threads that it does not have, and its workers are the original's."""
    global _default_lock
    _default_lock = threading.Lock()
    for pool in list(_pools):
        pool._workers.forget()
        pool._cache = Cache(pool._settings["cache_size"])


os.register_at_fork(after_in_child=_after_fork)


def default_pool() -> Pool:
    """The pool that all callers of this process share."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = Pool()
    return _default


def grade(gold: str, response: str, reading: Reading = "box") -> Grade:
    """Grade a whole response: its last boxed answer after the reasoning; with `box_or_statement`, of a response without any box
    what it states last as its answer. None of these is an unparseable prediction."""
    return default_pool().grade(gold, response, reading)


def grade_answer(gold: str, answer: str) -> Grade:
    """Grade an answer that has been extracted, or is given bare or in a sentence."""
    return default_pool().grade_answer(gold, answer)


def grade_batch(pairs: Sequence[tuple[str, str]], *, responses: bool = False, reading: Reading = "box") -> list[Grade]:
    """Grades of (gold, answer) pairs, or of (gold, response) with `responses`; in order, on all cores."""
    return default_pool().grade_batch(pairs, responses=responses, reading=reading)


def gold_faults(golds: Sequence[str]) -> list[str | None]:
    """Why each is no gold ("a date, as a spreadsheet makes of other values"); None: it is one. On all cores."""
    return default_pool().gold_faults(golds)


def gold_parses(gold: str) -> bool:
    """Can answers be graded against this gold? False: it must be reported and left out, not scored."""
    return default_pool().gold_parses(gold)
