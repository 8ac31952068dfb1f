"""Runs jobs on a Ray cluster. Each worker holds one engine and receives items. No other module imports Ray.

Two calls are always queued at a busy worker, so that its engine works while an answer travels. A worker holds a few more
items than it works on, and fewer towards the end, so that all workers finish at the same time. The items of a lost worker
are handed out again. Results of a worker that was given up are dropped, so each item has exactly one result.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.code_identity import Sources
from astro.execution import ray_reaper
from astro.execution.model_transfer import TransferredModel, transfer
from astro.execution.scheduler import Feed, TimedEngine
from astro.inference.engine import Engine, EngineError
from astro.process import plural

if TYPE_CHECKING:
    from astro.execution.job_runner import Item, Jobs, Meter
    from schemas.execution import RayParams

LINGER_S = 0.05
"""Seconds that a worker collects results before it answers a call."""

ANSWER_S = 1.0
"""Longest time in seconds until a worker answers a call, with or without results, if its engine returns in time."""

CALLS = 2
"""Number of calls that are queued at a worker."""

LOSSES = 5
"""Lost workers in a row, without a result in between, that end the run. The limit is at least twice the number of workers."""

STARTS = 5
"""Attempts to start a local cluster."""

REACH_S = 10.0
"""Seconds to wait for a connection to the head node."""

SHORT_PATH = 25
"""Longest path of Ray's folder, in characters. Ray's sockets lie deep below it, and a socket's path has at most 107."""

TELL_S = 30.0
"""Seconds between "waiting for a worker" messages."""

STORE_BYTES = 200 * 2**20
"""Bytes of Ray's object store in a local cluster. Results only pass through it."""


class Worker:
    """The Ray actor: an engine and its jobs in flight."""

    def __init__(
        self, jobs: "Jobs", open_engine: Callable[..., Engine], model: TransferredModel | None, in_flight: int
    ) -> None:
        self._jobs, self._open, self._model, self._in_flight = jobs, open_engine, model, in_flight
        self._waiting: deque[Item] = deque()

    def open(self) -> str:
        """Open the engine and return the place of this worker. Raises EngineError if the engine cannot be opened."""
        import ray

        self._engine = TimedEngine(self._open(*([] if self._model is None else [self._model.at(ray.get)])))
        self._feed = Feed(self._engine, self._jobs.grade)
        return os.uname().nodename

    def work(self, items: list["Item"]) -> tuple[list[tuple[str, Any]], float]:
        """Add items and work for a while. Returns ((id, result) of finished items, seconds in the engine).

        Raises as `Feed.step`. After an error the worker cannot be used again.
        """
        self._waiting.extend(items)
        before, began = self._engine.seconds, time.monotonic()
        done: list[tuple[str, Any]] = []
        while True:
            while self._waiting and len(self._feed) < self._in_flight:
                done += self._feed.add(*self._jobs(self._waiting.popleft()))
            passed = time.monotonic() - began
            if not len(self._feed) or passed > ANSWER_S or (done and passed > LINGER_S):
                return done, self._engine.seconds - before
            done += self._feed.step()


@dataclass(eq=False)
class _Handle:
    """The driver's record of a worker."""

    actor: Any
    opened: bool = False
    since: float = 0.0
    calls: list[Any] = field(default_factory=list)  # outstanding calls, oldest first
    items: dict[str, "Item"] = field(default_factory=dict)  # handed out, but without a result yet


def connect(settings: "RayParams", task: str = "") -> Any:
    """Connect Ray to the cluster of `settings`, or to a new local cluster.

    Args:
        task: task of the jobs (`schemas.run.RunParams.spec`). The workers get its file, and the files that it imports.

    Raises:
        EngineError: Ray is not installed, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # a worker without a GPU keeps its environment variables
    os.environ.setdefault(
        "RAY_worker_register_timeout_seconds", "600"
    )  # leaves time for a worker's imports on a busy machine
    try:
        import ray
    except ImportError as error:
        raise EngineError(f"runner ray: Ray cannot be imported ({error}); install the ray extra") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if settings.address:
            reach(settings.address)
            here = Path(__file__).parents[2]
            code: dict[str, Any] = {"py_modules": [str(here / name) for name in ("astro", "schemas")]}
            with tempfile.TemporaryDirectory(prefix="astro-task-") as folder:
                if copy_task(task, Path(folder)):
                    code["working_dir"] = folder  # the workers' current folder
                ray.init(address=settings.address, runtime_env=code, **quiet)
        else:
            begin(ray, **quiet)
    except Exception as error:  # Ray itself raises plain Exception
        where = settings.address or "a cluster on this machine"
        raise EngineError(
            f"execution.ray.address {where}: no Ray cluster answers ({' '.join(str(error).split())})"
        ) from None
    return ray


def copy_task(task: str, folder: Path) -> bool:
    """Copy the file of a user's task, and the files that it imports, to the same relative paths below `folder`.

    Returns: whether there was one to copy. A file outside the current folder must lie on a disk that the nodes share.
    """
    source = Path(task.partition(" ")[0])
    if source.suffix != ".py" or source.is_absolute() or ".." in source.parts:
        return False
    for name in Sources().of_user(source):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, folder / name)
    return True


def begin(ray: Any, **options: Any) -> None:
    """Start a local cluster, with several attempts. Ray gives up after 30 s, which a busy machine may exceed."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=start_reaper(),
                **options,
            )
            return
        except Exception:
            leave(ray)
            if not left:
                raise


def reach(address: str) -> None:
    """Check that the head node accepts connections, because Ray itself tries a dead address for minutes.

    Raises:
        OSError: nothing listens at host:port.
        ValueError: the address is not host:port.
    """
    if address == "auto":
        return
    host, mark, port = address.rpartition(":")
    if not (mark and port.isdigit()) or "/" in host:
        raise ValueError('expected "host:port" of the head node, "auto" or ""')
    socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


def start_reaper() -> str:
    """Start the reaper of a local cluster (see `astro.execution.ray_reaper`). Returns the folder for Ray's files.

    The reaper waits for the end of this process. The process's environment, and so that of the cluster, carries the mark.
    """
    short = len(tempfile.gettempdir()) <= SHORT_PATH
    folder, mark = tempfile.mkdtemp(prefix="astro-ray-", dir=None if short else "/tmp"), uuid.uuid4().hex
    command = [sys.executable, "-m", "astro.execution.ray_reaper", mark, folder]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], start_new_session=True)
    _reapers.append(reaper)
    os.environ[ray_reaper.MARK] = mark
    return folder


def leave(ray: Any) -> None:
    """Disconnect from the cluster. A local cluster ends with all its processes."""
    ray.shutdown()
    os.environ.pop(ray_reaper.MARK, None)
    while _reapers:
        reaper = _reapers.pop()
        assert reaper.stdin is not None  # it was opened as a pipe
        reaper.stdin.close()
        reaper.wait()


_reapers: list[subprocess.Popen] = []
"""The reapers of this process. They are kept open, because closing their pipe ends the cluster."""


class RayRunner:
    """`astro.execution.job_runner.Runner` on a cluster, which is joined (or started) for each run and left at its end."""

    def __init__(
        self,
        open_engine: Callable[..., Engine],
        *,
        settings: "RayParams",
        gpus: int,
        model: Path | None = None,
        shares: int = 1,
    ) -> None:
        """Create a runner without starting anything.

        Args:
            open_engine: opens the engine of a worker; picklable. If there is a `model`, it is called with the model's
                folder on the worker's machine.
            gpus: number of GPUs per engine, on a cluster that has GPUs.
            shares: a worker runs in_flight / shares items at once.
        """
        self._open, self._settings, self._gpus, self._model, self._shares = open_engine, settings, gpus, model, shares

    def run(
        self, jobs: "Jobs", items: Iterable["Item"], *, total: int, in_flight: int, meter: "Meter"
    ) -> Iterator[tuple[str, Any]]:
        """As `Runner.run`. Ray is left when the iterator ends or is closed."""
        ray = connect(self._settings, jobs.task)
        try:
            held = max(1, in_flight // self._shares)
            driver = _Driver(ray, items, total=total, in_flight=held, settings=self._settings, meter=meter)
            bring = bool(self._settings.address)
            carried = None if self._model is None else transfer(self._model, ray.put, bring=bring)
            driver.prepare(jobs, self._open, carried, gpus=self._gpus)
            yield from driver.run()
        finally:
            leave(ray)

    def close(self) -> None:
        """As `Runner.close`."""


class _Driver:
    """Distributes items to workers and collects their results."""

    def __init__(
        self,
        ray: Any,
        items: Iterable["Item"],
        *,
        total: int,
        in_flight: int,
        settings: "RayParams",
        meter: "Meter",
    ) -> None:
        self._ray, self._settings, self._meter, self._in_flight = ray, settings, meter, in_flight
        self._source, self._left = iter(items), total  # left: items that are neither answered nor handed out
        self._again: deque[Item] = deque()  # items of lost workers, to hand out again
        self._workers: list[_Handle] = []
        self._losses = 0  # since the last result
        self._why = "none was started"
        self._idle_since = self._told = self._counted = self._ticked = time.monotonic()

    def prepare(
        self, jobs: "Jobs", open_engine: Callable[..., Engine], model: TransferredModel | None, *, gpus: int
    ) -> None:
        """Define the actor and its resources: one core, and GPUs if the cluster has some."""
        self._gpus = gpus if self._ray.cluster_resources().get("GPU") else 0
        actor = self._ray.remote(Worker).options(
            num_cpus=1, num_gpus=self._gpus, scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0
        )
        self._start = lambda: actor.remote(jobs, open_engine, model, self._in_flight)

    def run(self) -> Iterator[tuple[str, Any]]:
        """Yield results until every item has one."""
        while self._left or self._again or any(w.items for w in self._workers):
            self._staff()
            for worker in self._workers:
                self._feed(worker)
            calls = {call: worker for worker in self._workers for call in worker.calls}
            ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=ANSWER_S, fetch_local=True)
            for call in ready:
                worker = calls[call]
                if worker in self._workers:  # it may have been given up a moment ago
                    yield from self._take(worker, call)
            self._watch()

    def _wanted(self) -> int:
        """Number of workers to have: given by the params or the cluster's size, but at most the number of items."""
        has = self._ray.cluster_resources()
        fits = int(has.get("CPU", 0))
        if self._gpus:
            fits = min(fits, int(has.get("GPU", 0) // self._gpus))
        work = self._left + len(self._again) + sum(len(w.items) for w in self._workers)
        return max(1, min(self._settings.workers or fits, work))

    def _staff(self) -> None:
        """Start missing workers, because nodes may come and go."""
        now = time.monotonic()
        if self._workers and now - self._counted < ANSWER_S:
            return
        self._counted = now
        for _ in range(self._wanted() - len(self._workers)):
            worker = _Handle(self._start())
            worker.calls.append(worker.actor.open.remote())
            self._workers.append(worker)

    def _feed(self, worker: _Handle) -> None:
        """Queue calls at an open worker, with as many new items as it has room for."""
        while worker.opened and len(worker.calls) < CALLS:
            room = self._in_flight + max(4, self._in_flight // 4) - len(worker.items)
            share = -(
                -(self._left + len(self._again)) // (CALLS * len(self._workers))
            )  # spread the remaining items evenly
            new = [self._next() for _ in range(max(0, min(room, share)))]
            worker.items |= {p.id: p for p in new}
            if not worker.items:
                return
            worker.calls.append(worker.actor.work.remote(new))

    def _next(self) -> "Item":
        if self._again:
            return self._again.popleft()
        self._left -= 1
        return next(self._source)

    def _take(self, worker: _Handle, call: Any) -> Iterator[tuple[str, Any]]:
        """Process the answer of a call. A failure costs the worker, or ends the run."""
        errors = self._ray.exceptions
        worker.calls.remove(call)
        try:
            answer = self._ray.get(call)
        except errors.RayTaskError as error:  # our own code raised it in the worker
            cause = error.cause
            if not isinstance(cause, EngineError) or not worker.opened:
                raise cause from None
            self._lose(worker, str(cause))
            return
        except errors.RayError as error:  # the worker, its node or the answer is lost
            self._lose(worker, " ".join(str(error).split())[:300])
            return
        if not worker.opened:
            worker.opened, worker.since = True, time.monotonic()
            return
        done, seconds = answer
        self._meter.engine_s += seconds
        for identifier, result in done:
            del worker.items[identifier]
            self._losses = 0
            yield identifier, result

    def _lose(self, worker: _Handle, why: str) -> None:
        """Give up a worker and hand out its items again.

        Raises:
            EngineError: too many workers were lost without any progress.
        """
        self._workers.remove(worker)
        self._again.extend(worker.items.values())
        self._meter.lost += 1
        self._losses += 1
        self._why = why
        self._ray.kill(worker.actor)
        print(
            f"[ray] a worker was lost; {plural(len(worker.items), 'item of it is', 'items of it are')} repeated: {why}",
            flush=True,
        )
        if self._losses >= max(LOSSES, 2 * len(self._workers)):
            names = ", ".join(list(worker.items)[:5])
            raise EngineError(
                f"{self._losses} workers in a row were lost without a result; the last one was working on {names}: "
                f"{why}"
            )

    def _watch(self) -> None:
        """Update the meter, and stop waiting after a limit.

        Raises:
            EngineError: for `ray.wait_timeout_s` no worker was available.
        """
        now, at_work = time.monotonic(), [w for w in self._workers if w.opened]
        self._meter.workers = len(at_work)
        self._meter.worker_s += len(at_work) * (now - self._ticked)
        self._ticked = now
        if at_work:
            self._idle_since = now
        elif now - self._idle_since > self._settings.wait_timeout_s:
            raise EngineError(
                f"ray: no worker for {self._settings.wait_timeout_s:.0f} s; the last one was lost: {self._why}"
            )
        elif now - max(self._told, self._idle_since) > TELL_S:
            self._told = now
            has = self._ray.cluster_resources()
            print(f"[ray] waiting for a worker; the cluster has {plural(int(has.get('CPU', 0)), 'core')}", flush=True)
