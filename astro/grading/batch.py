"""Many tasks over the workers: in order, on all cores, each at its own cost."""

import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from astro.grading.processes import RUNNING, SLEEPING, GraderFault, Worker, Workers

CHUNK = 16
"""Tasks sent to a worker at once: enough that it never waits for the next, few enough that no worker is left with many at
the end and that other threads soon get a turn."""

MOST_WAITS = 10
"""A worker that never gets a core is replaced after so many times its patience."""

OWN_TRIES = 3
"""A task whose worker crashes, or waits for nothing, so many times alone in fresh workers is what caused it."""

TRIES = 10
INSIST_S = 600.0
"""A task whose worker is ended from outside is tried at least so many times, and for so long: such an end is no verdict."""

AT_ONCE_S = 0.1
HOPELESS_S = 30.0
"""Where no worker of a task was left alone for so long, it is given up sooner: nothing on this machine gets anywhere."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failed:
    """A task that gave no value."""

    reason: str
    """ "time limit", "memory limit", "crashed", or the name of the exception it raised."""


@dataclass
class _Busy:
    worker: Worker
    outstanding: deque[int] = field(default_factory=deque)
    began: float = 0.0
    """When it began with the task that it is at, by the monotonic clock."""
    deadline: float = 0.0
    waits: int = 0
    """How often the task that it is at was late."""
    alone: bool = False
    """Its task is the first and only one that this process was given."""


@dataclass
class _Ends:
    """Workers that a task has lost."""

    own: int = 0
    """By what may be its own fault."""
    outside: int = 0
    longest: float = 0.0
    """Seconds that the longest-lived of those had for the task that were ended from outside."""
    since: float = field(default_factory=time.monotonic)


def run_tasks(workers: Workers, tasks: Sequence[tuple[str, Sequence[str]]]) -> list:
    """Values of all tasks, in order; `Failed` where there is none. Never raises for what a task does.

    Raises:
        GraderFault: no worker starts, or one task after the other is ended from outside. It is logged.
    """
    try:
        return _Run(workers, tasks).finish()
    except GraderFault as fault:
        _log.error("%s", fault)
        raise


class _Run:
    def __init__(self, workers: Workers, tasks: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.workers, self.tasks = workers, tasks
        self.results: list = [None] * len(tasks)
        self.pending = deque(range(len(tasks)))
        self.ends: dict[int, _Ends] = {}
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
                worker = self.workers.take(wait=not self.busy, fresh=self.pending[0] in self.ends)
            except GraderFault:
                if not self.busy:
                    raise
                return
            if worker is None:
                return
            self.busy[worker.pipe] = _Busy(worker)
            self._send(self.busy[worker.pipe])

    def _send(self, busy: _Busy) -> None:
        """The next tasks for a worker. It is handed back where none are left, others wait for it, or a fresh one is due."""
        used = busy.deadline > 0
        if not self.pending or (used and (self.workers.waiting or self.pending[0] in self.ends)):
            del self.busy[busy.worker.pipe]
            self.workers.give(busy.worker)
            return
        single = self.pending[0] in self.ends
        count = 1 if single else min(CHUNK, max(1, len(self.pending) // (2 * self.workers.size)))
        busy.outstanding.extend(self.pending.popleft() for _ in range(count))
        busy.alone = count == 1 and not used
        busy.began = time.monotonic()
        busy.deadline = busy.began + self.patience
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
        """By the clock a worker is late. One that waits for a core gets more time: a busy machine must not change a grade.

        The task of one that never gets a core, or was stopped, begins anew. That of one that waits for nothing may be to blame.
        """
        state = busy.worker.state()
        busy.waits += 1
        if state == RUNNING and busy.waits < MOST_WAITS:
            busy.deadline = time.monotonic() + self.patience
        else:
            self._lost(busy, "asleep" if state == SLEEPING else "died")

    def _receive(self, busy: _Busy) -> None:
        try:
            answer = json.loads(busy.worker.pipe.recv_bytes())
        except (EOFError, OSError):
            self._lost(busy)
            return
        if "broken" in answer:
            _log.warning("a grading worker failed: %s", answer["broken"])
            self._lost(busy, "died")
            return
        number = busy.outstanding.popleft()
        self.results[number] = Failed(answer["failed"]) if "failed" in answer else answer["value"]
        busy.began, busy.waits = time.monotonic(), 0
        busy.deadline = busy.began + self.patience
        if answer.get("leaves"):
            del self.busy[busy.worker.pipe]
            self.workers.end(busy.worker)
        elif not busy.outstanding:
            self._send(busy)

    def _lost(self, busy: _Busy, reason: str = "died") -> None:
        """A worker has ended, or is ended now. The task that it was at pays or is tried again, others do the rest."""
        del self.busy[busy.worker.pipe]
        found = self.workers.end(busy.worker)
        if busy.outstanding:
            blamed = busy.outstanding[0]
            lived = time.monotonic() - busy.began
            verdict = self._verdict(blamed, found if found != "died" else reason, alone=busy.alone, lived=lived)
            if verdict:
                self.results[blamed] = verdict
                busy.outstanding.popleft()
        self.pending.extendleft(reversed(busy.outstanding))

    def _verdict(self, task: int, reason: str, *, alone: bool, lived: float) -> Failed | None:
        """What the end of its worker says about a task; None: nothing yet, so it is tried again, alone in a fresh worker.

        Its processor time and its memory are counted by the kernel. But what a worker did before takes memory, too.

        Args:
            task: its number.
            reason: as `Workers.end` says, or "asleep".
            alone: it was the first and only one that the worker was given.
            lived: seconds that the worker had for it.

        Raises:
            GraderFault: it was ended from outside too often.
        """
        if reason == "time limit" or (reason == "memory limit" and alone):
            return Failed(reason)
        ends = self.ends.setdefault(task, _Ends())
        if reason in ("crashed", "asleep"):
            ends.own += alone
            return Failed("crashed" if reason == "crashed" else "time limit") if ends.own >= OWN_TRIES else None
        if reason == "memory limit":
            return None
        ends.outside += 1
        ends.longest = max(ends.longest, lived)
        if ends.outside < TRIES:
            return None
        waited = time.monotonic() - ends.since
        if waited >= (HOPELESS_S if ends.longest < AT_ONCE_S else INSIST_S):
            raise GraderFault(
                f"the grader's worker processes are killed by another process: {ends.outside} in {waited:.0f} s, "
                "always at the same text; is the machine out of memory?"
            )
        if ends.outside == TRIES:
            _log.warning("%d grading workers were killed by another process at the same text; trying again", TRIES)
        time.sleep(max(0.0, AT_ONCE_S - lived))  # no storm of new processes
        return None
