"""Countdown: "make 24 from 3 5 7 9". Combine two numbers at a time until one is left; each given number is used once.

A solution has one step per line:

    make 24 from 3 5 7 9              the question 9 - 5 = 4 left 3 7 4              combine two numbers and list the
    rest (the result comes last) 7 + 4 = 11 left 3 11 3 * 11 = 33 make 24 got 33 no answer 3 * ( 7 + ( 9 - 5 ) )

The last step repeats the target beside the result and says whether they agree, before it answers. A tiny model can only
compare what is close together (docs/log.md). The base model answers in both cases. The search traces teach it to go back
after a "no" instead of answering.

A chat model receives messages and writes as a person would:

    9 - 5 = 4, which leaves 3, 7 and 4. 7 + 4 = 11, which leaves 3 and 11. 3 * 11 = 33. We need 24 and have 33: no.
    Answer: 3 * (7 + (9 - 5))
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from astro.tasks.base import Task
from astro.tasks.countdown.chain_parser import read_chain
from astro.tasks.countdown.expression import ExpressionError, evaluate
from astro.tasks.countdown.wording import (
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
    """The task Countdown. The module's docstring shows its text."""

    step_end = "\n"
    name = "countdown"
    grades_inline = True

    @property
    def wording(self) -> Wording:
        """The wording of its steps."""
        return WORDS if self.chat else PLAIN

    def identity(self, problem: Problem) -> str:
        """The target and the sorted numbers. Raises ValueError if the question cannot be parsed."""
        target, numbers = parse_question(problem.question)
        return " ".join(map(str, (target, *sorted(numbers))))

    def prompt(self, problem: Problem) -> str:
        """The question and a line end. For a chat model it is a conversation that ends where the assistant begins to write."""
        return prompt_of(problem.question, self.chat)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """The rules as the system message, and the question in a person's words."""
        return SYSTEM, WORDS.ask(*parse_question(problem.question))

    def example(self, level: int) -> Problem:
        """The shortest possible problem, whatever the level."""
        return Problem(id="example", task=self.name, question=question(2, [1, 1]), gold="2", level=2, chance=None)

    def split(self, text: str) -> list[str]:
        """One step per line."""
        return text.split(self.step_end)

    def is_terminal(self, step: str) -> bool:
        """Whether the step holds the answer, as the last step does."""
        return self.wording.answers in step

    def state_key(self, steps: Sequence[str]) -> str:
        """The remaining numbers, sorted, so that 3 + 5 and 5 + 3 are one action. An unreadable or terminal step is its own
        key."""
        match = re.fullmatch(STEP.pattern + self.wording.left.pattern, steps[-1])
        return " ".join(map(str, sorted(numbers_in(match[5])))) if match else steps[-1]

    def extract(self, text: str) -> str | None:
        """The text after the last "answer", up to the end of its line."""
        _, mark, tail = text.rpartition(self.wording.answers)
        answer = tail.partition("\n")[0].strip() if mark else ""
        return (answer.removesuffix(".") if self.chat else answer) or None  # a person ends a sentence with a full stop

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Exact grade: the expression must equal the target and use each given number once."""
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
        """The value of the expression, so that 7 + 15 and 15 + 7 are one answer. Text that is not an expression is its own
        form."""
        try:
            return str(evaluate(answer)[0])
        except ExpressionError:
            return answer

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Whether all steps are legal and faithful, and the closing yes or no agrees with the numbers and the grade."""
        text = self.step_end.join(steps)
        nodes = self.parse_chain(problem, text).nodes
        if len(nodes) != len(steps) or not nodes[-1].ends:
            return False
        right = self.grade(problem, self.extract(text)) == "correct"
        return all(node.valid for node in nodes) and nodes[-1].claim == nodes[-1].right == right

    def abandoned(self, step: str) -> tuple[str, str]:
        """Drop " answer ..." from the step. The check (" make <target> got <value> no") stays."""
        kept = step.partition(" " + self.wording.answers)[0]
        check = self.wording.check.search(kept)
        at = check.start() if check else len(kept)
        return kept[:at], kept[at:]

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The question and the valid steps, so that the continuation looks like a first attempt."""
        asked = self.wording.ask(*parse_question(problem.question))
        return self.step_end.join([asked, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """The solution up to its own check, which the model completes with "yes" or "no"."""
        head = steps[-1].partition(self.wording.checks.partition("{target}")[2].partition("{value}")[0])
        last = head[0] + head[1] + head[2].partition(" ")[0]
        return self.prompt(problem) + self.step_end.join([*steps[:-1], last]), YES

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """See `astro.tasks.countdown.chain_parser`."""
        return read_chain(*parse_question(problem.question), text, self.wording)

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """Parse the chains one by one."""
        return [self.parse_chain(problem, text) for problem, text in zip(problems, texts, strict=True)]

    def make_sets(self, params: ProblemsParams, seed: int) -> tuple[dict[str, list[Problem]], int]:
        """As `Task.make_sets`, each problem with its exact chance."""
        from astro.tasks.countdown.sets import make_sets

        return make_sets(params.model_dump(), seed=seed)

    def corpus(
        self, params: CorpusParams, world: Mapping[str, int], excluded: Sequence[Problem], seed: int
    ) -> Iterator[str]:
        """As `Task.corpus`. A share of the solutions misses the target and says so."""
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
        """All words and all whole numbers up to `value_max`."""
        return vocabulary(world["value_max"])
