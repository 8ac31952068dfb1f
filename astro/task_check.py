"""`astro check my_task.py`: does a task keep its contract? Runs before anything long does, in seconds.

astro check my_task.py
astro check gym:mini_sudoku --options '{min_empty: 6}'
astro check my_task.py --level 3 --show 2
"""

import argparse
import contextlib
import io
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from astro.importing import import_sets
from astro.importing.imported import Imported
from astro.params import load_params
from astro.process import UserError, plural
from astro.tasks import TaskError, get_task
from astro.tasks.user.task import UserTask
from schemas.params import Params
from schemas.records import Problem, Verdict
from schemas.run import RunParams

AFFECTS_RESULTS = False

PROBLEMS = 20
"""Number of problems that are tried."""

NONSENSE = ("", "no idea", "?", "[]", "0 0 0")
"""Answers that fit no problem."""

SLOW_MS = 20.0
"""Milliseconds from which a call slows down a search."""

READ = 200
"""Number of rows that are read from a file."""


@dataclass
class Report:
    """The findings of the check, line by line."""

    lines: list[str] = field(default_factory=list)
    faults: int = 0

    def ok(self, text: str) -> None:
        """Report that something is right."""
        self.lines.append(f"  ok     {text}")

    def note(self, text: str) -> None:
        """Report something that may be intended."""
        self.lines.append(f"  note   {text}")

    def fault(self, text: str) -> None:
        """Report something that must be repaired before a run."""
        self.faults += 1
        self.lines.append(f"  FAULT  {text}")

    def either(self, good: bool, text: str, otherwise: str) -> None:
        """Report ok or a fault, depending on `good`."""
        (self.ok if good else self.fault)(text if good else otherwise)


def check_task(task: UserTask, *, level: int, params: Params | None = None) -> tuple[Report, list[Problem]]:
    """Try everything that the stages require of a task.

    Args:
        level: level of the problems to try.
        params: the params, if they name this task; its problems may come from their files.

    Raises:
        UserError, TaskError: it cannot be tried at all.
    """
    report = Report()
    report.ok(f"loaded; it defines {', '.join(sorted(task.defines))}")
    problems = _problems(task, level, params, report)
    if problems:
        for part in (_grading, _prompts, _text, _solutions, _speed):
            part(task, problems, report)
    return report, problems


def _problems(task: UserTask, level: int, params: Params | None, report: Report) -> list[Problem]:
    if params is not None and params.problems.source == "files":
        return _from_files(task, params, report)
    if not task.makes_problems:
        report.fault(
            "there is no problem() and no problem file; define problem(), or set run.task and problems.source: "
            "files in params.yaml"
        )
        return []
    seeds = [(f"check/{n}", level) for n in range(PROBLEMS)]
    made = task.problem_many(seeds)
    problems = [task.made(f"check-{n:02d}", fields, level) for n, fields in enumerate(made)]
    task.workers.close()  # new processes have other hash seeds and no state
    again = task.problem_many(seeds)
    differ = next((n for n, (one, two) in enumerate(zip(made, again, strict=True)) if one != two), None)
    report.either(
        differ is None,
        "the same seed gives the same problem",
        f"problem() gives different problems for the same seed: {made[differ or 0]['question']!r:.80} and then "
        f"{again[differ or 0]['question']!r:.80}; take every random value from the argument `random`",
    )
    different = len({task.identity(p) for p in problems})
    text = f"different problems of level {level}: {different} of {PROBLEMS}"
    if different == 1:
        report.fault(f"{text}; check that problem() uses `random`")
    elif different < PROBLEMS:
        report.note(f"{text}; a set contains each problem only once, so it cannot be larger than that")
    else:
        report.ok(text)
    return problems


def _from_files(task: UserTask, params: Params, report: Report) -> list[Problem]:
    """The first problems of the train set, read as the stage reads them."""
    entry = params.problems.files["train"]
    limit = min(entry.limit or READ, READ)
    files = {
        "eval_train": entry.model_copy(update={"limit": limit})
    }  # declared as an eval set, so that no other set is read
    found = Imported(errors={})
    with contextlib.redirect_stdout(io.StringIO()):
        import_sets(params.problems.model_copy(update={"files": files}), task, found)
    for error in (found.errors or {}).values():
        report.fault(error)
    problems = found.sets.get("eval_train", [])
    if problems:
        report.ok(
            f"{len(problems)} of the first {plural(limit, 'row')} of the train set can be used; `astro check problems` shows "
            "details"
        )
    if task.makes_problems:
        report.note("problem() is not used, because problems.source is files")
    return problems[:PROBLEMS]


def _grading(task: UserTask, problems: Sequence[Problem], report: Report) -> None:
    golds = task.grade_golds(problems)
    failed = [
        error
        for error in task.try_many("score", [[p.model_dump(), p.gold] for p in problems[:1]])
        if isinstance(error, TaskError)
    ]
    if failed:
        report.fault(f"score() fails on a gold answer: {failed[0]}")
        return
    bad = next((n for n, verdict in enumerate(golds) if verdict != "correct"), None)
    report.either(
        bad is None,
        f"the gold answer is graded right ({len(problems)} of {len(problems)})",
        f"gold answers that are graded right: {golds.count('correct')} of {len(golds)}; this one is not: "
        f"{problems[bad or 0].question!r:.120}, gold {problems[bad or 0].gold!r:.80}: {golds[bad or 0]}",
    )
    for called, answers in (("nonsense", NONSENSE), ("the gold with its characters in another order", None)):
        pairs = [(p, a) for p in problems[:5] for a in answers or [_shuffled(p.gold)] if a != p.gold]
        verdicts = task.grade_answers([p for p, _ in pairs], [a for _, a in pairs])
        right = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict == "correct"]
        if answers is None and len(right) < len(pairs):
            report.ok(f"{called} is graded wrong ({len(pairs) - len(right)} of {len(pairs)})")
        elif pairs:
            shown = right[0] if right else pairs[0]
            report.either(
                not right,
                f"{called} is graded wrong ({plural(len(pairs), 'answer')})",
                f"{called} is graded right: {shown[1]!r} for {shown[0].question!r:.100}; score() must reject wrong "
                "answers",
            )
    pairs = [(p, q.gold) for p, q in zip(problems, [*problems[1:], problems[0]], strict=True) if p.gold != q.gold]
    verdicts = task.grade_answers([p for p, _ in pairs], [a for _, a in pairs])
    right_ones = verdicts.count("correct")
    text = f"the gold of another problem is graded right for {right_ones} of {len(pairs)}"
    if pairs and right_ones > len(pairs) / 2:
        report.fault(f"{text}; check that score() uses the problem")
    elif pairs:
        (report.note if right_ones else report.ok)(text)


def _shuffled(text: str) -> str:
    letters = list(text)
    random.Random(0).shuffle(letters)
    return "".join(letters)


def _prompts(task: UserTask, problems: Sequence[Problem], report: Report) -> None:
    first = [task.prompt(p) for p in problems]
    fresh = task.fresh()
    report.either(
        first == [fresh.prompt(p) for p in problems],
        "the prompt is the same each time",
        "ask() gives a different text at each call",
    )
    report.either(all(text.strip() for text in first), "no prompt is empty", "ask() returns an empty prompt")
    if len(set(first)) < len({task.identity(p) for p in problems}):
        report.fault("different problems have the same prompt; check that ask() includes the question")


def _text(task: UserTask, problems: Sequence[Problem], report: Report) -> None:
    """Check that steps are joined, split, ended, given up and restated consistently."""
    problem = problems[0]
    last = f"{task.answer_mark}{problem.gold}"
    last += "" if not task.answer_end.strip() else task.answer_end
    steps = ["a first thought", "a second thought", last]
    text = task.response(steps)
    report.either(
        task.split(text) == steps,
        "joined steps are split into the same steps",
        f"steps {steps} become {task.split(text)}; check that the answer does not contain step_end {task.step_end!r}",
    )
    ends = [task.is_terminal(step) for step in steps]
    report.either(
        ends == [False, False, True],
        "the last step is recognised by its answer",
        f"only the last of the steps {steps} may end a solution, but is_terminal gives {ends}; check answer_mark "
        "and extract()",
    )
    answer = task.extract(text)
    verdict = task.grade(problem, answer)
    report.either(
        verdict == "correct",
        "the answer is read from a response",
        f"the answer read from {text!r:.200} is {answer!r:.80}, which is graded {verdict}",
    )
    given_up = task.abandoned(last)[0]
    report.either(
        task.extract(given_up) is None,
        "an abandoned attempt gives no answer",
        f"{given_up!r:.120} still gives an answer; extract() must only accept text after answer_mark "
        f"{task.answer_mark!r}",
    )
    report.either(
        task.attempt(given_up) is not None,
        "the answer of an abandoned attempt can still be read",
        f"the abandoned answer in {given_up!r:.120} cannot be read; extract() must look for the text of answer_mark",
    )
    chain = (
        text.replace(last, given_up)
        + task.step_end
        + task.restate(problem, steps[:1])
        + task.response(["another thought", last])
    )
    read = task.parse_chain(problem, chain)
    report.either(
        len(read.back_edges) == 1 and read.back_edges[0][1] == 0 and len(read.attempts) == 2,
        "a chain that goes back is recognised",
        f"a chain that goes back once, to its first step, is read as {len(read.attempts)} attempts with returns "
        f"{read.back_edges}",
    )


def _solutions(task: UserTask, problems: Sequence[Problem], report: Report) -> None:
    if "solution" not in task.defines:
        report.note("there is no solution(), so the base must be pretrained and used without a warm-up")
        return
    seeds = [f"check/{n}" for n in range(len(problems))]
    solved = task.solutions(seeds, problems)
    task.workers.close()
    report.either(
        solved == task.solutions(seeds, problems),
        "the same seed gives the same solution",
        "solution() gives different steps for the same seed; take every random value from the argument `random`",
    )
    whole = [list(steps) for steps in solved]
    for steps in whole:
        if (
            task.split(task.response(steps)) != steps
            or not steps
            or not task.is_terminal(steps[-1])
            or any(map(task.is_terminal, steps[:-1]))
        ):
            report.fault(
                f"the steps of solution() must not contain {task.step_end!r}, and only the last may give an answer: "
                f"{steps}"
            )
            return
    report.ok("solutions are steps, and the last one gives the answer")
    verdicts = [verdict for _, verdict in task.grade_many(problems, [task.response(steps) for steps in whole])]
    right = verdicts.count("correct")
    report.ok(
        f"of {plural(len(verdicts), 'solution')}, {plural(right, 'is', 'are')} right, {verdicts.count('wrong')} wrong"
    )
    if unread := verdicts.count("unparseable_prediction"):
        report.note(
            f"{plural(unread, 'answer')} cannot be read; chains go back only from attempts that score() grades as wrong"
        )
    if right == len(verdicts):
        report.note(
            "every solution is right, so the base never sees a wrong attempt and will not learn to doubt; "
            "let some solutions fail"
        )
    if not right:
        report.fault("no solution is right, so the base has nothing to learn")
    _rules(task, problems, whole, verdicts, report)


def _rules(
    task: UserTask,
    problems: Sequence[Problem],
    solved: Sequence[list[str]],
    verdicts: Sequence[Verdict],
    report: Report,
) -> None:
    """Check `state_key` and `valid` at each step of the solutions."""
    if "state_key" in task.defines:
        keys = task.try_many("state_key", [[s[: n + 1]] for s in solved[:5] for n in range(len(s))])
        failed = [key for key in keys if isinstance(key, TaskError)]
        report.either(
            not failed,
            "state_key() gives a text for each step",
            f"state_key() fails on a step: {failed[0] if failed else ''}",
        )
    if "valid" not in task.defines:
        return
    paths = [[p.model_dump(), s[: n + 1]] for p, s in zip(problems, solved, strict=True) for n in range(len(s))]
    found = task.try_many("valid", paths)
    failed = [error for error in found if isinstance(error, TaskError)]
    if failed:
        report.note(
            f"valid() fails on {len(failed)} of {plural(len(paths), 'step')}, so that a step counts as breaking the rules: "
            f"{failed[0]}"
        )
    steps = iter(found)
    whole = [sum(next(steps) is True for _ in s) == len(s) for s in solved]
    sound = [kept for kept, verdict in zip(whole, verdicts, strict=True) if verdict == "correct"]
    if sound and not all(sound):
        (report.note if any(sound) else report.fault)(
            f"right solutions with a step that valid() rejects: {sound.count(False)} of {len(sound)}; no chain is made "
            "from such a solution"
        )
    report.ok(f"steps of solutions that follow the rules: {found.count(True)} of {len(found)}")


def _speed(task: UserTask, problems: Sequence[Problem], report: Report) -> None:
    tries: list[tuple[str, Callable[[], Any]]] = [
        ("score", lambda: task.try_many("score", [[p.model_dump(), p.gold] for p in problems]))
    ]
    if "ask" in task.defines:
        tries.append(("ask", lambda: task.try_many("ask", [[p.model_dump()] for p in problems])))
    for method, run in tries:
        began = time.perf_counter()
        run()
        each = 1000 * (time.perf_counter() - began) / len(problems)
        (report.note if each > SLOW_MS else report.ok)(
            f"{method}() takes {each:.1f} ms" + (", which slows the search down" if each > SLOW_MS else "")
        )


def shown(task: UserTask, problems: Sequence[Problem], count: int) -> Iterator[str]:
    """The first problems as a model sees them, each with its gold and a solution."""
    for problem in problems[:count]:
        yield f"\n--- {problem.id}, level {problem.level}, gold {problem.gold!r:.100}"
        yield task.prompt(problem).rstrip("\n")
        if "solution" in task.defines:
            yield task.response(task.solutions([problem.id], [problem])[0])


def level(text: str) -> int:
    """Parse a level of the command line."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: levels are whole numbers from 1")
    return int(text)


def options(text: str) -> dict[str, Any]:
    """Parse options of the command line as in params.yaml."""
    try:
        found = YAML(typ="safe").load(text)
    except YAMLError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names and values, such as '{{largest: 9}}'")
    return found


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def main() -> int:
    """Check the task that the command line names."""
    parser = argparse.ArgumentParser(
        prog="astro check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", help="my_task.py, or gym:<name>")
    parser.add_argument("--level", type=level, default=1, help="level of the problems for the check (default: 1)")
    parser.add_argument("--options", type=options, default={}, help="run.options, e.g. '{largest: 9}'")
    parser.add_argument("--show", type=int, default=1, help="number of problems to print (default: 1)")
    given = parser.parse_args()
    run = RunParams(seed=0, task=given.task, options=given.options, prompt="plain", answers="box")
    task = get_task(run.spec)
    if not isinstance(task, UserTask):
        raise UserError(f"{given.task} is a built-in task; this command checks your own task file, such as my_task.py")
    print(f"{task.name}: {task.about}" if task.about else task.name, flush=True)
    here = load_params()
    with _without_warnings():  # unreadable nonsense is part of the check
        report, problems = check_task(task, level=given.level, params=here if here.run.task == task.name else None)
    print("\n".join([*report.lines, *shown(task, problems, given.show)]))
    print(
        f"\n{plural(report.faults, 'fault')}; fix them before a run"
        if report.faults
        else "\nno faults found; now set run.task in params.yaml"
    )
    return 1 if report.faults else 0
