"""Behaviour of models inside their chains: attempts, backtracks, decisions and claims (analyses of paper section 4).

Terms used by every function here:

- An *attempt* is a path of steps from the problem to a step that ends it (`Chain.attempts`). A node of the graph
  represents all repetitions of a step, so an attempt made twice is listed twice with the same end.
- A *backtrack* is one back edge (`Chain.back_edges`), wherever it starts.
- An attempt is *valid* if every step on its path is legal, *novel* if no earlier attempt of the chain has the same step
  texts on its path, and *right* if it solves the problem.

Shares are over all chains, attempts or claims unless stated otherwise. With equally many samples per problem, averaging per
problem first would give the same shares of chains.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from astro.evaluation.accuracy import is_correct, problem_means
from astro.evaluation.graph import path_to, steps_to
from astro.evaluation.intervals import rounded
from schemas.evaluate import AfterBacktracks, AttemptMetrics, Decisions
from schemas.records import Chain, Completion

Decision = Literal["stopped", "went_back", "went_on", "gave_up", "cut"]
"""A chain's decision at the end of an attempt, see `decisions_in`."""


def share(count: float, total: int) -> float | None:
    """`count / total`, rounded; None if the total is 0."""
    return rounded(count / total) if total else None


def backtracks(completion: Completion) -> int:
    """Number of times that the chain goes back."""
    return len(completion.chain.back_edges)


def first_attempt_right(completion: Completion) -> bool:
    """Whether the first finished attempt solves the problem. False if no attempt is finished.

    Compared with pass@1 it separates search from luck: a model that learned to begin wrongly only to correct itself scores
    low.
    """
    chain = completion.chain
    return bool(chain.attempts) and is_right(chain, chain.attempts[0])


def is_right(chain: Chain, end: int) -> bool:
    """Whether the attempt that ends at step `end` solves the problem."""
    return chain.nodes[end].right is True


def is_valid(chain: Chain, end: int) -> bool:
    """Whether every step from the problem to `end` is legal. One illegal step invalidates all attempts that build on it."""
    return all(chain.nodes[i].valid for i in path_to(chain, end))


def novelty(chain: Chain) -> list[bool]:
    """(attempts,) True if no earlier attempt of the chain has the same step texts.

    The order of steps matters: the same operations in another order are another attempt. `Chain.repeats` is the number of
    False.
    """
    seen: set[tuple[str, ...]] = set()
    novel: list[bool] = []
    for end in chain.attempts:
        steps = steps_to(chain, end)
        novel.append(steps not in seen)
        seen.add(steps)
    return novel


def by_backtracks(completions: Sequence[Completion]) -> list[AfterBacktracks]:
    """Accuracy of chains by their number of backtracks: 0, 1, 2, ... up to the largest number."""
    groups: dict[int, list[bool]] = {}
    for completion in completions:
        groups.setdefault(backtracks(completion), []).append(is_correct(completion))
    return [
        AfterBacktracks(backtracks=n, chains=len(group), accuracy=share(sum(group), len(group)))
        for n in range(max(groups, default=-1) + 1)
        for group in [groups.get(n, [])]
    ]


def by_attempt(completions: Sequence[Completion]) -> list[AttemptMetrics]:
    """Share of the i-th attempts that are right, valid and novel, for i from 1 to the largest number of attempts.

    There is a selection effect: chains with an i-th attempt did not stop earlier, so harder problems weigh more as i grows.
    """
    rows: list[
        list[tuple[bool, bool, bool]]
    ] = []  # rows[i]: (right, valid, novel) of every attempt number i, counted from 0
    for completion in completions:
        chain = completion.chain
        for i, (end, new) in enumerate(zip(chain.attempts, novelty(chain), strict=True)):
            if i == len(rows):
                rows.append([])
            rows[i].append((is_right(chain, end), is_valid(chain, end), new))
    found = []
    for i, row in enumerate(rows):
        shares = [share(sum(column), len(row)) for column in zip(*row, strict=True)]
        found.append(AttemptMetrics(attempt=i + 1, chains=len(row), right=shares[0], valid=shares[1], novel=shares[2]))
    return found


def repeat_share(completions: Sequence[Completion]) -> float | None:
    """Share of attempts that repeat an earlier one of their chain; None: no attempt."""
    return share(sum(c.chain.repeats for c in completions), sum(len(c.chain.attempts) for c in completions))


def valid_steps(completions: Sequence[Completion]) -> float | None:
    """Share of legal steps among all steps; None: no step."""
    steps = [node.valid for c in completions for node in c.chain.nodes]
    return share(sum(steps), len(steps))


def decisions_in(completion: Completion) -> list[Decision]:
    """(attempts,) the chain's decision after each of its attempts. The first that applies:

    - `went_back`: a back edge starts at the attempt's end;
    - `went_on`: it writes further steps without going back, so it did not stop here;
    - `stopped`: it gives an answer;
    - `gave_up`: it ends by itself without an answer;
    - `cut`: the length limit came before any of these. There was no decision, so `decisions` leaves it out.

    A repeated attempt ends at the same node as before. If several attempts share an end, the back edges from that end
    belong to the first ones, because each jump made the next visit possible.
    """
    chain = completion.chain
    jumps = Counter(source for source, _ in chain.back_edges)
    continued = {node.parent for node in chain.nodes}
    found: list[Decision] = []
    for i, end in enumerate(chain.attempts):
        last = i == len(chain.attempts) - 1
        if jumps[end] > 0:
            jumps[end] -= 1
            found.append("went_back")
        elif not last or end in continued:
            found.append("went_on")
        elif completion.answer is not None:
            found.append("stopped")
        else:
            found.append("gave_up" if completion.finished else "cut")
    return found


def decisions(completions: Sequence[Completion]) -> Decisions:
    """Decisions at the ends of attempts, compared with the truth (see `decisions_in`).

    With R and W the right and wrong attempts that were not cut:
    stop_when_right = stopped in R / R; back_when_wrong = went back in W / W; stop_precision = stopped in R / stopped.
    Going on and giving up count against both. claim_accuracy covers all attempts with an explicit claim, including cut
    ones and repeats. A claim at a step that ends no attempt cannot be verified and is left out.
    """
    made: list[tuple[bool, Decision]] = []
    claims: list[bool] = []
    for completion in completions:
        for end, decision in zip(completion.chain.attempts, decisions_in(completion), strict=True):
            right, claim = is_right(completion.chain, end), completion.chain.nodes[end].claim
            if claim is not None:
                claims.append(claim == right)
            if decision != "cut":
                made.append((right, decision))
    after_right = [decision for right, decision in made if right]
    after_wrong = [decision for right, decision in made if not right]
    stops = after_right.count("stopped") + after_wrong.count("stopped")
    return Decisions(
        stop_when_right=share(after_right.count("stopped"), len(after_right)),
        back_when_wrong=share(after_wrong.count("went_back"), len(after_wrong)),
        stop_precision=share(after_right.count("stopped"), stops),
        claim_accuracy=share(sum(claims), len(claims)),
        right_attempts=len(after_right),
        wrong_attempts=len(after_wrong),
    )


def backtracks_score_r(completions: Sequence[Completion]) -> float | None:
    """Pearson correlation over problems of mean backtracks and mean score, in -1..1; None if either does not vary.

    Difficulty affects both: a model that searches longer on problems where it fails has a negative correlation. The
    paper reports one positive figure per benchmark (0.816 to 0.854) with its curves over RL steps, which is another
    quantity.
    """
    went_back = np.array(list(problem_means(completions, backtracks).values()))
    score = np.array(list(problem_means(completions, is_correct).values()))
    # The range and not the variance, because the variance of equal floats may be a tiny number above 0.
    if len(score) < 2 or np.ptp(went_back) == 0 or np.ptp(score) == 0:
        return None
    return rounded(np.clip(np.corrcoef(went_back, score)[0, 1], -1, 1))
