"""What a search asks for and what it is sent: the whole contract between a search and its driver."""

from dataclasses import dataclass

from schemas.records import Verdict

Graded = tuple[str | None, Verdict]
"""The extracted answer (None: there is none) and its verdict."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text.

    Attributes:
        text: what was generated, without the stop string.
        logprob: sum of the token log-probabilities under the model (natural log, temperature 1), stop or end token
            included; 0.0 where the request asked for none.
        tokens: generated tokens, stop or end token included.
        finished: ended by itself or by a stop string; False: cut by the length limit.
        ended: ended by itself, by an end token: a chat model's turn is over. False where an engine cannot tell.
    """

    text: str
    logprob: float
    tokens: int
    finished: bool
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Expand:
    """Ask for `n` next steps at this state; the answer is n samples, each one step.

    Attributes:
        steps: texts of the steps from the root to the state; () for the root.
        n: samples wanted.
        seed: in [0, 2**62); an engine may use seed .. seed + n - 1, one per sample.
    """

    steps: tuple[str, ...]
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class Simulate:
    """Ask for `n` completions from this state to the end; the answer is n samples, each the raw rest of a solution.

    Attributes: as `Expand`.
    """

    steps: tuple[str, ...]
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class Grade:
    """Ask for the grade of a complete solution; the answer is a `Graded`.

    Attributes:
        steps: texts of the steps from the root.
        rest: the raw text that follows them; "" if the last step holds the final answer.
    """

    steps: tuple[str, ...]
    rest: str
