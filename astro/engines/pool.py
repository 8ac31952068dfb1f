"""Several engines with the same model, one process each, behind one queue.

On CPUs a small model gains little from a second thread and almost twofold from a second process (docs/log.md). A sample
depends on its request alone, so which process answers does not show in the results.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait

from astro.engines.api import Engine, EngineError, Request
from astro.runtime import die_with_parent
from astro.search.requests import Sample

JOIN_S = 10.0
"""How long a process may take to end by itself."""


class PoolEngine:
    """`Engine` over `processes` engines; each request goes to the process with the fewest outstanding samples."""

    def __init__(self, open_one: Callable[[], Engine], processes: int) -> None:
        """open_one: opens one engine; called in each process, so it must be picklable.

        Raises:
            EngineError: one of them cannot be started; says why.
        """
        self._failed, self._closed, self._next = "", False, 0
        self._owner: dict[int, tuple[int, int]] = {}  # ticket -> (process, samples wanted)
        self._load = [0] * processes
        self._processes, self._pipes = [], []
        context = multiprocessing.get_context("spawn")  # a fork would share the threads' locks
        with _threads_each(processes):
            for number in range(processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, open_one), name=f"engine-{number}", daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)
        try:
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
        try:
            self._pipes[number].send((ticket, request))
        except OSError:
            self._fail(number)
        self._owner[ticket] = (number, request.n)
        self._load[number] += request.n
        return ticket

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if self._failed:
            raise EngineError(self._failed)
        if not self._owner:
            raise EngineError("nothing is outstanding")
        ready = wait([pipe for pipe, load in zip(self._pipes, self._load, strict=True) if load])
        answered = [pair for number, pipe in enumerate(self._pipes) if pipe in ready for pair in self._receive(number)]
        for ticket, _ in answered:
            number, samples = self._owner.pop(ticket)
            self._load[number] -= samples
        return answered

    def reset_prefix_cache(self) -> None:
        """Forget cached prompts, where the engines cache any (benchmarks). Nothing may be outstanding."""
        for pipe in self._pipes:
            pipe.send((None, None))
        for number in range(len(self._pipes)):
            self._receive(number)

    def close(self) -> None:
        """As `Engine.close`."""
        self._closed = True
        self._owner.clear()
        for pipe in self._pipes:
            pipe.close()  # the process sees the end of its queue
        for process in self._processes:
            process.join(JOIN_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes, self._load = [], [], []

    def _receive(self, number: int) -> list[tuple[int, list[Sample]]]:
        """The next message of a process: its answers, or [] for "ready"."""
        try:
            kind, content = self._pipes[number].recv()
        except (EOFError, OSError):
            self._fail(number)
        if kind == "failed":
            self._failed = content
            raise EngineError(content)
        return content

    def _fail(self, number: int) -> None:
        """A process is gone."""
        process = self._processes[number]
        process.join(JOIN_S)
        self._failed = f"an engine process ended by itself (exit code {process.exitcode})"
        raise EngineError(self._failed)


@contextlib.contextmanager
def _threads_each(processes: int) -> Iterator[None]:
    """Processes started here share the cores: OpenMP reads its variable once, when it is loaded."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    cores = int(before) if before and before.isdigit() else os.cpu_count() or 1
    os.environ[name] = str(max(1, cores // processes))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _work(pipe: Connection, open_one: Callable[[], Engine]) -> None:
    """One process: open an engine, answer what comes until the pipe closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, and the pipe then closes
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            engine = open_one()
        except EngineError as error:
            pipe.send(("failed", str(error)))
            return
        pipe.send(("ready", []))
        try:
            _serve(pipe, engine)
        except EngineError as error:
            pipe.send(("failed", str(error)))
        finally:
            engine.close()


def _serve(pipe: Connection, engine: Engine) -> None:
    """Between two polls take in all that has come. Returns when the other side has closed the pipe."""
    inbox: queue.SimpleQueue = queue.SimpleQueue()

    def read() -> None:
        """Always takes in, so that neither side waits for the other to read."""
        while True:
            try:
                inbox.put(pipe.recv())
            except (EOFError, OSError):
                inbox.put(None)
                return

    threading.Thread(target=read, daemon=True).start()
    tickets: dict[int, int] = {}  # the engine's ticket -> ours
    while True:
        while not tickets or not inbox.empty():
            item = inbox.get()
            if item is None:
                return
            ticket, request = item
            if ticket is None:
                getattr(engine, "reset_prefix_cache", lambda: None)()
                pipe.send(("ready", []))
            else:
                tickets[engine.submit(request)] = ticket
        pipe.send(("answers", [(tickets.pop(t), samples) for t, samples in engine.poll()]))
