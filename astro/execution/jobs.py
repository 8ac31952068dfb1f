"""One way to run jobs over a model: search, samples, votes, rewrites, pass rates, eval. A cluster gives the same results.

    store = ResultStore(work / FILE, Tree)
    with open_runner(engine, execution, model) as runner:
        run_jobs(jobs, lambda: problems, store=store, runner=runner, in_flight=96, label="mcts", unit="trees")

Each result is stored as it comes, so a run that was cut off continues item by item.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel

from astro.execution.result_store import ResultStore
from astro.execution.scheduler import Job, TimedEngine, run_searches
from astro.inference.engine import Engine, EngineError
from astro.inference.factory import count_processes, open_engine, share_of
from astro.runtime import Progress, UserError
from astro.special_tokens import read_control

if TYPE_CHECKING:
    from schemas.engine import EngineParams
    from schemas.execution import ExecutionParams

R = TypeVar("R", bound=BaseModel)


class Item(Protocol):
    """What a job is about: plain data that can be pickled, a problem for example."""

    @property
    def id(self) -> str:
        """Names the item in the store."""
        ...


class Jobs(Protocol):
    """What is done with each item. Plain data that can be pickled, without an engine: it travels to the workers of a cluster."""

    def __call__(self, item: Any, /) -> tuple[str, Job]:
        """(id of the item, the job that returns its result)."""
        ...

    def grade(self, wanted: Any, /) -> Any:
        """See `astro.execution.scheduler.Grader`."""
        ...


@dataclass
class Meter:
    """How busy the engines are.

    Attributes:
        workers: engines at work.
        engine_s: seconds inside them, all together.
        worker_s: seconds that they were there, all together.
        lost: workers that were lost, and whose work was done again.
    """

    workers: int = 1
    engine_s: float = 0.0
    worker_s: float = 0.0
    lost: int = 0

    @property
    def busy(self) -> float:
        """Share of their time that the engines worked, 0..1."""
        return self.engine_s / self.worker_s if self.worker_s else 0.0


class Runner(Protocol):
    """Where jobs run."""

    def run(
        self, jobs: Jobs, items: Iterable[Any], *, total: int, in_flight: int, meter: Meter
    ) -> Iterator[tuple[str, Any]]:
        """Yield (id, result) as they come, each item once. `items` is read lazily.

        Args:
            total: number of `items`.
            in_flight: items that are worked on at once.
            meter: is kept up to date.

        Raises:
            EngineError: the engine cannot be opened, failed, or no worker is to be had. Results yielded so far stand.
            SearchError: the job of an item failed; names it.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class LocalRunner:
    """`Runner` over one engine of this process. The first run opens it, the next ones use it again."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._engine: TimedEngine | None = None

    def run(
        self, jobs: Jobs, items: Iterable[Any], *, total: int, in_flight: int, meter: Meter
    ) -> Iterator[tuple[str, Any]]:
        """As `Runner.run`."""
        if self._engine is None:
            self._engine = TimedEngine(self._open())
        began, before = time.monotonic(), self._engine.seconds
        for pair in run_searches(map(jobs, items), engine=self._engine, in_flight=in_flight, grade=jobs.grade):
            meter.engine_s, meter.worker_s = self._engine.seconds - before, time.monotonic() - began
            yield pair

    def load(self, model: Path) -> bool:
        """See `astro.inference.engine.load_weights`. False where no engine is open yet."""
        return self._engine is not None and self._engine.load(model)

    def close(self) -> None:
        """As `Runner.close`."""
        if self._engine is not None:
            self._engine.close()


@contextlib.contextmanager
def open_runners(engine: "EngineParams", execution: "ExecutionParams") -> Iterator[Callable[[Path], Runner]]:
    """Yields what returns the runner of a model, one model after another: asking for the next one ends the one before.

    Local models that differ in their weights alone share one engine, because opening one takes seconds.
    """
    last: Runner | None = None

    def runner_of(model: Path) -> Runner:
        nonlocal last
        if isinstance(last, LocalRunner) and last.load(model):
            return last
        if last is not None:
            last.close()
        last = _runner_of(engine, execution, model)
        return last

    try:
        yield runner_of
    finally:
        if last is not None:
            last.close()


@contextlib.contextmanager
def open_runner(engine: "EngineParams", execution: "ExecutionParams", model: Path) -> Iterator[Runner]:
    """The runner of one model."""
    with open_runners(engine, execution) as runner_of:
        yield runner_of(model)


def _runner_of(engine: "EngineParams", execution: "ExecutionParams", model: Path) -> Runner:
    """The runner that `execution` asks for. A worker of a cluster holds what is one process here, with its share of the jobs."""
    if execution.runner == "local":
        return LocalRunner(partial(open_engine, engine, execution, model))
    from astro.execution.ray_runner import RayRunner

    served = engine.kind == "endpoint"  # its model is elsewhere, and one client serves all
    shares = count_processes(engine, execution, model)
    one = share_of(execution, shares)
    opened = partial(open_engine, engine, one)
    return RayRunner(
        partial(opened, model, control=read_control(model)) if served else opened,
        model=None if served else model,
        settings=execution.ray,
        gpus=0 if served else one.vllm.tensor_parallel_size if engine.kind == "vllm" else 1,
        shares=shares,
    )


def run_jobs(
    jobs: Jobs,
    items: Callable[[], Iterable[Any]],
    *,
    store: ResultStore[R],
    runner: Runner,
    in_flight: int,
    label: str,
    unit: str,
    meter: Meter | None = None,
    note: Callable[[R, int, int], str] | None = None,
) -> None:
    """Do what `store` does not hold yet, and store each result as it comes.

    Args:
        items: begins a pass over the items; ids are unique. The first pass counts, the second one works.
        label: of the stage, in messages. unit: what the items are called there.
        meter: is kept up to date.
        note: called with each new result, how many there are, and of how many; returns the end of the progress line.

    Raises:
        UserError: the engine or the disk failed; says how many results are kept.
        SearchError: the job of an item failed; names it. What came before is stored.
    """
    total = done = 0
    for item in items():
        total += 1
        done += item.id in store
    if done == total:
        return
    if done:
        print(f"[{label}] goes on: {done} of {total} {unit} are there from a run that was cut off", flush=True)
    progress = None  # its clock begins with the first result: opening the engine says nothing of the rate
    missing = (item for item in items() if item.id not in store)
    results = runner.run(jobs, missing, total=total - done, in_flight=in_flight, meter=meter or Meter())
    try:
        with contextlib.closing(results):  # type: ignore[type-var]  # runners are generators
            for identifier, result in results:
                store.add(identifier, result)
                done += 1
                progress = progress or Progress(label, total, unit=unit, start=done)
                progress.update(done, note(result, done, total) if note else "")
    except (EngineError, OSError) as error:
        raise UserError(f"{reason(error)}; {done} finished {unit} are kept and will be used") from None


def reason(error: Exception) -> str:
    """What an error says; a full disk says where."""
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{error.strerror}{where}" if isinstance(error, OSError) and error.strerror else str(error)
