"""pass@1 and maj@k per problem (paper section 4).

Every function takes the completions of ONE model on ONE eval set. A completion is correct when its verdict is `correct`
and not otherwise: a problem whose gold cannot be parsed scores 0, it never rewards.
"""

from collections.abc import Callable, Iterable, Sequence

from schemas.records import Completion

CORRECT_CLASS = ("correct", "")
"""The one answer class of all correct answers, however they are written."""


def is_correct(completion: Completion) -> bool:
    """Did the grader accept the final answer?"""
    return completion.verdict == "correct"


def by_problem(completions: Iterable[Completion]) -> dict[str, list[Completion]]:
    """Completions grouped by problem: problems in the order of their ids, samples in the order of their numbers.

    The order of the input thus never shows in a result. Raises ValueError when a sample of a problem comes twice.
    """
    groups: dict[str, list[Completion]] = {}
    for completion in sorted(completions, key=lambda c: (c.problem_id, c.sample)):
        group = groups.setdefault(completion.problem_id, [])
        if group and group[-1].sample == completion.sample:
            raise ValueError(f"problem {completion.problem_id}: sample {completion.sample} comes twice")
        group.append(completion)
    return groups


def problem_means(completions: Iterable[Completion], measure: Callable[[Completion], float]) -> dict[str, float]:
    """Problem id -> mean of `measure` over its samples, in the order of the ids."""
    return {
        problem: sum(float(measure(c)) for c in samples) / len(samples)
        for problem, samples in by_problem(completions).items()
    }


def pass_at_1(completions: Iterable[Completion]) -> dict[str, float]:
    """Problem id -> share of its samples that are correct, in 0..1: the unbiased estimate of one try's success."""
    return problem_means(completions, is_correct)


def answer_class(completion: Completion) -> tuple[str, str] | None:
    """What the completion votes for in maj@k; None: it abstains.

    - All correct answers are one class. `(3 + 5) * 3` and `3 * (5 + 3)` are two texts of one vote.
    - A wrong answer is classed by its text, with runs of white space read as one space.
    - A completion without a readable answer abstains.

    What this means: equivalence to the gold answer serves as the equivalence relation between answers. Who votes
    without knowing the gold can merge correct answers only as far as their own normaliser goes. And since wrong answers
    are merged by text alone, their votes split where a task writes one wrong answer in several ways. Both favour the
    correct class: where answers have many forms (expressions), read maj@k as the upper end of what a vote can reach;
    where an answer is one number, written one way, it is the usual majority vote.
    """
    if is_correct(completion):
        return CORRECT_CLASS
    if completion.verdict == "unparseable_prediction" or completion.answer is None:
        return None
    return ("wrong", " ".join(completion.answer.split()))


def majority_solves(samples: Sequence[Completion], *, k: int) -> bool:
    """Is the class with most votes among the first k samples of one problem the correct one?

    samples: of one problem, in the order of their numbers.
    k: voters; abstentions count among them.

    A tie goes to the class that appears first. If all abstain, the problem is not solved.
    Raises ValueError when there are fewer than k samples.
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
    # max returns the first of equals, and a dict keeps the order of first appearance: together, the rule for ties.
    return bool(votes) and max(votes, key=votes.__getitem__) == CORRECT_CLASS


def maj_at_k(completions: Iterable[Completion], *, k: int) -> dict[str, float]:
    """Problem id -> 1.0 if the majority over its first k samples is correct, else 0.0."""
    return {problem: float(majority_solves(samples, k=k)) for problem, samples in by_problem(completions).items()}
