"""The offline page of RL's rollouts: the same problems over the steps of training, selected by a slider.

Like `astro.viz.report` it is one HTML file that loads nothing; the same input gives the same bytes, and model text is data.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from astro.viz import plots
from astro.viz.report import ChainView, chain_view, environment
from schemas.grpo import ValidationMetrics
from schemas.records import Completion, Problem
from schemas.rollouts import RlRollout

_TEMPLATES = Path(__file__).parent / "templates"

STEPS = 30
"""Most steps shown, evenly spaced, including the first and the last."""

PAGE_BYTES = 2_600_000
"""Size of text and pictures up to which frames are shown."""


@dataclass(frozen=True)
class ArmRollouts:
    """The stored rollouts of one RL stage. The mappings are step -> rollouts, in ascending order."""

    stage: str
    problems: Mapping[str, Problem]
    validation: Mapping[int, Sequence[RlRollout]] = field(default_factory=dict)
    train: Mapping[int, Sequence[RlRollout]] = field(default_factory=dict)
    folder: str = ""
    files: int = 0


@dataclass(frozen=True)
class Frame:
    """One completion at one step."""

    step: int
    note: str  # before the facts of the chain
    gold: str
    chain: ChainView


@dataclass(frozen=True)
class Film:
    """The completions of one arm over the steps."""

    stage: str
    frames: list[Frame]


@dataclass(frozen=True)
class Slot:
    """One problem on the page."""

    title: str
    facts: str
    films: list[Film]


def spaced(steps: Iterable[int], count: int = STEPS) -> list[int]:
    """At most `count` of the steps, evenly spaced, including the first and the last."""
    given = sorted(set(steps))
    if len(given) <= count:
        return given
    return sorted({given[round(i * (len(given) - 1) / (count - 1))] for i in range(count)})


def telling(arms: Sequence[ArmRollouts], count: int) -> list[str]:
    """Ids of held-out problems to show, alternating between those that the first arm learnt, lost, and neither, in their order.

    Learnt means: the first completion was wrong at the first measurement and right at the last.
    """
    first = next((arm for arm in arms if arm.validation), None)
    if first is None:
        return []
    before, after = (
        {row.problem_id: row.verdict == "correct" for row in rows if row.number == 0}
        for rows in (first.validation[min(first.validation)], first.validation[max(first.validation)])
    )
    pools: list[list[str]] = [[], [], []]
    for problem_id, right in after.items():
        pools[0 if right > before[problem_id] else 1 if right < before[problem_id] else 2].append(problem_id)
    found: list[str] = []
    while any(pools) and len(found) < count:
        found += [pool.pop(0) for pool in pools if pool]
    return found[:count]


def render(
    arms: Sequence[ArmRollouts],
    *,
    problems: int,
    validated: Mapping[str, ValidationMetrics],
    curves: Mapping[str, plots.Curve],
    back: bool = True,
) -> str:
    """The page as one HTML string.

    Args:
        arms: the main one first.
        problems: number of held-out problems, and of groups of each training step, to show.
        validated: stage -> its validation metrics.
        curves: stage -> rows with a step and the validation columns.
        back: link to report.html beside it.
    """
    room = _Room(PAGE_BYTES)
    held = [_held_out(arms, problem_id, room) for problem_id in telling(arms, problems)]
    trained = [_trained(arms, place, room) for place in range(min(problems, 2))]
    parts = [
        (
            "held-out",
            "The same problem over the steps",
            "Held-out problems, sampled from the same seed at each measurement: by turns one that the first arm learnt, one that "
            "it lost, and one that stayed right or wrong. Move the slider.",
            [slot for slot in held if slot.films],
        ),
        (
            "trained",
            "What a step trained on",
            "A right and a wrong completion of one prompt of each step, where it has both. Prompts differ from step to step.",
            [slot for slot in trained if slot.films],
        ),
    ]
    steps = sorted(
        {frame.step for *_, slots in parts for slot in slots for film in slot.films for frame in film.frames}
    )
    script = Markup((_TEMPLATES / "slider.js").read_text(encoding="utf-8"))
    return (
        environment()
        .get_template("rollouts.html.j2")
        .render(
            css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            steps=steps,
            labels=[f"{step} of {steps[-1]}" + (" (the SFT model)" if step == 0 else "") for step in steps],
            plot=plots.training(curves, "validation") if validated else None,
            held_out=max((found.problems for found in validated.values()), default=0),
            validated=list(validated.items()),
            parts=parts,
            key=bool(steps),
            folders=[(arm.stage, arm.folder, arm.files) for arm in arms if arm.files],
            back=back,
        )
    )


class _Room:
    """The remaining bytes for frames."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, frame: Frame) -> bool:
        """Whether the frame fits; if so it is counted."""
        size = len(frame.chain.graph) + sum(len(line.text) + 90 for line in frame.chain.lines)
        if size > self.left:
            return False
        self.left -= size
        return True


def completion_of(arm: ArmRollouts, row: RlRollout) -> Completion:
    """Convert a rollout to a completion that the pages can show."""
    return Completion(
        model=arm.stage,
        set=row.set,
        problem_id=row.problem_id,
        sample=row.number,
        text=row.prefix + row.text,
        tokens=row.tokens,
        finished=row.finished,
        answer=row.answer,
        verdict=row.verdict,
        chain=row.chain,
    )


def _frame(arm: ArmRollouts, row: RlRollout, note: str) -> Frame:
    problem = arm.problems[row.problem_id]
    return Frame(row.step, note, problem.gold, chain_view(completion_of(arm, row), problem.question, None))


def _film(arm: ArmRollouts, rows: Iterable[tuple[RlRollout, str]], room: _Room) -> Film:
    return Film(arm.stage, [frame for row, note in rows if room.take(frame := _frame(arm, row, note))])


def _held_out(arms: Sequence[ArmRollouts], problem_id: str, room: _Room) -> Slot:
    """One problem: its first completion at each measurement, for every arm."""
    films, facts = [], []
    for arm in arms:
        rows = [
            next(row for row in arm.validation[step] if row.problem_id == problem_id and row.number == 0)
            for step in spaced(arm.validation)
            if any(row.problem_id == problem_id for row in arm.validation[step])
        ]
        if rows:
            films.append(_film(arm, [(row, "") for row in rows], room))
            signs = "".join("\u2713" if row.verdict == "correct" else "\u2717" for row in rows)
            facts.append(f"{plots.style(arm.stage).label} {signs}")
    question = next((arm.problems[problem_id].question for arm in arms if problem_id in arm.problems), problem_id)
    return Slot(question, ", ".join(facts), [film for film in films if film.frames])


def _trained(arms: Sequence[ArmRollouts], place: int, room: _Room) -> Slot:
    """The `place`-th completion of interest of each step: from the first mixed group, a right one first, then a wrong one."""
    films = []
    for arm in arms:
        rows = []
        for step in spaced(arm.train):
            chosen = _of_interest([row for row in arm.train[step] if row.used])
            if place < len(chosen):
                row = chosen[place]
                rows.append((row, f"{arm.problems[row.problem_id].question}, reward {row.reward}: "))
        if rows:
            films.append(_film(arm, rows, room))
    return Slot(
        ("A right completion", "A wrong one of the same prompt")[place], "", [film for film in films if film.frames]
    )


def _of_interest(rows: Sequence[RlRollout]) -> list[RlRollout]:
    """A right and a wrong completion of the first group with both; otherwise the first completion of the step."""
    groups: dict[tuple[str, str], list[RlRollout]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    for group in groups.values():
        right = next((row for row in group if row.verdict == "correct"), None)
        wrong = next((row for row in group if row.verdict != "correct"), None)
        if right and wrong:
            return [right, wrong]
    return list(rows[:1])
