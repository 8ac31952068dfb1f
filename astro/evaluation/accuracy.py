"""pass@1 and maj@k per problem (paper section 4).

Every function takes the completions of ONE model on ONE eval set. Only the verdict `correct` counts as correct. A
problem whose gold cannot be parsed scores 0.
"""

from collections.abc import Callable, Iterable, Sequence

from schemas.records import Completion

CORRECT_CLASS = ("correct", "")
"""The single answer class of all correct answers, however they are written."""


def is_correct(completion: Completion) -> bool:
    """Whether the grader accepted the final answer."""
    return completion.verdict == "correct"


def by_problem(completions: Iterable[Completion]) -> dict[str, list[Completion]]:
    """Group completions by problem, ordered by problem id and sample number.

    Results therefore do not depend on the order of the input. Raises ValueError if a sample of a problem occurs twice.
    """
    groups: dict[str, list[Completion]] = {}
    for completion in sorted(completions, key=lambda c: (c.problem_id, c.sample)):
        group = groups.setdefault(completion.problem_id, [])
        if group and group[-1].sample == completion.sample:
            raise ValueError(f"problem {completion.problem_id}: sample {completion.sample} occurs twice")
        group.append(completion)
    return groups


def problem_means(completions: Iterable[Completion], measure: Callable[[Completion], float]) -> dict[str, float]:
    """Problem id -> mean of `measure` over its samples, in the order of the ids."""
    return {
        problem: sum(float(measure(c)) for c in samples) / len(samples)
        for problem, samples in by_problem(completions).items()
    }


def pass_at_1(completions: Iterable[Completion]) -> dict[str, float]:
    """Problem id -> share of its samples that are correct, in 0..1. This is the unbiased estimate of pass@1."""
    return problem_means(completions, is_correct)


def answer_class(completion: Completion) -> tuple[str, str] | None:
    """The class of a completion's answer in maj@k; None: it abstains.

    - All correct answers form one class. `(3 + 5) * 3` and `3 * (5 + 3)` are two texts of one vote.
    - A wrong answer is identified by its text, with runs of white space read as one space.
    - A completion without a readable answer abstains.

    So equivalence to the gold answer defines which correct answers are the same. A real vote without the gold could
    merge correct answers only as far as its own normaliser can. Wrong answers are merged only by text, so their votes
    split where a task allows several forms of one answer. Both effects favour the correct class. For answers with many
    forms (expressions), maj@k is an upper bound of what a vote can reach; for plain numbers it is the usual majority
    vote.
    """
    if is_correct(completion):
        return CORRECT_CLASS
    if completion.verdict == "unparseable_prediction" or completion.answer is None:
        return None
    return ("wrong", " ".join(completion.answer.split()))


def majority_solves(samples: Sequence[Completion], *, k: int) -> bool:
    """Whether the correct class has the most votes among the first k samples of one problem.

    Args:
        samples: samples of one problem, in the order of their numbers.
        k: number of voters, including those that abstain.

    A tie goes to the class that appears first. If all abstain, the problem is not solved.
    Raises ValueError if there are fewer than k samples.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    if len(samples) < k:
        problem = samples[0].problem_id if samples else "?"
        raise ValueError(f"problem {problem}: maj@{k} needs {k} samples, got {len(samples)}")
    votes: dict[tuple[str, str], int] = {}
    for completion in samples[:k]:
        voted = answer_class(completion)
        if voted is not None:
            votes[voted] = votes.get(voted, 0) + 1
    # max returns the first of equals, and a dict keeps the order of first appearance, which implements the rule for
    # ties.
    return bool(votes) and max(votes, key=votes.__getitem__) == CORRECT_CLASS


def maj_at_k(completions: Iterable[Completion], *, k: int) -> dict[str, float]:
    """Problem id -> 1.0 if the majority over its first k samples is correct, else 0.0."""
    return {problem: float(majority_solves(samples, k=k)) for problem, samples in by_problem(completions).items()}
