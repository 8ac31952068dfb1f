"""What a model of `tests.pipeline.sums` is taught besides, to write and judge chains: (rendered prompt, answer) pairs."""

from astro.tasks.chat import ChatTemplate
from astro.tasks.math.rewrite import MathEditor
from astro.tasks.math.task import Math
from schemas.records import Problem, Tree
from tests.cloning.rewriting import PHRASES, examples_for, tree_of
from tests.pipeline.sums import pairs, question, solution

PHRASE_FILE = "phrases/math_lm.yaml"


def sum_tree(a: int, b: int) -> Tree:
    """The tree of one sum: the right result and three wrong ones."""
    asked = Problem(id=f"s{a}-{b}", task="math", question=question(a, b), gold=str(a + b), level=1, chance=None)
    right, *wrong = (solution(a, b, a + b + off).split("\n\n") for off in (0, -1, 1, 2))
    return tree_of(asked, right, *wrong)


def rewriting_examples(chat: ChatTemplate) -> list[tuple[str, str]]:
    """Rewrites of the segments of chains about all sums; without few-shot examples (`linearize.lm.shots: 0`)."""
    editor = MathEditor(Math(PHRASES, chat), shots=0, phrases=PHRASES.all())
    return list(dict.fromkeys(examples_for([sum_tree(a, b) for a, b in pairs()], editor=editor)))


def vote_examples(chat: ChatTemplate) -> list[tuple[str, str]]:
    """Votes on right solutions: all of these are sound."""
    trees = [sum_tree(a, b) for a, b in pairs()]
    return [(Math(chat=chat).vote_prompt(t.problem, t.steps(2))[0], "Yes, it is sound.") for t in trees]
