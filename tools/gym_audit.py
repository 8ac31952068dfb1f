"""Audits every task of reasoning-gym as a task of a run, and writes the table of docs/gym.md.

    python -m tools.gym_audit                  # prints the table and writes it into docs/gym.md
    python -m tools.gym_audit mini_sudoku maze # only these, with each wrong answer that was graded right; writes nothing

Scorers run in workers, as in a stage. A task passes if every gold answer read from a response is right, no wrong answer
is, no answer is executed, and another process generates the same problems from the same seeds.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from astro.process import UserError
from astro.tasks import TaskError, get_task
from astro.tasks.user.gym import DATASETS, GOLD_ALONE, GOLDS, MISSING, REFUSED
from astro.tasks.user.task import UserTask
from astro.viz.markdown_table import table
from schemas.records import Problem

PAGE = Path("docs/gym.md")
PROBLEMS = 20
CONSTANTS = (
    "",
    "no idea",
    "?",
    "0",
    "1",
    "-1",
    "1000000",
    "[]",
    "{}",
    "[NaN]",
    "nan",
    "inf",
    "None",
    "null",
    "True",
    "yes",
    "No",
)
"""Answers made without knowing the problem. One that is the gold of a problem is not tried on it."""

SHUFFLED = ("shuffled", "shuffled words")
LONGER = ("twice", "more words", "more rows")
RIGHT_ANYWAY: dict[str, tuple[tuple[str, ...], str]] = {
    "fraction_simplification": (LONGER, "what follows the fraction is ignored"),
    "graph_color": (("other gold",), "another colouring may be right"),
    "kakurasu": (("more words",), "words among the numbers are ignored"),
    "knights_knaves": ((*SHUFFLED, *LONGER), "persons in any order, other words are ignored"),
    "n_queens": (("other gold",), "another board may be right"),
    "palindrome_generation": (SHUFFLED, "any palindrome of the letters is right"),
    "polynomial_equations": ((*SHUFFLED, *LONGER), "in any order, and anything but numbers is ignored"),
    "power_function": (("1 more", "half"), "three digits count"),
    "prime_factorization": (SHUFFLED, "factors in any order"),
    "quantum_lock": ((*SHUFFLED, "more words"), "only the letters A, B and C count"),
    "shortest_path": (SHUFFLED, "another path may be as short"),
    "survo": (("more words",), "words among the numbers are ignored"),
    "time_intervals": (("half", *LONGER), "what follows a number of days is ignored"),
}
"""Kinds of changed answers that are intended to be right, or may be."""


@dataclass
class Audit:
    """The findings on one task.

    Attributes:
        golds: number of golds that are right when read from responses.
        wrong: wrong answers -> those that were graded right.
        different: number of different problems.
        made_ms, graded_ms: milliseconds per problem, and per answer.
    """

    name: str
    problems: list[Problem] = field(default_factory=list)
    golds: int = 0
    tried: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    allowed: int = 0
    different: int = 0
    same_again: bool = True
    made_ms: float = 0.0
    graded_ms: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether the task passes."""
        return not self.faults


def wrong_answers(problems: Sequence[Problem]) -> Iterator[tuple[Problem, str, str]]:
    """(problem, kind, answer) for answers that are wrong, or right only by chance."""
    for n, problem in enumerate(problems):
        gold, rng = problem.gold, Random(n)
        yield from ((problem, "constant", text) for text in CONSTANTS)
        yield problem, "question", problem.question
        yield problem, "other gold", problems[(n + 1) % len(problems)].gold
        yield problem, "shuffled", "".join(rng.sample(gold, len(gold)))
        words = re.split(r"(\s+)", gold)
        mixed = rng.sample(words[::2], len(words[::2]))
        yield (
            problem,
            "shuffled words",
            "".join(part for pair in zip(mixed, [*words[1::2], ""], strict=True) for part in pair),
        )
        yield problem, "half", gold[: len(gold) // 2]
        yield problem, "beginning", gold[:1]
        yield problem, "twice", f"{gold} {gold}"
        yield problem, "more words", f"{gold} more, words"
        yield problem, "more rows", f"{gold}\n{gold.splitlines()[-1]}"
        if re.fullmatch(r"-?\d+(\.\d+)?", gold):
            whole, point, rest = gold.partition(".")
            yield problem, "1 more", f"{int(whole) + (-1 if gold.startswith('-') else 1)}{point}{rest}"
            yield problem, "negative", gold[1:] if gold.startswith("-") else f"-{gold}"


def hostile(canary: Path) -> list[str]:
    """Answers that would write a file if they were executed."""
    command = f"__import__('os').system('touch {canary}')"
    return [
        command,
        f"[{command}]",
        f'exec("{command}")',
        f"open('{canary}', 'w')",
        f"(lambda: {command})()",
        f"{{'a': {command}}}",
        f"x + {command}",
        f"!!python/object/apply:os.system ['touch {canary}']",
        f"2 {command}",
    ]


def audit(names: Sequence[str]) -> list[Audit]:
    """Audit all of these tasks."""
    found, tasks = [], {}
    for name in names:
        one = Audit(name)
        try:
            tasks[name] = _graded(one)
        except (UserError, TaskError) as error:
            one.faults.append(str(error))
        found.append(one)
        print(f"{name}: {'; '.join(one.faults) or 'passes'}", file=sys.stderr, flush=True)
    for task in list(tasks.values())[:1]:
        task.workers.close()  # all tasks share the workers; from here on new ones make the problems
    for one in found:
        if one.name in tasks and _made(tasks[one.name]) != one.problems:
            one.same_again = False
            one.faults.append("another process makes different problems")
    return found


def _made(task: UserTask) -> list[Problem]:
    seeds = [(f"audit/{n}", 1) for n in range(PROBLEMS)]
    return [task.made(f"audit-{n:02d}", fields, 1) for n, fields in enumerate(task.problem_many(seeds))]


def _graded(one: Audit) -> UserTask:
    task = get_task(f"gym:{one.name}")
    assert isinstance(task, UserTask)
    began = time.perf_counter()
    one.problems = _made(task)
    one.made_ms = 1000 * (time.perf_counter() - began) / PROBLEMS
    one.different = len({task.identity(p) for p in one.problems})
    _golds(task, one)
    _wrong(task, one)
    _executed(task, one)
    return task


def _golds(task: UserTask, one: Audit) -> None:
    texts = [
        task.response(
            [
                "a thought",
                f"{task.answer_mark}\n{p.gold}\n{task.answer_end}",
            ]
        )
        for p in one.problems
    ]
    verdicts = [verdict for _, verdict in task.grade_many(one.problems, texts)]
    one.golds = verdicts.count("correct")
    if one.golds < len(verdicts):
        bad = verdicts.index(next(v for v in verdicts if v != "correct"))
        one.faults.append(f"a gold answer is {verdicts[bad]}: {one.problems[bad].gold!r:.80}")
    if any(task.step_end in p.gold for p in one.problems):
        one.faults.append("a gold answer contains a blank line")
    if any(task.extract(task.ask(p)) is not None for p in one.problems):
        one.faults.append("a question holds what reads as an answer")
    began = time.perf_counter()
    task.grade_answers(one.problems, [f" {p.gold}" for p in one.problems])
    one.graded_ms = 1000 * (time.perf_counter() - began) / PROBLEMS


def _wrong(task: UserTask, one: Audit) -> None:
    tried = [(p, kind, text) for p, kind, text in wrong_answers(one.problems) if _said(text) != _said(p.gold)]
    one.tried = len(tried)
    verdicts = task.grade_answers([p for p, _, _ in tried], [text for _, _, text in tried])
    for (problem, kind, text), verdict in zip(tried, verdicts, strict=True):
        if verdict != "correct":
            continue
        if kind in RIGHT_ANYWAY.get(one.name, ((), ""))[0]:
            one.allowed += 1
        else:
            one.wrong.append((kind, text, problem.gold))
    if one.wrong:
        kind, text, gold = one.wrong[0]
        one.faults.append(f"{len(one.wrong)} wrong answers are right, such as {text!r:.60} for {gold!r:.60} ({kind})")


def _said(text: str) -> object:
    """Normalise an answer, so that equal results mean equal content."""
    try:
        return float(text)
    except ValueError:
        return " ".join(text.split()).lower()


def _executed(task: UserTask, one: Audit) -> None:
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        pairs = [(p, text) for p in one.problems[:3] for text in hostile(canary)]
        verdicts = task.grade_answers([p for p, _ in pairs], [text for _, text in pairs])
        if canary.exists():
            one.faults.append("an answer was executed")
        if "correct" in verdicts:
            one.faults.append("a program is a right answer")


# --- the page ----------------------------------------------------------------------------------------------------------


def rows(found: Sequence[Audit]) -> list[list[str]]:
    """Rows of the table: passing tasks first."""
    passed, others = [one for one in found if one.passes], [one for one in found if not one.passes]
    shown = [[f"`{one.name}`", *_figures(one), "pass", _notes(one)] for one in passed]
    shown += [[f"`{one.name}`", *_figures(one), "**fails**", "; ".join(one.faults)] for one in others]
    return shown + [[f"`{name}`", *["–"] * 6, "left out", why] for name, why in sorted(REFUSED.items())]


def _figures(one: Audit) -> list[str]:
    return [
        f"{one.golds} of {len(one.problems)}",
        f"{one.tried - one.allowed - len(one.wrong)} of {one.tried - one.allowed}",
        f"{one.different} of {len(one.problems)}",
        "yes" if one.same_again else "**no**",
        _ms(one.graded_ms),
        "here" if one.name in GOLD_ALONE else "its own",
    ]


def _ms(value: float) -> str:
    return "< 1" if value < 1 else f"{value:.0f}"


def _notes(one: Audit) -> str:
    notes = [
        GOLD_ALONE.get(one.name, ""),
        "many right answers; the gold is an example" if one.name in GOLDS else "",
        RIGHT_ANYWAY.get(one.name, ((), ""))[1],
        f"{one.made_ms:.0f} ms to make a problem" if one.made_ms >= 20 else "",
    ]
    return "; ".join(note for note in notes if note)


HEAD = ["task", "golds right", "wrong answers wrong", "different problems", "same in another process", "ms per grade", "scorer",
        "verdict", "notes"]  # fmt: skip


def written(found: Sequence[Audit]) -> str:
    """The table and its counts."""
    passed = sum(one.passes for one in found)
    return (
        f"{passed} of {len(found) + len(REFUSED)} tasks pass, {len(REFUSED)} are left out"
        f"{f', {len(found) - passed} fail' if passed < len(found) else ''}.\n\n{table(HEAD, rows(found))}"
    )


def main() -> None:
    """Audit the tasks on the command line, or all."""
    if MISSING:
        raise SystemExit(f"error: {MISSING}; run `make gym` to install reasoning-gym")
    asked = sys.argv[1:]
    unknown = [name for name in asked if name not in DATASETS]
    if unknown:
        raise SystemExit(f"error: reasoning-gym has no task {unknown[0]!r}")
    found = audit([name for name in asked or sorted(DATASETS) if name not in REFUSED])
    print(written(found))
    if asked:
        for one in found:
            for kind, text, gold in one.wrong:
                print(f"{one.name}: {kind}: {text!r:.200} for {gold!r:.200}")
        return
    page = PAGE.read_text(encoding="utf-8")
    mark = re.compile(r"(?<=<!-- begin audit -->\n).*?(?=\n<!-- end audit -->)", re.DOTALL)
    PAGE.write_text(mark.sub(lambda _: written(found).strip(), page), encoding="utf-8")


if __name__ == "__main__":
    main()
