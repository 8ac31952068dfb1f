"""The search of paper section 2.2: select, expand, value, back-propagate.

Where the paper leaves details open, this implementation does the following:
1. A new child starts with N = 1 and Q = R, because its rollouts have sampled its value once. (With N = 0 it would have no
   weight in its parent's Q.)
2. Samples of one expansion that reach the same state are one action. The prior probabilities of its distinct texts are added.
3. The root has no rollouts of its own, so its Q is the mean over its children.
4. A node that cannot be continued (no finished step was sampled, or the depth limit is reached) is closed: terminal,
   without an answer. At the depth limit its R is 0; a dead end keeps the R that its rollouts measured.
5. A rollout that is cut by the length limit is an unparseable prediction, whatever it contains.
"""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from astro.search.priors import LOGPROB_PRIORS, PriorKind, priors
from astro.search.puct import backpropagate, select
from astro.search.requests import Expand, Grade, Graded, Sample, Simulate
from astro.search.tree import SearchNode, new_root, to_record
from astro.seeds import node_seed
from schemas.records import ROOT, Problem, Rollout, Tree

Wanted = list[Expand | Simulate] | list[Grade]
"""One batch: texts to generate, or solutions to grade."""

Search = Generator[Wanted, list, Tree]
"""A generator that yields one batch at a time and receives its answers in the same order (n samples for a text, `Graded` for a
solution). It returns the tree.
"""

IsTerminal = Callable[[str], bool]
"""Whether a step holds a final answer. Pure function."""

Key = Callable[[Sequence[str]], str]
"""Canonical name of the state after `steps` (at least one). Siblings with equal keys are one action. Pure function."""

Split = Callable[[str], list[str]]
"""Split a raw text into steps, in order. Pure function."""

Observer = Callable[[int, list[int], Sequence[SearchNode]], None]
"""`observer(iteration, path, nodes)`, called after each iteration, from 1. It must not change anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Tunable settings of one search.

    Attributes:
        num_actions: actions sampled per expansion, >= 1.
        rollouts_per_child: M, completions that value a new child, >= 1.
        num_simulations: simulations, >= 1.
        max_depth: largest depth in steps; a non-terminal node at this depth is closed, >= 1.
        c_puct: weight of exploration in PUCT, >= 0.
        prior: how P_LM(a|s) is estimated from the samples, see `astro.search.priors`.
        merge_steps: samples that reach the same state are one action; False: each sample is an action of its own.
        reuse_rollouts: the first step of a node's rollouts is one of its actions, and the rest is a rollout of that
            child. Only the missing ones up to num_actions and rollouts_per_child are generated. They come from the same
            policy, but a child's value is then no longer independent of its parent's. Needs `split` and a prior without
            log-probabilities.
        turns: a step that ends the model's turn (`Sample.ended`) cannot be continued; without an answer it is closed.
    """

    num_actions: int
    rollouts_per_child: int
    num_simulations: int
    max_depth: int
    c_puct: float
    prior: PriorKind
    merge_steps: bool = True
    reuse_rollouts: bool = False
    turns: bool = False

    def __post_init__(self) -> None:
        for name in ("num_actions", "rollouts_per_child", "num_simulations", "max_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.c_puct) and self.c_puct >= 0):
            raise ValueError(f"c_puct must be finite and >= 0, not {self.c_puct}")
        if self.prior not in get_args(PriorKind):
            raise ValueError(f"prior must be one of {get_args(PriorKind)}, not {self.prior!r}")
        if self.reuse_rollouts and self.prior in LOGPROB_PRIORS:
            raise ValueError(f"reuse_rollouts requires prior frequency or uniform, not {self.prior}")


def last_step(steps: Sequence[str]) -> str:
    """The simplest key: siblings are the same action only if their texts are equal."""
    return steps[-1]


def search(
    problem: Problem,
    *,
    config: SearchConfig,
    seed: int,
    is_terminal: IsTerminal,
    key: Key = last_step,
    split: Split | None = None,
    observer: Observer | None = None,
) -> Search:
    """Search one problem. The generator yields requests and receives answers (see `Search`).

    The tree depends only on `seed` (of the run), `problem.id` and the samples, not on when or in which order a driver
    answers. It ends early if the policy has no usable step at the root.

    Raises:
        ValueError: answers do not match the requests, or a logprob is not finite.
    """
    nodes = [new_root()]
    cost = _Cost()
    iteration = 0
    while iteration < config.num_simulations and not nodes[ROOT].terminal:
        iteration += 1
        path = select(nodes, c_puct=config.c_puct)
        leaf = nodes[path[-1]]
        if not leaf.terminal:
            yield from _grow(nodes, leaf, cost, problem.id, config, seed, is_terminal, key, split)
        backpropagate(nodes, path)
        if observer is not None:
            observer(iteration, path, nodes)
    return to_record(problem, nodes, iterations=iteration, requests=cost.requests, tokens=cost.tokens)


def _grow(
    nodes: list[SearchNode],
    leaf: SearchNode,
    cost: "_Cost",
    problem_id: str,
    config: SearchConfig,
    seed: int,
    is_terminal: IsTerminal,
    key: Key,
    split: Split | None,
) -> Generator[Wanted, list, None]:
    """Expand a leaf and value its children, in at most three batches: the actions, all rollouts, and all grades."""
    known = drawn_already(leaf, config=config, split=split)
    samples = [step for step, _ in known]
    if len(samples) < config.num_actions:
        wanted_seed = node_seed(seed, problem_id, _identity(leaf, config), "expand")
        samples += (yield from _ask(cost, [Expand(leaf.steps, config.num_actions - len(samples), wanted_seed)]))[0]
    children = expand(nodes, leaf, samples, config=config, is_terminal=is_terminal, key=key)
    rolled = inherited(children, known, rollouts=config.rollouts_per_child)
    asked = [c for c in children if not c.terminal and len(rolled[c.index]) < config.rollouts_per_child]
    if asked:
        answers = yield from _ask(
            cost,
            [
                Simulate(
                    child.steps,
                    config.rollouts_per_child - len(rolled[child.index]),
                    node_seed(seed, problem_id, _identity(child, config), "rollout"),
                )
                for child in asked
            ],
        )
        for child, answer in zip(asked, answers, strict=True):
            rolled[child.index] += answer
    yield from value(children, rolled)
    for child in children:
        if config.reuse_rollouts and not child.terminal:
            child.completions = rolled[child.index]
    leaf.completions = []


def _identity(node: SearchNode, config: SearchConfig) -> tuple[str, ...]:
    """What the seeds of a node are hashed from: its steps and, if siblings may be equal, its index."""
    return node.steps if config.merge_steps else (*node.steps, f"#{node.index}")


def drawn_already(leaf: SearchNode, *, config: SearchConfig, split: Split | None) -> list[tuple[Sample, Sample | None]]:
    """Actions that the leaf's rollouts contain, at most k: (the step, its continuation or None).

    A rollout that was cut within its first step contains none.
    """
    found: list[tuple[Sample, Sample | None]] = []
    for sample in leaf.completions if config.reuse_rollouts else []:
        if split is None:
            raise ValueError("reuse_rollouts needs `split`")
        first, *rest = split(sample.text)
        if rest:
            ends = (len(sample.text) - len(first) - sum(map(len, rest))) // len(rest)  # characters of step separators
            found.append((_free(first, True), _free(sample.text[len(first) + ends :], sample.finished)))
        elif sample.finished:
            found.append((replace(_free(first, True), ended=sample.ended), None))
    return found[: config.num_actions]


def _free(text: str, finished: bool) -> Sample:
    """A piece of a text that was already counted as generated."""
    return Sample(text, 0.0, 0, finished)


def inherited(
    children: Sequence[SearchNode], known: Sequence[tuple[Sample, Sample | None]], *, rollouts: int
) -> dict[int, list[Sample]]:
    """Index of each child -> how its parent's rollouts continued after exactly its text, at most `rollouts`."""
    found: dict[int, list[Sample]] = {child.index: [] for child in children}
    for child in children:
        if not child.terminal:
            rests = [rest for step, rest in known if step.text == child.steps[-1] and rest is not None]
            found[child.index] = rests[:rollouts]
    return found


def expand(
    nodes: list[SearchNode],
    leaf: SearchNode,
    samples: Sequence[Sample],
    *,
    config: SearchConfig,
    is_terminal: IsTerminal,
    key: Key,
) -> list[SearchNode]:
    """Turn sampled steps into children of `leaf`, appended to `nodes` in the order of their first sample.

    Cut and blank samples are dropped, and samples with equal keys are merged (the first text is kept). A child with an
    answer is terminal. A child without one is closed at `max_depth`, and with `config.turns` if no sample of it
    continued. Without a usable sample `leaf` itself is closed. `value` sets the children's R and Q afterwards.
    """
    actions: dict[str, dict[str, Sample]] = {}  # key of the state -> distinct text -> its first sample
    counts: Counter[str] = Counter()
    goes_on: set[str] = set()
    for number, sample in enumerate(samples):
        if sample.finished and sample.text.strip():
            name = key((*leaf.steps, sample.text)) if config.merge_steps else str(number)
            actions.setdefault(name, {}).setdefault(sample.text, sample)
            counts[name] += 1
            if not (config.turns and sample.ended):
                goes_on.add(name)
    if not actions:
        leaf.close()
        return []
    children = []
    shares = priors(
        [list(spellings.values()) for spellings in actions.values()],
        kind=config.prior,
        counts=[counts[name] for name in actions],
    )
    for (name, spellings), share in zip(actions.items(), shares, strict=True):
        text = next(iter(spellings))
        child = SearchNode(index=len(nodes), parent=leaf.index, steps=(*leaf.steps, text), prior=share)
        if is_terminal(text):
            child.terminal = True
        elif len(child.steps) >= config.max_depth or name not in goes_on:
            child.close()
        nodes.append(child)
        leaf.children.append(child.index)
        children.append(child)
    return children


def value(
    children: Sequence[SearchNode], rolled: Mapping[int, Sequence[Sample]]
) -> Generator[list[Grade], list[Graded], None]:
    """Grade the completions of new children and set their values in place: R, and from it N = 1 and Q = R.

    R is the share of correct completions. For a child with an answer it is its own grade, 1 or 0; for a closed one 0.
    Only the verdict "correct" counts, because "unparseable_gold" says nothing about the solution.

    Args:
        rolled: index of a child -> its completions; a terminal child has none.
    """
    wanted = [grade for child in children for grade in _to_grade(child, rolled[child.index])]
    grades = iter((yield from graded(wanted)))
    for child in children:
        if not child.terminal:
            child.rollouts = [_rollout(sample, grades) for sample in rolled[child.index]]
            child.reward = sum(rollout.verdict == "correct" for rollout in child.rollouts) / len(child.rollouts)
        elif child.verdict is None:  # it has an answer without a grade; a closed child has its verdict
            child.answer, child.verdict = next(grades)[:2]
            child.reward = float(child.verdict == "correct")
        child.visits = 1
        child.q = child.reward


def _to_grade(child: SearchNode, completions: Sequence[Sample]) -> list[Grade]:
    """The solutions to grade for valuing a child. A completion that was cut is not graded, because it has no end."""
    if child.terminal:
        return [Grade(child.steps, "")] if child.verdict is None else []
    return [Grade(child.steps, sample.text) for sample in completions if sample.finished]


def _rollout(sample: Sample, grades: Iterator[Graded]) -> Rollout:
    return rollout(sample, next(grades) if sample.finished else (None, "unparseable_prediction"))


def rollout(sample: Sample, grade: Graded) -> Rollout:
    """The record of a graded completion."""
    place = grade[2] if len(grade) > 2 else None
    return Rollout(answer=grade[0], verdict=grade[1], extraction=place, tokens=sample.tokens)


def graded(wanted: list[Grade]) -> Generator[list[Grade], list[Graded], list[Graded]]:
    """Yield one batch of solutions, unless it is empty, and return their grades.

    Raises:
        ValueError: the number of grades differs.
    """
    if not wanted:
        return []
    grades = yield wanted
    if len(grades) != len(wanted):
        raise ValueError(f"expected {len(wanted)} grades, one per solution, got {len(grades)}")
    return grades


@dataclass(slots=True)
class _Cost:
    """The cost of a tree so far. Dropped and merged samples count, because they were generated."""

    requests: int = 0
    tokens: int = 0


def _ask(
    cost: _Cost, requests: list[Expand | Simulate]
) -> Generator[list[Expand | Simulate], list[list[Sample]], list[list[Sample]]]:
    """Yield one batch, check that the answers match, and count them."""
    answers = answered(requests, (yield requests))
    cost.tokens += sum(sample.tokens for samples in answers for sample in samples)
    cost.requests += len(requests)
    return answers


def answered(requests: Sequence[Expand | Simulate], answers: list[list[Sample]]) -> list[list[Sample]]:
    """The answers, one per request, with the requested number of samples.

    Raises:
        ValueError: they do not match the requests.
    """
    if len(answers) != len(requests):
        raise ValueError(f"expected {len(requests)} answers, one per request, got {len(answers)}")
    for request, samples in zip(requests, answers, strict=True):
        if len(samples) != request.n:
            raise ValueError(f"expected {request.n} samples for {request}, got {len(samples)}")
    return answers
