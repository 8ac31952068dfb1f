"""A language model that is a function: a real, tiny engine for tests and for driving the pipeline without a model."""

import math
import random
from collections.abc import Callable, Mapping

from astro.inference.engine import EngineError, Request
from astro.search.requests import Sample

END = ""
"""The token that ends a text by itself."""

NextTokens = Callable[[str], Mapping[str, float]]
"""Token -> probability (> 0, adding up to 1) after a text (prompt and what was generated so far). Pure."""


class ScriptedEngine:
    """Samples token by token from `next_tokens`.

    Sample i of a request depends on (prompt, seed + i) alone. With `order_seed` each poll answers a random part of what
    is outstanding, in random order, as an engine with uneven latencies would; without it everything, in order.
    """

    def __init__(self, next_tokens: NextTokens, *, order_seed: int | None = None) -> None:
        self._next_tokens = next_tokens
        self._order = None if order_seed is None else random.Random(order_seed)
        self._outstanding: dict[int, Request] = {}
        self._tickets = 0
        self._closed = False

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed")
        self._tickets += 1
        self._outstanding[self._tickets] = request
        return self._tickets

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if not self._outstanding:
            raise EngineError("nothing is outstanding")
        tickets = list(self._outstanding)
        if self._order is not None:
            tickets = self._order.sample(tickets, self._order.randint(1, len(tickets)))
        return [(ticket, answer(self._next_tokens, self._outstanding.pop(ticket))) for ticket in tickets]

    def close(self) -> None:
        """As `Engine.close`."""
        self._closed = True
        self._outstanding.clear()


def answer(next_tokens: NextTokens, request: Request) -> list[Sample]:
    """The request's n samples."""
    return [_sample(next_tokens, request, request.seed + i) for i in range(request.n)]


def _sample(next_tokens: NextTokens, request: Request, seed: int) -> Sample:
    rng = random.Random(seed)
    text, logprob = "", 0.0
    for tokens in range(1, request.max_tokens + 1):
        probabilities = next_tokens(request.prompt + text)
        token = _draw(probabilities, request.temperature, rng)
        text += token
        logprob += math.log(probabilities[token]) if request.logprobs else 0.0
        ends = [position for stop in request.stop if (position := text.find(stop)) >= 0]
        if token == END or ends:
            return Sample(text[: min(ends)] if ends else text, logprob, tokens, finished=True)
    return Sample(text, logprob, request.max_tokens, finished=False)


def _draw(probabilities: Mapping[str, float], temperature: float, rng: random.Random) -> str:
    """A token, with probability p ** (1 / temperature), normalised; at temperature 0 the likeliest."""
    if temperature == 0:
        return max(probabilities, key=probabilities.__getitem__)
    top = max(probabilities.values())  # its weight is 1, so that not all underflow at a low temperature
    weights = [(p / top) ** (1 / temperature) for p in probabilities.values()]
    return rng.choices(list(probabilities), weights)[0]
