"""Text generation behind one Protocol. An engine turns requests into samples and does not know their purpose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from astro.search.requests import Sample


class EngineError(RuntimeError):
    """The engine cannot answer: it failed, it was closed, or nothing was submitted."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be continued n times.

    Attributes:
        prompt: text to continue.
        n: number of samples, >= 1.
        max_tokens: longest sample in tokens, >= 1.
        temperature: >= 0; 0 is greedy.
        stop: strings that end a sample; they are excluded from its text.
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
    """A queue in front of a model, used from one thread.

    The samples of a request depend only on the request, not on other outstanding requests.
    """

    def submit(self, request: Request) -> int:
        """Queue a request without waiting for it. Returns a ticket that is unique over the engine's life.

        Raises:
            EngineError: the engine failed or is closed.
        """
        ...

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """Wait until at least one outstanding request is answered. Returns all answered ones, each once, in any order.

        Each entry is (ticket, samples), with n samples in the order of their seeds.

        Raises:
            EngineError: the engine failed, or nothing is outstanding.
        """
        ...

    def close(self) -> None:
        """Release the engine's resources and drop outstanding requests. Closing twice is harmless."""
        ...


def load_weights(engine: Engine, model: Path) -> bool:
    """Load another model into an open engine, if the engine supports it (`VllmEngine.load`). Nothing may be outstanding.

    Returns:
        True if the model was loaded. False leaves the engine unchanged.
    """
    load = getattr(engine, "load", None)
    return load is not None and load(model)
