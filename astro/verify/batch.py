"""Many tasks over the workers: in order, on all cores, each at its own cost."""

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from astro.verify.processes import RUNNING, STOPPED, NoWorker, Worker, Workers

CHUNK = 16
"""Tasks sent to a worker at once: enough that it never waits for the next, few enough that no worker is left with many at
the end and that other threads soon get a turn."""

MOST_WAITS = 10
"""A worker that never gets a core is given up after so many times its patience."""

TRIES = 3
"""A worker that ends for no reason of its task (killed from outside) is no verdict: the task is tried so often."""


@dataclass(frozen=True)
class Failed:
    """A task that gave no value."""

    reason: str
    """"time limit", "memory limit", "died", "no worker", or the name of the exception it raised."""


@dataclass
class _Busy:
    worker: Worker
    outstanding: deque[int] = field(default_factory=deque)
    deadline: float = 0.0
    waits: int = 0
    """How often the task that it is at was late."""


def run_tasks(workers: Workers, tasks: Sequence[tuple[str, Sequence[str]]]) -> list:
    """Values of all tasks, in order; `Failed` where there is none. Never raises for what a task does."""
    return _Run(workers, tasks).finish()


class _Run:
    def __init__(self, workers: Workers, tasks: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.workers, self.tasks = workers, tasks
        self.results: list = [None] * len(tasks)
        self.pending = deque(range(len(tasks)))
        self.tries = [0] * len(tasks)
        self.busy: dict = {}  # pipe -> _Busy
        # processor time is what ends a task; the clock is for a worker that gets none, or was stopped
        self.patience = 2 * workers.time_limit + 1.0

    def finish(self) -> list:
        try:
            while self.pending or self.busy:
                self._hire()
                self._listen()
        finally:
            for busy in list(
                self.busy.values()
            ):  # something went wrong here: what is outstanding is not wanted any more
                self.workers.end(busy.worker)
        return self.results

    def _hire(self) -> None:
        while self.pending and len(self.busy) < self.workers.size:
            if self.busy and len(self.pending) < 2:
                return
            try:
                worker = self.workers.take(wait=not self.busy)
            except NoWorker:
                if not self.busy:
                    while self.pending:
                        self.results[self.pending.popleft()] = Failed("no worker")
                return
            if worker is None:
                return
            self.busy[worker.pipe] = _Busy(worker)
            self._send(self.busy[worker.pipe])

    def _send(self, busy: _Busy) -> None:
        """The next tasks for a worker; none are left, or others wait for a worker: it is handed back."""
        if not self.pending or (self.workers.waiting and busy.deadline):
            del self.busy[busy.worker.pipe]
            self.workers.give(busy.worker)
            return
        count = min(CHUNK, max(1, len(self.pending) // (2 * self.workers.size)))
        busy.outstanding.extend(self.pending.popleft() for _ in range(count))
        busy.deadline = time.monotonic() + self.patience
        message = [(self.tasks[i][0], list(self.tasks[i][1])) for i in busy.outstanding]
        try:
            busy.worker.pipe.send_bytes(json.dumps(message).encode())
        except OSError:
            self._lost(busy)

    def _listen(self) -> None:
        if not self.busy:
            return
        soonest = min(busy.deadline for busy in self.busy.values())
        ready = wait(list(self.busy), timeout=max(0.0, soonest - time.monotonic()))
        for pipe in ready:
            self._receive(self.busy[pipe])
        now = time.monotonic()
        for busy in [b for p, b in self.busy.items() if p not in ready and b.deadline <= now]:
            self._overdue(busy)

    def _overdue(self, busy: _Busy) -> None:
        """By the clock a worker is late. One that waits for a core gets more time: a busy machine must not change a grade."""
        state = busy.worker.state()
        busy.waits += 1
        if state == RUNNING and busy.waits < MOST_WAITS:
            busy.deadline = time.monotonic() + self.patience
        else:
            self._lost(busy, "died" if state == STOPPED else "time limit")

    def _receive(self, busy: _Busy) -> None:
        try:
            answer = json.loads(busy.worker.pipe.recv_bytes())
        except (EOFError, OSError):
            self._lost(busy)
            return
        number = busy.outstanding.popleft()
        self.results[number] = Failed(answer["failed"]) if "failed" in answer else answer["value"]
        busy.deadline, busy.waits = time.monotonic() + self.patience, 0
        if answer.get("leaves"):
            del self.busy[busy.worker.pipe]
            self.workers.end(busy.worker)
        elif not busy.outstanding:
            self._send(busy)

    def _lost(self, busy: _Busy, reason: str | None = None) -> None:
        """A worker has ended, or is ended now: the task that it was at pays, the others are done by another one."""
        del self.busy[busy.worker.pipe]
        found = self.workers.end(busy.worker)
        reason = reason or found
        if busy.outstanding:
            blamed = busy.outstanding.popleft()
            self.tries[blamed] += 1
            if reason == "died" and self.tries[blamed] < TRIES:
                busy.outstanding.appendleft(blamed)
            else:
                self.results[blamed] = Failed(reason)
        self.pending.extendleft(reversed(busy.outstanding))
