"""Several engines with the same model behind one queue, each in its own process.

On CPUs a small model gains little from a second thread and almost a factor of two from a second process (docs/log.md).
Results do not depend on which process answers, because a sample depends only on its request.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from astro.inference.engine import Engine, EngineError, Request, load_weights
from astro.process import die_with_parent
from astro.search.requests import Sample

JOIN_S = 10.0
"""Seconds that a process may take to close its engine or to end."""

THREADS = "OMP_NUM_THREADS"


@dataclass(eq=False)
class _Worker:
    """A process that holds an engine or waits for the next one."""

    process: BaseProcess
    pipe: Connection
    threads: int

    def end(self) -> None:
        """Close the queue, so that the process ends. If it does not end in time, it is killed."""
        self.pipe.close()
        self.process.join(JOIN_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


_idle: list[_Worker] = []
"""Processes without an engine. The next pool of this process reuses them, because their imports are done."""


def end_idle() -> None:
    """End the idle processes. Without this call they end with the parent process."""
    while _idle:
        _idle.pop().end()


class PoolEngine:
    """`Engine` over `processes` engines. Each request goes to the process with the fewest outstanding samples."""

    def __init__(self, open_one: Callable[[], Engine], processes: int) -> None:
        """Open the engines.

        Args:
            open_one: opens one engine; called in each process, so it must be picklable.

        Raises:
            EngineError: an engine cannot be started; says why.
        """
        self._failed, self._closed, self._next = "", False, 0
        self._owner: dict[int, tuple[int, int]] = {}  # ticket -> (process, number of samples)
        self._load = [0] * processes
        with _threads_each(processes) as threads:
            self._workers = [_take(threads) or _start(threads) for _ in range(processes)]
        try:
            for number in range(processes):
                self._send(number, "open", open_one)
            for number in range(processes):
                self._receive(number)  # ready
        except EngineError:
            self.close()
            raise

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed")
        if self._failed:
            raise EngineError(self._failed)
        number = min(range(len(self._load)), key=self._load.__getitem__)
        ticket, self._next = self._next, self._next + 1
        self._send(number, "request", (ticket, request))
        self._owner[ticket] = (number, request.n)
        self._load[number] += request.n
        return ticket

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if self._failed:
            raise EngineError(self._failed)
        if not self._owner:
            raise EngineError("nothing is outstanding")
        ready = wait([w.pipe for w, load in zip(self._workers, self._load, strict=True) if load])
        answered = [pair for n, w in enumerate(self._workers) if w.pipe in ready for pair in self._receive(n)]
        for ticket, _ in answered:
            number, samples = self._owner.pop(ticket)
            self._load[number] -= samples
        return answered

    def reset_prefix_cache(self) -> None:
        """Clear the prefix caches of the engines, if they have any (for benchmarks). Nothing may be outstanding."""
        for number in range(len(self._workers)):
            self._send(number, "reset", None)
        for number in range(len(self._workers)):
            self._receive(number)

    def load(self, model: Path) -> bool:
        """See `astro.inference.engine.load_weights`. All engines are alike, so either all of them load the model or none does."""
        for number in range(len(self._workers)):
            self._send(number, "load", model)
        loaded = [self._receive(number) for number in range(len(self._workers))]
        return all(one == [True] for one in loaded)

    def close(self) -> None:
        """As `Engine.close`. The processes stay for the next pool, unless one of them failed."""
        self._closed = True
        self._owner.clear()
        for worker in self._workers:
            if not self._failed and _freed(worker):
                _idle.append(worker)
            else:
                worker.end()
        self._workers, self._load = [], []

    def _send(self, number: int, kind: str, content: object) -> None:
        try:
            self._workers[number].pipe.send((kind, content))
        except OSError:
            self._gone(number)

    def _receive(self, number: int) -> list[Any]:
        """The next message of a process: its answers or another reply; [] if it only confirms something."""
        try:
            kind, content = self._workers[number].pipe.recv()
        except (EOFError, OSError):
            self._gone(number)
        if kind == "failed":
            self._failed = content
            raise EngineError(content)
        return content

    def _gone(self, number: int) -> None:
        process = self._workers[number].process
        process.join(JOIN_S)
        self._failed = f"an engine process ended unexpectedly (exit code {process.exitcode})"
        raise EngineError(self._failed)


def _start(threads: int) -> _Worker:
    """Start a process with the current environment."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), name="engine", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, threads)


def _take(threads: int) -> _Worker | None:
    """Take an idle process with this number of threads."""
    for worker in [w for w in _idle if w.threads == threads]:
        _idle.remove(worker)
        if _freed(worker):  # it answers; a dying process may still look alive
            return worker
        worker.end()
    return None


def _freed(worker: _Worker) -> bool:
    """Close the worker's engine and drop outstanding answers. Returns False if it did not close in time."""
    try:
        worker.pipe.send(("close", None))
        while worker.pipe.poll(JOIN_S):
            if worker.pipe.recv()[0] == "closed":
                return True
    except (EOFError, OSError):
        pass
    return False


def usable_cores() -> int:
    """Number of cores for the engines of this machine: OMP_NUM_THREADS, or the cores that this process may use."""
    given = os.environ.get(THREADS, "")
    return max(1, int(given)) if given.isdigit() else len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _threads_each(processes: int) -> Iterator[int]:
    """Divide the cores among processes started here. OpenMP reads its variable once, when loaded. Yields the threads of each."""
    before = os.environ.get(THREADS)
    threads = max(1, usable_cores() // processes)
    os.environ[THREADS] = str(threads)
    try:
        yield threads
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


# --- in the worker process
# ---------------------------------------------------------------------------------------------


def _work(pipe: Connection) -> None:
    """Open engines one after the other and answer requests, until the parent closes the pipe."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which then closes the pipe
    inbox: queue.SimpleQueue = queue.SimpleQueue()

    def read() -> None:
        """Read all the time, so that the two sides never wait for each other."""
        while True:
            try:
                inbox.put(pipe.recv())
            except (EOFError, OSError):
                inbox.put(("end", None))
                return

    threading.Thread(target=read, daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            kind, content = inbox.get()
            if kind == "end":
                return
            if kind == "close":  # the engine failed to open
                pipe.send(("closed", []))
                continue
            try:
                engine = content()
            except EngineError as error:
                pipe.send(("failed", str(error)))
                continue
            pipe.send(("ready", []))
            try:
                last = _serve(pipe, inbox, engine)
            except EngineError as error:
                pipe.send(("failed", str(error)))
                return
            finally:
                engine.close()
            if last == "end":
                return
            pipe.send(("closed", []))


def _serve(pipe: Connection, inbox: queue.SimpleQueue, engine: Engine) -> str:
    """Serve requests. New messages are taken in between two polls. Returns "close" or "end", whichever arrived."""
    tickets: dict[int, int] = {}  # the engine's ticket -> ours
    while True:
        while not tickets or not inbox.empty():
            kind, content = inbox.get()
            if kind in ("close", "end"):
                return kind
            if kind == "reset":
                getattr(engine, "reset_prefix_cache", lambda: None)()
                pipe.send(("ready", []))
            elif kind == "load":
                pipe.send(("ready", [load_weights(engine, content)]))
            else:
                ticket, request = content
                tickets[engine.submit(request)] = ticket
        pipe.send(("answers", [(tickets.pop(t), samples) for t, samples in engine.poll()]))
