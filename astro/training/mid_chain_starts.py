"""Restart-and-Explore (Satori, arXiv 2502.02508): RL episodes that start in the middle of an SFT chain.

An episode that starts at the problem meets its own mistakes only as often as it makes them. One that starts after a
wrong step must notice the error and go back. The reward always grades the whole response.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from schemas.records import Problem, Segment, Trace
from schemas.strict import Strict

States = Literal["wrong", "any"]


class Episode(Strict):
    """The start of an RL episode."""

    problem: Problem
    prefix: str = Field(description='beginning of a chain that the model continues; "": the problem alone')


@dataclass(frozen=True)
class Restart:
    """A state from which an episode continues a chain.

    Attributes:
        problem_id: id of the chain's problem.
        prompt: the text to continue: the problem's prompt and the beginning of the chain.
        prefix: the beginning of the chain. The response is `prefix` plus the completion.
    """

    problem_id: str
    prompt: str
    prefix: str


def cuts(segments: Sequence[Segment], states: States) -> list[int]:
    """Number of segments up to each possible cut of a chain, ascending.

    A chain is cut after a step, before any doubt or finding about it, so that the model itself must notice a wrong
    step. It is never cut after the last segment, where nothing is left to do.
    """
    kinds = ("wrong_step",) if states == "wrong" else ("wrong_step", "step")
    return [i for i, segment in enumerate(segments[:-1], 1) if segment.kind in kinds]


def draw_restarts(
    traces: Sequence[Trace], *, count: int, states: States, seed: int, fits: Callable[[str], bool] = lambda prompt: True
) -> list[Restart]:
    """Draw `count` states, spread evenly over the traces. A state is repeated only after all have been used once.

    Args:
        fits: whether a prompt leaves room for a completion; other states are not used.

    Returns:
        The states, which depend only on the arguments; [] if there are none.
    """
    rng = random.Random(f"restart/{seed}")
    chains = []
    for trace in traces:
        kept = cuts(trace.segments, states)
        rng.shuffle(kept)
        chains.append((trace, kept))
    rng.shuffle(chains)
    found: list[Restart] = []
    for turn in range(max((len(kept) for _, kept in chains), default=0)):
        for trace, kept in chains:
            if len(found) == count:
                return found
            if turn < len(kept):
                prefix = "".join(segment.text for segment in trace.segments[: kept[turn]])
                if fits(trace.prompt + prefix):
                    found.append(Restart(trace.problem_id, trace.prompt + prefix, prefix))
    return [found[i % len(found)] for i in range(count)] if found else []


def restarts_beside(fresh: int, fraction: float) -> int:
    """Number of restarts that make up `fraction` of all prompts, beside `fresh` problems."""
    return round(fresh * fraction / (1 - fraction))
