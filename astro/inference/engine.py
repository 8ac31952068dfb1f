"""Text generation behind one Protocol. An engine turns requests into samples and knows nothing of what they are for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from astro.search.requests import Sample


class EngineError(RuntimeError):
    """The engine cannot answer: it failed, was closed, or was asked for what nobody submitted."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be continued n times.

    Attributes:
        prompt: text to continue.
        n: samples wanted, >= 1.
        max_tokens: longest sample, tokens, >= 1.
        temperature: >= 0; 0 is greedy.
        stop: strings that end a sample; the sample's text excludes them.
        seed: sample i is drawn with seed + i; in [0, 2**63 - n].
        logprobs: whether `Sample.logprob` is needed (it may cost time).
    """

    prompt: str
    n: int
    max_tokens: int
    temperature: float
    stop: tuple[str, ...]
    seed: int
    logprobs: bool


class Engine(Protocol):
    """A queue in front of a model. Used from one thread.

    The samples of a request depend on the request alone, not on what else is outstanding.
    """

    def submit(self, request: Request) -> int:
        """Queue a request, without waiting for it. Returns a ticket, unique over the engine's life.

        Raises:
            EngineError: the engine failed or is closed.
        """
        ...

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """Wait until at least one outstanding request is answered; return all that are, each once, in any order.

        Each entry is (ticket, samples), with n samples in the order of their seeds.

        Raises:
            EngineError: the engine failed, or nothing is outstanding.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; outstanding requests are dropped. Closing twice is harmless."""
        ...


def load_weights(engine: Engine, model: Path) -> bool:
    """Have an open engine continue with another model, where it can (`VllmEngine.load`). Nothing may be outstanding.

    Returns:
        Whether it did; if not, the engine is as it was.
    """
    load = getattr(engine, "load", None)
    return load is not None and load(model)
