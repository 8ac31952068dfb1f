"""Keep one engine busy: many searches, or a list of requests, over one queue, without a barrier between them."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from astro.engines.api import Engine, EngineError, Request
from astro.search import Sample

Job = Generator[list[Any], list[list[Sample]], Any]
"""Yields what it wants generated (requests, or what `to_request` makes requests of), is sent the answers, aligned, n samples
each, and returns its result. A search (`astro.search.Search`) is one."""


class SearchError(RuntimeError):
    """The search of one problem failed; its cause is chained.

    Attributes:
        problem_id: which problem.
    """

    def __init__(self, problem_id: str, cause: Exception) -> None:
        super().__init__(f"search of problem {problem_id!r} failed: {type(cause).__name__}: {cause}")
        self.problem_id, self.cause = problem_id, cause

    def __reduce__(self):
        """It crosses processes: an exception is made again from its arguments."""
        return SearchError, (self.problem_id, self.cause)


@dataclass(slots=True, eq=False)
class _Running:
    """A job that waits for the answers of its batch."""

    id: str
    job: Job
    answers: list[list[Sample]] = field(default_factory=list)  # one slot per request of the batch
    missing: int = 0  # slots not answered yet


_Owner = TypeVar("_Owner")


class Feed:
    """Jobs in flight over one engine, without a barrier: each goes on as soon as its own batch is answered."""

    def __init__(self, engine: Engine, to_request: Callable[[str, Any], Request] | None = None) -> None:
        """to_request: renders what a job wants, see `run_searches`; None: jobs yield requests."""
        self._engine, self._to_request = engine, to_request
        self._running: set[_Running] = set()
        self._waiting: dict[int, tuple[_Running, int]] = {}  # ticket -> who waits for it, and in which slot

    def __len__(self) -> int:
        """Jobs in flight."""
        return len(self._running)

    def add(self, identifier: str, job: Job) -> list[tuple[str, Any]]:
        """Begin a job. Returns [(identifier, result)] if it needed nothing, else [].

        Raises:
            SearchError: it raised; names it.
            EngineError: the engine failed.
        """
        run = _Running(identifier, job)
        self._running.add(run)
        return self._advance(run)

    def step(self) -> list[tuple[str, Any]]:
        """Wait for answers, let the jobs that they complete go on, and return (identifier, result) of those that ended.

        Raises: as `add`.
        """
        done: list[tuple[str, Any]] = []
        for ticket, samples in self._engine.poll():
            run, slot = _claim(self._waiting, ticket)
            run.answers[slot] = samples
            run.missing -= 1
            if not run.missing:
                done += self._advance(run)
        return done

    def close(self) -> None:
        """Close the jobs. The engine still holds their requests: close it too."""
        for run in self._running:
            run.job.close()
        self._running.clear()
        self._waiting.clear()

    def _advance(self, run: _Running) -> list[tuple[str, Any]]:
        """Hand a job its answers and submit its next batch; [(identifier, result)] if there is none."""
        answers = run.answers or None  # a generator that has not begun accepts None only
        try:
            wanted = run.job.send(answers)
            while not wanted:  # nothing asked for, nothing to wait for
                wanted = run.job.send([])
        except StopIteration as stop:
            self._running.remove(run)
            return [(run.id, stop.value)]
        except Exception as error:
            raise SearchError(run.id, error) from error
        try:
            requests = wanted if self._to_request is None else [self._to_request(run.id, item) for item in wanted]
        except Exception as error:
            raise SearchError(run.id, error) from error
        run.answers = [[] for _ in requests]
        run.missing = len(requests)
        for slot, request in enumerate(requests):
            self._waiting[self._engine.submit(request)] = (run, slot)
        return []


def run_searches(
    searches: Iterable[tuple[str, Job]],
    *,
    engine: Engine,
    in_flight: int,
    to_request: Callable[[str, Any], Request] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Run jobs over one engine and yield (id, result) as they finish: (problem id, tree) for searches.

    Up to `in_flight` go on at once; each proceeds as soon as its own batch is answered, whatever the others wait for.
    `searches` is read lazily, one for each that finishes. A tree does not depend on `in_flight` nor on the order of
    answers (the search's seeds are hashed from its nodes); the order of the results does.

    If the consumer stops early the jobs are closed, but the engine still holds their requests: close it.

    Args:
        searches: (id, job) pairs.
        to_request: `to_request(id, wanted)` renders what a job wants as a request; None: jobs yield requests themselves.

    Raises:
        SearchError: a job, or `to_request` for it, raised; names the problem.
        EngineError: the engine failed.
        ValueError: `in_flight` is below 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    source, feed = iter(searches), Feed(engine, to_request)
    try:
        while True:
            while len(feed) < in_flight and (pair := next(source, None)) is not None:
                yield from feed.add(*pair)
            if not len(feed):
                return
            yield from feed.step()
    finally:
        feed.close()


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
