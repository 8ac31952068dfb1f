"""Countdown: "make 24 from 3 5 7 9". Combine two numbers at a time until one is left; each given number is used once.

A solution, one step per line:

    make 24 from 3 5 7 9              the question
    9 - 5 = 4 left 3 7 4              combine two numbers, say what is left (the result comes last)
    7 + 4 = 11 left 3 11
    3 * 11 = 33 make 24 got 33 no answer 3 * ( 7 + ( 9 - 5 ) )

The last step restates the target beside the result and says whether they agree before it answers: a tiny model can
verify only what stands side by side (docs/log.md). The base model answers either way; not to answer after a "no", but to
go back, is what the search traces teach.

A chat model is asked by messages, and writes what a person would:

    9 - 5 = 4, which leaves 3, 7 and 4.
    7 + 4 = 11, which leaves 3 and 11.
    3 * 11 = 33. We need 24 and have 33: no. Answer: 3 * (7 + (9 - 5))
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from astro.tasks.base import Task
from astro.tasks.countdown.chain import read_chain
from astro.tasks.countdown.expression import ExpressionError, evaluate
from astro.tasks.countdown.steps import (
    PLAIN,
    STEP,
    SYSTEM,
    WORDS,
    YES,
    Wording,
    numbers_in,
    parse_question,
    prompt_of,
    question,
    vocabulary,
)
from schemas.base_model import CorpusParams
from schemas.problems import ProblemsParams
from schemas.records import Chain, Problem, Verdict


class Countdown(Task):
    """The embedded task (see the module's docstring for its text)."""

    step_end = "\n"
    name = "countdown"
    grades_inline = True

    @property
    def wording(self) -> Wording:
        """The words of its steps."""
        return WORDS if self.chat else PLAIN

    def identity(self, problem: Problem) -> str:
        """The target and the sorted numbers. Raises ValueError on a question that is none."""
        target, numbers = parse_question(problem.question)
        return " ".join(map(str, (target, *sorted(numbers))))

    def prompt(self, problem: Problem) -> str:
        """The question and a line end; for a chat model a conversation that ends where the model answers."""
        return prompt_of(problem.question, self.chat)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """The rules, and the question as a person would put it."""
        return SYSTEM, WORDS.ask(*parse_question(problem.question))

    def example(self) -> Problem:
        """The shortest one."""
        return Problem(id="example", task=self.name, question=question(2, [1, 1]), gold="2", level=2, chance=None)

    def split(self, text: str) -> list[str]:
        """One step per line."""
        return text.split(self.step_end)

    def is_terminal(self, step: str) -> bool:
        """The last step holds the answer."""
        return self.wording.answers in step

    def state_key(self, steps: Sequence[str]) -> str:
        """The numbers left, sorted: 3 + 5 and 5 + 3 are one action. An unreadable or terminal step stands for itself."""
        match = re.fullmatch(STEP.pattern + self.wording.left.pattern, steps[-1])
        return " ".join(map(str, sorted(numbers_in(match[5])))) if match else steps[-1]

    def extract(self, text: str) -> str | None:
        """What follows the last "answer", to the end of its line."""
        _, mark, tail = text.rpartition(self.wording.answers)
        answer = tail.partition("\n")[0].strip() if mark else ""
        return (answer.removesuffix(".") if self.chat else answer) or None  # a person ends a sentence

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Exact: the expression equals the target and uses each given number once."""
        try:
            target, numbers = parse_question(problem.question)
        except ValueError:
            return "unparseable_gold"
        if problem.gold != str(target):
            return "unparseable_gold"
        if answer is None:
            return "unparseable_prediction"
        try:
            value, used = evaluate(answer)
        except ExpressionError:
            return "unparseable_prediction"
        return "correct" if value == target and sorted(used) == sorted(numbers) else "wrong"

    def canonical(self, answer: str) -> str:
        """The value of the expression: 7 + 15 and 15 + 7 are one answer. What is no expression stands for itself."""
        try:
            return str(evaluate(answer)[0])
        except ExpressionError:
            return answer

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Legal and faithful to the end, and the closing yes / no agrees with the numbers and with the grade."""
        text = self.step_end.join(steps)
        nodes = self.parse_chain(problem, text).nodes
        if len(nodes) != len(steps) or not nodes[-1].ends:
            return False
        right = self.grade(problem, self.extract(text)) == "correct"
        return all(node.valid for node in nodes) and nodes[-1].claim == nodes[-1].right == right

    def abandoned(self, step: str) -> tuple[str, str]:
        """Without " answer ...": the check (" make <target> got <value> no") stays, the chain does not answer."""
        kept = step.partition(" " + self.wording.answers)[0]
        check = self.wording.check.search(kept)
        at = check.start() if check else len(kept)
        return kept[:at], kept[at:]

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The question and the steps that stand: what comes next reads like a first attempt."""
        asked = self.wording.ask(*parse_question(problem.question))
        return self.step_end.join([asked, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """The solution up to its own check, for the LM to say "yes" or "no"."""
        head = steps[-1].partition(self.wording.checks.partition("{target}")[2].partition("{value}")[0])
        last = head[0] + head[1] + head[2].partition(" ")[0]
        return self.prompt(problem) + self.step_end.join([*steps[:-1], last]), YES

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """See `astro.tasks.countdown.chain`."""
        return read_chain(*parse_question(problem.question), text, self.wording)

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """One by one."""
        return [self.parse_chain(problem, text) for problem, text in zip(problems, texts, strict=True)]

    def make_sets(self, params: ProblemsParams, seed: int) -> tuple[dict[str, list[Problem]], int]:
        """As `Task.make_sets`, each problem with its exact chance."""
        from astro.tasks.countdown.sets import make_sets

        return make_sets(params.model_dump(), seed=seed)

    def corpus(
        self, params: CorpusParams, world: Mapping[str, int], excluded: Sequence[Problem], seed: int
    ) -> Iterator[str]:
        """As `Task.corpus`; a share of the solutions misses the target and says so."""
        from astro.tasks.countdown.sets import corpus, problem_key

        return corpus(
            random.Random(f"corpus/{seed}"),
            levels=params.levels,
            miss_share=params.miss_share,
            excluded={problem_key(*parse_question(p.question)) for p in excluded},
            world=dict(world),
            chat=self.chat,
        )

    def vocabulary(self, world: Mapping[str, int], texts: Iterable[str]) -> list[str]:
        """Each word and each whole number up to `value_max`."""
        return vocabulary(world["value_max"])
