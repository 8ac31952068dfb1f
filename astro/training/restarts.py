"""Restart-and-Explore (Satori, arXiv 2502.02508): states in the middle of SFT chains that RL episodes restart from.

An episode that begins at the problem meets its own mistakes only as often as it makes them. One that begins behind a wrong step
must find that it is wrong, and go back; the reward is, as ever, of the whole response.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from schemas.base import Strict
from schemas.records import Problem, Segment, Trace

States = Literal["wrong", "any"]


class Episode(Strict):
    """What an episode of RL begins with."""

    problem: Problem
    prefix: str = Field(description='beginning of a chain that the model goes on from; "": the problem alone')


@dataclass(frozen=True)
class Restart:
    """A state to go on from.

    Attributes:
        problem_id: of the problem that the chain is about.
        prompt: what the model continues: the problem's prompt and the beginning of the chain.
        prefix: the beginning of the chain alone; the response is `prefix` and what the model writes.
    """

    problem_id: str
    prompt: str
    prefix: str


def cuts(segments: Sequence[Segment], states: States) -> list[int]:
    """How many segments are kept at each state of a chain, ascending.

    A chain is cut behind a step, before the doubt or the finding about it, if there is one: to see that the step is wrong is
    left to the model. Never behind the last segment, where nothing is left to do.
    """
    kinds = ("wrong_step",) if states == "wrong" else ("wrong_step", "step")
    return [i for i, segment in enumerate(segments[:-1], 1) if segment.kind in kinds]


def draw_restarts(
    traces: Sequence[Trace], *, count: int, states: States, seed: int, fits: Callable[[str], bool] = lambda prompt: True
) -> list[Restart]:
    """`count` states, spread evenly over the traces; a state comes twice only after all have come once.

    Args:
        fits: whether a prompt leaves room for a completion; the others are no candidates.

    Returns:
        The same ones for the same arguments; [] if there is no state.
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


def restarts_beside(fresh: int, share: float) -> int:
    """How many restarts make up `share` of all prompts beside `fresh` problems."""
    return round(fresh * share / (1 - share))
