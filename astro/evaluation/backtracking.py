"""What models do inside their chains: attempts, backtracks, decisions and claims (paper section 4, its analyses).

Words, as used by every function here:

- An *attempt* is a path of steps from the problem to a step that ends it (`Chain.attempts`). A step of the graph stands
  for all its repetitions, so an attempt made twice is listed twice with the same end.
- A *backtrack* is one back edge (`Chain.back_edges`), wherever it leaves from.
- An attempt is *valid* when every step on its path is legal, *novel* when no earlier attempt of the same chain has the
  same step texts on its path, and *right* when it solves the problem.

Shares are over chains, attempts or claims (not first per problem) unless said otherwise; with equally many samples for
each problem, shares over chains are the same either way.
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
"""What a chain does at the end of an attempt; see `decisions_in`."""


def share(count: float, total: int) -> float | None:
    """`count / total`, rounded; None of nothing."""
    return rounded(count / total) if total else None


def backtracks(completion: Completion) -> int:
    """How often the chain goes back."""
    return len(completion.chain.back_edges)


def first_attempt_right(completion: Completion) -> bool:
    """Does the first finished attempt solve the problem? A chain that finishes none is not right.

    Against pass@1 this tells search from luck: a model that learned to begin wrong only to correct itself falls here.
    """
    chain = completion.chain
    return bool(chain.attempts) and is_right(chain, chain.attempts[0])


def is_right(chain: Chain, end: int) -> bool:
    """Does the attempt that ends at step `end` solve the problem?"""
    return chain.nodes[end].right is True


def is_valid(chain: Chain, end: int) -> bool:
    """Is every step from the problem to `end` legal? One illegal step spoils all attempts that are built on it."""
    return all(chain.nodes[i].valid for i in path_to(chain, end))


def novelty(chain: Chain) -> list[bool]:
    """(attempts,) True where no earlier attempt of the chain has the same texts from the problem to its end.

    The order of steps counts: the same operations in another order are another attempt. `Chain.repeats` is the number
    of False.
    """
    seen: set[tuple[str, ...]] = set()
    novel: list[bool] = []
    for end in chain.attempts:
        steps = steps_to(chain, end)
        novel.append(steps not in seen)
        seen.add(steps)
    return novel


def by_backtracks(completions: Sequence[Completion]) -> list[AfterBacktracks]:
    """Accuracy of the chains that go back exactly 0, 1, 2, ... times, up to the most that any chain does."""
    groups: dict[int, list[bool]] = {}
    for completion in completions:
        groups.setdefault(backtracks(completion), []).append(is_correct(completion))
    return [
        AfterBacktracks(backtracks=n, chains=len(group), accuracy=share(sum(group), len(group)))
        for n in range(max(groups, default=-1) + 1)
        for group in [groups.get(n, [])]
    ]


def by_attempt(completions: Sequence[Completion]) -> list[AttemptMetrics]:
    """Share of the i-th attempts that are right, valid and novel, for i = 1 up to the most attempts of any chain.

    Mind the selection: chains with an i-th attempt are those that no earlier attempt ended, so harder problems weigh
    more as i grows.
    """
    rows: list[list[tuple[bool, bool, bool]]] = []  # rows[i]: (right, valid, novel) of every i-th attempt, from 0
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
    """Attempts that repeat one already made in their chain, as a share of all attempts; None: no attempt."""
    return share(sum(c.chain.repeats for c in completions), sum(len(c.chain.attempts) for c in completions))


def valid_steps(completions: Sequence[Completion]) -> float | None:
    """Share of legal steps among all steps; None: no step."""
    steps = [node.valid for c in completions for node in c.chain.nodes]
    return share(sum(steps), len(steps))


def decisions_in(completion: Completion) -> list[Decision]:
    """(attempts,) what the chain does after each of its attempts. The first that applies:

    - `went_back`: a back edge leaves from the attempt's end;
    - `went_on`: it writes further steps without going back, so this is not where it stops;
    - `stopped`: it gives an answer;
    - `gave_up`: it ends by itself without an answer;
    - `cut`: the length limit came before any of these. It decided nothing, and is left out of `decisions`.

    A repeated attempt ends at the step it ended at before: of several attempts with one end, the back edges from that
    end belong to the first ones, since each jump is what made the next visit possible.
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
    """Is it right so far? Decisions at the ends of attempts against the truth (see `decisions_in`).

    With R and W the right and wrong attempts that were not cut:
    stop_when_right = stopped in R / R; back_when_wrong = went back in W / W; stop_precision = stopped in R / stopped.
    Going on and giving up count against both. claim_accuracy is over all attempts with an explicit claim, cut ones and
    repeats included; a claim at a step that ends no attempt has no truth to compare with and is left out.
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
    """Pearson correlation over problems of mean backtracks and mean score, in -1..1; None when either does not vary.

    Over problems difficulty drives both: a model that searches longer where it fails gives a negative figure. The paper
    reports one positive figure per benchmark (0.816 to 0.854) with its curves over RL steps: not the same quantity.
    """
    went_back = np.array(list(problem_means(completions, backtracks).values()))
    score = np.array(list(problem_means(completions, is_correct).values()))
    # Range, not variance: the variance of equal floats can come out as a tiny number above 0.
    if len(score) < 2 or np.ptp(went_back) == 0 or np.ptp(score) == 0:
        return None
    return rounded(np.clip(np.corrcoef(went_back, score)[0, 1], -1, 1))
