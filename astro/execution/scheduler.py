"""Keeps one engine busy with many jobs over one queue, without barriers between them. Grading runs on other threads."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from astro.inference.engine import Engine, EngineError, Request, load_weights
from astro.search import Sample

Job = Generator[list[Any], Any, Any]
"""A generator that yields batches of requests for the engine and items for the grader (anything that is not a request). It
receives the answers in the same order (n samples per request), and returns its result.
"""

Grader = Callable[[Sequence[Any]], Sequence[Any]]
"""Returns the results of items, in order. Several threads call it at once. An exception is an internal fault, never a grade."""

GRADERS = 4
"""Number of grading threads, so that one slow answer does not block the others. The work itself runs in processes."""

GRADED_AT_ONCE = 256
"""Most items that one thread grades at once."""


class SearchError(RuntimeError):
    """The job of one item failed. The cause is chained.

    Attributes:
        item_id: id of the item.
    """

    def __init__(self, item_id: str, cause: Exception) -> None:
        super().__init__(f"work on {item_id!r} failed: {type(cause).__name__}: {cause}")
        self.item_id, self.cause = item_id, cause

    def __reduce__(self) -> tuple[Callable[..., "SearchError"], tuple[str, Exception]]:
        """Pickle support: an exception is rebuilt from its arguments in another process."""
        return SearchError, (self.item_id, self.cause)


_Owner = TypeVar("_Owner")


class _Grading:
    """Grades items in batches on separate threads."""

    def __init__(self, grade: Grader) -> None:
        self._grade = grade
        self._todo: queue.SimpleQueue = queue.SimpleQueue()
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.outstanding = 0

    def submit(self, owner: Any, item: Any) -> None:
        """Queue an item; `owner` is returned with its result."""
        if not self._threads:
            self._threads = [threading.Thread(target=self._work, daemon=True, name="grader") for _ in range(GRADERS)]
            for thread in self._threads:
                thread.start()
        self.outstanding += 1
        self._todo.put((owner, item))

    def take(self, *, wait: bool) -> list[tuple[Any, Any]]:
        """(owner, result or exception) of all graded items. With `wait`, block until there is at least one."""
        found = [self._done.get()] if wait and self.outstanding else []
        while not self._done.empty():
            found.append(self._done.get())
        self.outstanding -= len(found)
        return found

    def close(self) -> None:
        """End each thread after its current batch."""
        for _ in self._threads:
            self._todo.put(None)
        self._threads = []

    def _work(self) -> None:
        while (first := self._todo.get()) is not None:
            batch = [first]
            while len(batch) < GRADED_AT_ONCE and not self._todo.empty():
                try:
                    more = self._todo.get_nowait()
                except queue.Empty:  # another thread took the item first
                    break
                if more is None:
                    self._todo.put(None)
                    break
                batch.append(more)
            self._grade_all(batch)

    def _grade_all(self, batch: list[tuple[Any, Any]]) -> None:
        try:
            results: Sequence[Any] = self._grade([item for _, item in batch])
        except Exception as error:
            if len(batch) == 1:
                self._done.put((batch[0][0], error))
            else:  # find the item at fault, so that the others get their grades
                for one in batch:
                    self._grade_all([one])
            return
        for (owner, _), result in zip(batch, results, strict=True):
            self._done.put((owner, result))


@dataclass(slots=True, eq=False)
class _Running:
    """A job that waits for the answers of its batch."""

    id: str
    job: Job
    answers: list[Any] = field(default_factory=list)  # one slot per item of the batch
    missing: int = 0  # slots without an answer


class Feed:
    """Runs jobs over one engine without barriers: each job continues as soon as its own batch is answered."""

    def __init__(self, engine: Engine, grade: Grader | None = None) -> None:
        """Create a feed.

        Args:
            grade: processes the items that jobs yield beside requests; None: jobs yield only requests.
        """
        self._engine = engine
        self._grading = None if grade is None else _Grading(grade)
        self._running: set[_Running] = set()
        self._waiting: dict[int, tuple[_Running, int]] = {}  # ticket -> waiting job and slot

    def __len__(self) -> int:
        """Number of jobs in flight."""
        return len(self._running)

    def add(self, identifier: str, job: Job) -> list[tuple[str, Any]]:
        """Start a job. Returns [(identifier, result)] if it finished at once, else [].

        Raises:
            SearchError: the job or its grading raised; names the item.
            EngineError: the engine failed.
        """
        run = _Running(identifier, job)
        self._running.add(run)
        return self._advance(run)

    def step(self) -> list[tuple[str, Any]]:
        """Wait for answers, continue the jobs that they complete, and return (identifier, result) of finished jobs.

        Raises: as `add`.
        """
        done: list[tuple[str, Any]] = []
        if self._grading is not None:
            for (run, slot), result in self._grading.take(wait=not self._waiting):
                if isinstance(result, Exception):
                    raise SearchError(run.id, result) from result
                done += self._answer(run, slot, result)
            if done or not self._waiting:
                return done
        for ticket, samples in self._engine.poll():
            done += self._answer(*_claim(self._waiting, ticket), samples)
        return done

    def close(self) -> None:
        """Close the jobs. The engine still holds their requests, so close it as well."""
        for run in self._running:
            run.job.close()
        self._running.clear()
        self._waiting.clear()
        if self._grading is not None:
            self._grading.close()

    def _answer(self, run: _Running, slot: int, answer: Any) -> list[tuple[str, Any]]:
        """Fill a slot. The job continues when its last slot is filled."""
        run.answers[slot] = answer
        run.missing -= 1
        return [] if run.missing else self._advance(run)

    def _advance(self, run: _Running) -> list[tuple[str, Any]]:
        """Send a job its answers and submit its next batch. Returns [(identifier, result)] if the job finished."""
        answers = run.answers or None  # a generator that has not started accepts only None
        try:
            wanted = run.job.send(answers)
            while not wanted:  # an empty batch needs no wait
                wanted = run.job.send([])
        except StopIteration as stop:
            self._running.remove(run)
            return [(run.id, stop.value)]
        except Exception as error:
            raise SearchError(run.id, error) from error
        run.answers = [None] * len(wanted)
        run.missing = len(wanted)
        for slot, item in enumerate(wanted):
            if isinstance(item, Request):
                self._waiting[self._engine.submit(item)] = (run, slot)
            elif self._grading is not None:
                self._grading.submit((run, slot), item)
            else:
                raise SearchError(run.id, TypeError(f"nobody grades {item!r}"))
        return []


def run_searches(
    jobs: Iterable[tuple[str, Job]], *, engine: Engine, in_flight: int, grade: Grader | None = None
) -> Iterator[tuple[str, Any]]:
    """Run jobs over one engine and yield (id, result) as they finish; for searches that is (problem id, tree).

    Up to `in_flight` jobs run concurrently. Each continues as soon as its own batch is answered. `jobs` is read lazily.
    A result depends neither on `in_flight` nor on the order of answers, because seeds are hashed from the requests.
    Only the order of the results varies.

    If the consumer stops early, the jobs are closed, but the engine still holds their requests, so close it as well.

    Args:
        jobs: (id, job) pairs.
        grade: see `Feed`.

    Raises:
        SearchError: a job or its grading raised; names the item.
        EngineError: the engine failed.
        ValueError: `in_flight` is below 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    source, feed = iter(jobs), Feed(engine, grade)
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
    """Answer a list of requests, in order, with at most `concurrency` sequences in the engine.

    A request is n sequences. Requests are submitted in order, as soon as the next one fits. A request larger than
    `concurrency` runs alone.

    Args:
        progress: called after each poll with the number of answered requests.

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
    """The owner of a ticket, removed from `waiting`."""
    try:
        return waiting.pop(ticket)
    except KeyError:
        raise EngineError(f"the engine answered request {ticket}, which is not pending") from None


class TimedEngine:
    """An engine that measures the time spent in another engine.

    Attributes:
        seconds: wall time inside `submit` and `poll` so far. The rest of a driver's wall time is overhead.
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

    def load(self, model: Path) -> bool:
        """See `astro.inference.engine.load_weights`; not timed."""
        return load_weights(self._engine, model)

    def close(self) -> None:
        """As `Engine.close`; not timed."""
        self._engine.close()
