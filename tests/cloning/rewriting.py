"""Small trees of mathematics, and writers that answer the prompts of `astro.tasks.math.rewrite` by rule, well or badly."""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from astro.cloning.example_selection import traces_of
from astro.cloning.rewrite import chain_id, pieces_of, rewrite
from astro.cloning.verbalize import Phrases, load_phrases
from astro.cloning.walk import correct_terminals
from astro.search import Sample
from astro.tasks.math.rewrite import MathEditor
from astro.tasks.math.solution_text import without_label
from astro.tasks.math.task import Math
from schemas.records import Problem, Trace, Tree
from tests.cloning.trees import tree

PHRASES = load_phrases(Path("phrases/math_lm.yaml"))
MATH = Math(PHRASES)
LEAD = "So now we think of this. "
"""What the writers put before the notes of a step."""
DOUBT = "The last steps deserve a second look."


def triangle(number: int) -> Tree:
    """The tree of one problem: two first steps; below the first a right end and two wrong ones, below the second a wrong one."""
    a, b, c = ((3, 4, 5), (6, 8, 10), (5, 12, 13), (8, 15, 17))[number % 4]
    k = number // 4 + 1
    a, b, c = a * k, b * k, c * k
    problem = Problem(
        id=f"t{number}",
        task="math",
        question=f"The legs of a right triangle are ${a}$ and ${b}$. What is its perimeter?",
        gold=str(a + b + c),
        level=1,
        chance=None,
    )
    end = "Step 2: The perimeter is ${} = {}$. The answer is $\\boxed{{{}}}$."
    return tree(
        (0, f"Step 1: The hypotenuse is $\\sqrt{{{a}^2+{b}^2}} = {c}$ by Pythagoras.", "q0.7"),
        (0, f"Step 1: We add the two legs of the triangle, which gives ${a} + {b} = {a + b}$.", "q0.2"),
        (1, end.format(f"{a} + {b} + {c}", a + b + c, a + b + c), f"C ={a + b + c} q1"),
        (1, end.format(f"{b} + {c}", b + c, b + c), f"W ={b + c}"),
        (1, end.format(f"{a} + {c}", a + c, a + c), f"W ={a + c}"),
        (2, f"Step 2: That is all there is to it. The answer is $\\boxed{{{a + b}}}$.", f"W ={a + b}"),
        problem=problem,
    )


def tree_of(problem: Problem, right: list[str], *wrong: list[str]) -> Tree:
    """The tree of solutions in steps, of which the first ends right; steps that they begin with alike are one node."""
    rows, found = [], {(): 0}
    for steps in (right, *wrong):
        for depth in range(1, len(steps) + 1):
            path = tuple(steps[:depth])
            if path not in found:
                mark = ("C" if steps is right else "W") if depth == len(steps) else ""
                rows.append((found[path[:-1]], path[-1], f"{mark} ={MATH.extract(path[-1])}" if mark else ""))
                found[path] = len(rows)
    return tree(*rows, problem=problem)


def traces(which: Tree, *, reflection: bool = True, phrases: Phrases | None = PHRASES, **changes) -> list[Trace]:
    """Chains of a tree as the template writes them."""
    settings = {"count": 4, "max_backtracks": 3, "direct_share": 0.25, "jump": "common_ancestor", "seed": 1} | changes
    return traces_of(
        which,
        candidates=correct_terminals(which),
        reflection=reflection,
        phrases=phrases,
        prompt=MATH.prompt,
        step_end=MATH.step_end,
        abandoned=MATH.abandoned,
        restate=MATH.restate,
        **settings,
    )


def pieces(which: Tree, trace: Trace):
    """As the engine's driver makes them."""
    return pieces_of(which, trace, step_end=MATH.step_end, restate=partial(MATH.restate, which.problem))


def editor(*, shots: int = 1, chat=None) -> MathEditor:
    """Over the task above."""
    return MathEditor(Math(PHRASES, chat), shots=shots, phrases=PHRASES.all())


# --- writers -----------------------------------------------------------------------------------------------------------

_CASE = re.compile(
    r"(?:Notes of the next step:\n(?P<notes>.+?)\n\n.+?\n\nThe next step, as the solver thinks it:"
    r'|The point to go back to:\n(?P<point>.+?)\n\nThe sentence, which begins with the words "(?P<back>.+?)":'
    r'|The doubt, which begins with the words "(?P<doubt>.+?)":)',
    re.DOTALL,
)


def well(prompt: str) -> str:
    """The notes of a step behind `LEAD`, or what fits behind the opening."""
    case = list(_CASE.finditer(prompt))[-1]
    if case["notes"]:
        return LEAD + without_label(case["notes"])
    if case["point"]:
        return "." if case["point"].startswith("(The problem") else f"this: {without_label(case['point'])}"
    return DOUBT


class Written:
    """An engine over a writer `(prompt, seed) -> (text, finished)`; stop strings end a text as they do in the others."""

    def __init__(self, write: Callable[[str, int], tuple[str, bool]], *, order_seed: int | None = None):
        self.write, self.requests, self._outstanding = write, [], {}
        self._order = None if order_seed is None else random.Random(order_seed)

    def submit(self, request) -> int:
        """As `Engine.submit`."""
        self.requests.append(request)
        self._outstanding[len(self.requests)] = request
        return len(self.requests)

    def poll(self):
        """As `Engine.poll`: with `order_seed` a random part of what is outstanding."""
        tickets = list(self._outstanding)
        if self._order is not None:
            tickets = self._order.sample(tickets, self._order.randint(1, len(tickets)))
        return [(ticket, self._samples(self._outstanding.pop(ticket))) for ticket in tickets]

    def _samples(self, request) -> list[Sample]:
        found = []
        for i in range(request.n):
            text, finished = self.write(request.prompt, request.seed + i)
            stops = [text.find(stop) for stop in request.stop if stop in text]
            found.append(Sample(text[: min(stops)] if stops else text, 0.0, 1, finished or bool(stops)))
        return found

    def close(self) -> None:
        """As `Engine.close`."""
        self._outstanding.clear()


def moody(bad: Callable[[str], str], share: float) -> Callable[[str, int], tuple[str, bool]]:
    """Writes badly at a share of the seeds."""
    return lambda prompt, seed: (bad(prompt) if random.Random(seed).random() < share else well(prompt), True)


def examples_for(
    trees: Iterable[Tree], *, editor: MathEditor, make: Callable[[Tree], Iterable[Trace]] = traces
) -> Iterator[tuple[str, str]]:
    """(prompt, response) pairs of the rewriting of the chains of trees, as a model that writes well would answer: to pretrain
    one on.

    Args:
        editor: renders the prompts; with its chat template, if it has one.
        make: the chains of a tree, in the template's words and with phrases that `editor` knows.
    """
    for which in trees:
        for trace in make(which):
            found = rewrite(
                chain_id(trace), which.problem, pieces(which, trace), editor=editor, retries=0, on_failure="template"
            )
            answer = None
            while True:
                try:
                    ((ask,),) = (found.send(answer),)
                except StopIteration:
                    break
                text = well(ask.prompt)
                yield ask.prompt, ("" if ask.prompt.endswith("\n") else " ") + text
                answer = [[Sample(text, 0.0, 1, True)]]
