"""Requests and answers of a search: the complete contract between a search and its driver."""

from dataclasses import dataclass

from schemas.records import Extraction, Verdict

Graded = tuple[str | None, Verdict] | tuple[str | None, Verdict, Extraction]
"""The extracted answer (None: there is none), its verdict, and its place if the task has several formats."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text.

    Attributes:
        text: the generated text, without the stop string.
        logprob: sum of the token log-probabilities under the model (natural log, temperature 1), including the stop or
            end token; 0.0 if not requested.
        tokens: generated tokens, including the stop or end token.
        finished: it ended by itself or by a stop string; False: the length limit cut it.
        ended: it ended by itself with an end token, so that a chat model's turn is over. False if the engine cannot tell.
    """

    text: str
    logprob: float
    tokens: int
    finished: bool
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Expand:
    """Request `n` next steps at a state. The answer is n samples, each one step.

    Attributes:
        steps: texts of the steps from the root to the state; () for the root.
        n: number of samples.
        seed: in [0, 2**62); an engine may use seed .. seed + n - 1, one per sample.
    """

    steps: tuple[str, ...]
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class Simulate:
    """Request `n` completions from a state to the end. The answer is n samples, each the raw rest of a solution.

    Attributes: as in `Expand`.
    """

    steps: tuple[str, ...]
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class Grade:
    """Request the grade of a complete solution. The answer is a `Graded`.

    Attributes:
        steps: texts of the steps from the root.
        rest: the raw text after them; "" if the last step holds the final answer.
    """

    steps: tuple[str, ...]
    rest: str
