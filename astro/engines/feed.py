"""Keep one engine busy: many searches, or a list of requests, over one queue, without a barrier between them."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from astro.engines.api import Engine, EngineError, Request
from astro.search import Expand, Sample, Search, Simulate
from schemas.records import Tree


class SearchError(RuntimeError):
    """The search of one problem failed; its cause is chained.

    Attributes:
        problem_id: which problem.
    """

    def __init__(self, problem_id: str, cause: Exception) -> None:
        super().__init__(f"search of problem {problem_id!r} failed: {type(cause).__name__}: {cause}")
        self.problem_id = problem_id


@dataclass(slots=True, eq=False)
class _Running:
    """A search that waits for the answers of its batch."""

    id: str
    search: Search
    answers: list[list[Sample]] = field(default_factory=list)  # one slot per request of the batch
    missing: int = 0  # slots not answered yet
    tree: Tree | None = None  # None: not finished


_Owner = TypeVar("_Owner")
_Waiting = dict[int, tuple[_Running, int]]  # ticket -> who waits for it, and in which slot


def run_searches(
    searches: Iterable[tuple[str, Search]],
    *,
    engine: Engine,
    to_request: Callable[[str, Expand | Simulate], Request],
    in_flight: int,
) -> Iterator[tuple[str, Tree]]:
    """Run searches over one engine and yield (problem id, tree) as they finish.

    Up to `in_flight` searches go on at once; each proceeds as soon as its own batch is answered, whatever the others
    wait for. `searches` is read lazily, one search for each that finishes. A tree does not depend on `in_flight`
    nor on the order of answers (the search's seeds are hashed from its nodes); the order of the results does.

    If the consumer stops early the searches are closed, but the engine still holds their requests: close it.

    Args:
        searches: (problem id, search) pairs.
        to_request: `to_request(problem id, wanted)` renders what a search wants as a request.

    Raises:
        SearchError: a search, or `to_request` for it, raised; names the problem.
        EngineError: the engine failed.
        ValueError: `in_flight` is below 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    source = iter(searches)
    running: set[_Running] = set()
    waiting: _Waiting = {}
    try:
        while True:
            while len(running) < in_flight and (pair := next(source, None)) is not None:
                run = _Running(*pair)
                running.add(run)
                if _advance(run, waiting, engine=engine, to_request=to_request):
                    running.remove(run)
                    yield run.id, run.tree
            if not running:
                return
            for ticket, samples in engine.poll():
                run, slot = _claim(waiting, ticket)
                run.answers[slot] = samples
                run.missing -= 1
                if not run.missing and _advance(run, waiting, engine=engine, to_request=to_request):
                    running.remove(run)
                    yield run.id, run.tree
    finally:
        for run in running:
            run.search.close()


def _advance(
    run: _Running, waiting: _Waiting, *, engine: Engine, to_request: Callable[[str, Expand | Simulate], Request]
) -> bool:
    """Hand a search its answers and submit its next batch. Returns whether it is finished (`run.tree` is set)."""
    answers = run.answers or None  # a generator that has not begun accepts None only
    wanted: list[Expand | Simulate] = []
    try:
        wanted = run.search.send(answers)
        while not wanted:  # nothing asked for, nothing to wait for
            wanted = run.search.send([])
    except StopIteration as stop:
        run.tree = stop.value
        return True
    except Exception as error:
        raise SearchError(run.id, error) from error
    try:
        requests = [to_request(run.id, item) for item in wanted]
    except Exception as error:
        raise SearchError(run.id, error) from error
    run.answers = [[] for _ in requests]
    run.missing = len(requests)
    for slot, request in enumerate(requests):
        waiting[engine.submit(request)] = (run, slot)
    return False


def generate(
    requests: Sequence[Request],
    *,
    engine: Engine,
    concurrency: int,
    progress: Callable[[int], None] | None = None,
) -> list[list[Sample]]:
    """Answer a list of requests, in its order, with at most `concurrency` sequences in the engine.

    A request is n sequences. They are submitted in order, as soon as the next one fits; one that alone is more than
    `concurrency` goes by itself.

    Args:
        progress: called after each poll with the number of requests answered so far.

    Raises:
        EngineError: the engine failed.
        ValueError: `concurrency` is below 1.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    answers: list[list[Sample]] = [[] for _ in requests]
    waiting: dict[int, int] = {}  # ticket -> position in requests
    submitted = answered = sequences = 0
    while answered < len(requests):
        while submitted < len(requests) and (not waiting or sequences + requests[submitted].n <= concurrency):
            waiting[engine.submit(requests[submitted])] = submitted
            sequences += requests[submitted].n
            submitted += 1
        for ticket, samples in engine.poll():
            position = _claim(waiting, ticket)
            answers[position] = samples
            sequences -= requests[position].n
            answered += 1
        if progress is not None:
            progress(answered)
    return answers


def _claim(waiting: dict[int, _Owner], ticket: int) -> _Owner:
    """Who waits for a ticket, removed from `waiting`."""
    try:
        return waiting.pop(ticket)
    except KeyError:
        raise EngineError(f"the engine answered ticket {ticket}, which is not outstanding here") from None


class TimedEngine:
    """An engine that measures the time spent in another one.

    Attributes:
        seconds: wall time inside `submit` and `poll` so far. What a driver's wall time exceeds it by is overhead.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        start = time.perf_counter()
        try:
            return self._engine.submit(request)
        finally:
            self.seconds += time.perf_counter() - start

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        start = time.perf_counter()
        try:
            return self._engine.poll()
        finally:
            self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """As `Engine.close`; not timed."""
        self._engine.close()
