"""An engine without a model whose answers take time, as a real one's do: for schedules, clusters and kills on a few cores.

It has `slots` places; each sequence takes one for as long as its tokens take, first come, first served (continuous batching),
and a request is answered when all its sequences are.
"""

import heapq
import time
from collections.abc import Callable

from astro.inference.engine import EngineError, Request
from astro.search.requests import Sample

Answer = Callable[[Request], list[Sample]]
"""The request's n samples. Pure; their `tokens` say how long they take."""


class SimulatedEngine:
    """`Engine` that answers by `answer`.

    Attributes:
        busy_s: seconds of all slots together so far. `busy_s / slots` is what an ideal schedule needs.
        now: seconds since the start, on the engine's clock.
    """

    def __init__(self, answer: Answer, *, slots: int, token_s: float, sleeps: bool) -> None:
        """Create an engine.

        Args:
            token_s: seconds per token of a sequence.
            sleeps: answers take real time; else only the engine's clock runs, so that hours of schedule take seconds.
        """
        self._answer, self._token_s, self._sleeps = answer, token_s, sleeps
        self._free = [0.0] * slots  # when each slot is free again; a heap
        self._due: list[tuple[float, int, list[Sample]]] = []  # when, ticket, samples; a heap
        self._began, self._clock = time.monotonic(), 0.0
        self._tickets, self.busy_s, self._closed = 0, 0.0, False

    @property
    def now(self) -> float:
        """Seconds since the start, on the wall clock or on the simulated one."""
        return time.monotonic() - self._began if self._sleeps else self._clock

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed")
        samples, due = self._answer(request), 0.0
        for sample in samples:
            takes = sample.tokens * self._token_s
            ends = max(heapq.heappop(self._free), self.now) + takes
            heapq.heappush(self._free, ends)
            self.busy_s += takes
            due = max(due, ends)
        self._tickets += 1
        heapq.heappush(self._due, (due, self._tickets, samples))
        return self._tickets

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if not self._due:
            raise EngineError("nothing is outstanding")
        first = self._due[0][0]
        if self._sleeps:
            time.sleep(max(0.0, first - self.now))
        else:
            self._clock = max(self._clock, first)
        answered = []
        while self._due and self._due[0][0] <= max(self.now, first):
            _, ticket, samples = heapq.heappop(self._due)
            answered.append((ticket, samples))
        return answered

    def close(self) -> None:
        """As `Engine.close`."""
        self._closed = True
        self._due.clear()
