"""A plain, slow, recursive search, written from the formulas of paper section 2.2 and nothing else.

It shares with the product only the contract: requests, samples, seeds, and what the callables mean. No tree list, no
indices, no generator, no log-sum-exp: where the two agree, they agree on the mathematics.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from astro.search.requests import Expand, Sample, Simulate
from astro.seeds import node_seed

Ask = Callable[[Expand | Simulate], list[Sample]]


@dataclass(eq=False)
class State:
    """A state; letters as in the paper. N(s') and N(s,a) are the same count: one action leads to each state."""

    steps: tuple[str, ...]
    P: float = 1.0
    N: int = 0
    Q: float = 0.0
    R: float | None = None  # None: never measured (the root)
    ended: bool = False
    verdict: str | None = None
    next: list["State"] = field(default_factory=list)


@dataclass
class Reference:
    """One search. `iterate` does one iteration and returns the texts of the path it selected."""

    ask: Ask
    problem_id: str
    seed: int
    k: int
    rollouts: int
    max_depth: int
    c_puct: float
    prior: str
    is_terminal: Callable[[str], bool]
    judge: Callable[[Sequence[str], str], tuple[str | None, str]]
    key: Callable[[Sequence[str]], str]
    root: State = field(default_factory=lambda: State(steps=()))
    born: list[State] = field(default_factory=list)  # all states but the root, in order of birth
    tokens: int = 0
    requests: int = 0

    def iterate(self) -> tuple[str, ...]:
        return self._visit(self.root)

    def _visit(self, s: State) -> tuple[str, ...]:
        if s.next:
            scores = [a.Q + self.c_puct * a.P * math.sqrt(s.N) / (1 + a.N) for a in s.next]
            selected = self._visit(s.next[scores.index(max(scores))])
        else:
            selected = s.steps
            if not s.ended:
                self._expand(s)
        s.N += 1
        total = sum(a.Q * a.N for a in s.next)
        count = sum(a.N for a in s.next)
        if s.R is not None:
            total, count = total + s.R, count + 1
        s.Q = total / count if count else 0.0
        return selected

    def _expand(self, s: State) -> None:
        drawn = self._answer(Expand(s.steps, self.k, node_seed(self.seed, self.problem_id, s.steps, "expand")))
        usable = [x for x in drawn if x.finished and x.text.strip() != ""]
        texts: list[str] = []  # distinct, in order
        for x in usable:
            if x.text not in texts:
                texts.append(x.text)
        places: list[str] = []  # distinct keys, in order
        for text in texts:
            if self.key([*s.steps, text]) not in places:
                places.append(self.key([*s.steps, text]))
        mass = []
        for place in places:
            spellings = [text for text in texts if self.key([*s.steps, text]) == place]
            mass.append(sum(self._mass(next(x for x in usable if x.text == text)) for text in spellings))
            a = State(steps=(*s.steps, spellings[0]))
            s.next.append(a)
            self.born.append(a)
        for a, m in zip(s.next, mass, strict=True):
            a.P = 1 / len(mass) if self.prior == "uniform" else m / sum(mass)
            self._measure(a)
        if not s.next:
            s.ended, s.verdict = True, "unparseable_prediction"

    def _mass(self, x: Sample) -> float:
        return math.exp(x.logprob) if self.prior == "sequence" else math.exp(x.logprob / x.tokens)

    def _measure(self, a: State) -> None:
        if self.is_terminal(a.steps[-1]):
            a.ended = True
            a.verdict = self.judge(a.steps, "")[1]
            a.R = 1.0 if a.verdict == "correct" else 0.0
        elif len(a.steps) == self.max_depth:
            a.ended, a.verdict, a.R = True, "unparseable_prediction", 0.0
        else:
            seed = node_seed(self.seed, self.problem_id, a.steps, "rollout")
            ends = self._answer(Simulate(a.steps, self.rollouts, seed))
            right = [x for x in ends if x.finished and self.judge(a.steps, x.text)[1] == "correct"]
            a.R = len(right) / self.rollouts
        a.N, a.Q = 1, a.R

    def _answer(self, wanted: Expand | Simulate) -> list[Sample]:
        samples = self.ask(wanted)
        self.requests += 1
        self.tokens += sum(x.tokens for x in samples)
        return samples
