"""Import of questions with answers: eval sets first, then train and rl without the problems of the eval sets."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from astro.importing.decontamination import Index
from astro.importing.imported import Imported, each_row, in_order, is_eval
from astro.importing.presets import Row, filters_of, map_of, read_row
from astro.importing.question_text import joined_template
from astro.process import Progress, UserError, plural
from astro.tasks import Task
from schemas.problems import ProblemsParams, SourceSpec
from schemas.records import Problem
from schemas.run import TASKS

GRADED_AT_ONCE = 2000
"""Golds per batch, between two progress messages."""

LONG = 20_000
"""Characters of a question beyond which most models cannot read it together with its answer."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A problem of a source, with its place there."""

    problem: Problem
    where: str
    row: Row


def import_problems(params: ProblemsParams, task: Task, found: Imported | None = None) -> Imported:
    """Read all sets of problems that `task` grades.

    Reasons for dropping a problem, in this order: it is unreadable, its gold is unreadable, the same question has
    another answer, it is an eval problem, it is a duplicate.

    Args:
        found: the result that they are added to.

    Raises:
        UserError: a source is missing or empty, or yields no problem; or the set is strict and a row is bad.
    """
    found = found or Imported()
    found.strict |= {name for name, spec in params.files.items() if spec.strict}
    given: dict[str, list[_Given]] = {}
    for name, spec in in_order(params, found):
        with found.noting(name):
            given[name] = _readable(read_source(name, spec, params.folder, task, found), name, task, found)
    for group in [[name] for name in given if is_eval(name)] + [[name for name in ("train", "rl") if name in given]]:
        _leave_out_contradictions(group, given, task, found)
    seen: dict[str, str] = {}  # questions of train, which rl must not repeat
    index: Index | None = None
    for name, entries in given.items():
        if not is_eval(name):
            if index is None:
                evals = [(f"{n}:{p.id}", p.question) for n, problems in found.sets.items() for p in problems]
                golds = {f"{n}:{p.id}": p.gold for n, problems in found.sets.items() for p in problems}
                index = Index(evals, ngram=params.overlap.ngram)
            entries = _clean(entries, name, index, golds, found)
        kept = _once(entries, name, {} if is_eval(name) else seen, task, found)
        with found.noting(name):
            found.close(name, [entry.problem for entry in kept], params.files[name])
    return found


def read_source(name: str, spec: SourceSpec, folder: str, task: Task, found: Imported | None = None) -> list[_Given]:
    """Read the problems of one source, in order. Unreadable rows and copies of earlier rows are dropped in `found`.

    Raises:
        UserError: the source is missing or empty, or no row of it is readable.
    """
    found = found or Imported(strict={name} if spec.strict else set())
    columns, short, filters = map_of(spec.preset, spec.fields), name.removeprefix("eval_"), filters_of(spec)
    given: list[_Given] = []
    ids: dict[str, tuple[str, str]] = {}  # id -> (place, question)
    copies: dict[tuple[str, str], str] = {}
    for where, number, row in each_row(name, spec, folder, lambda content: read_row(content, columns), found, filters):
        identifier = f"{short}-{row.id if row.id is not None else f'{number:06d}'}"
        copied = copies.get((row.question, row.gold)) if row.gold is not None else None
        if copied is not None:
            found.leave_out(name, "repeated", where=where, id=identifier, hits=f"{name}:{copied}")
            continue
        if identifier in ids:
            place, asked = ids[identifier]
            if asked != task.same(row.question):
                detail = (
                    f"field {columns.ids[0]!r}: {row.id!r} occurs already in {place}; set fields.id to false to "
                    "number the rows"
                )
                found.leave_out(name, "unreadable", where=where, id=identifier, detail=detail)
                continue
            identifier = f"{identifier}#{number}"  # for the same question again: duplicate, or contradiction
        ids[identifier] = where, task.same(row.question)
        if row.gold is not None:
            copies[row.question, row.gold] = identifier
        problem = Problem(
            id=identifier,
            task=task.name,
            question=row.question,
            gold=row.gold or "none",
            level=row.level,
            chance=None,
            data=row.data,
        )
        given.append(_Given(problem, where, row))
    _warn(given, name, found)
    return given


def _warn(given: Sequence[_Given], name: str, found: Imported) -> None:
    """Warn about invalid levels, about unread columns that belong to the question, and about questions too long for models."""
    long = [entry for entry in given if len(entry.problem.question) > LONG]
    if long:
        one = long[0]
        text = (
            f"{len(long)} of {plural(len(given), 'question')} too long for most models, the first is {one.where}: "
            f"{len(one.problem.question):,} characters; the engine returns no text for a prompt that is too long"
        )
        found.warn(name, "long_question", len(long), text)
    unlevelled = [entry for entry in given if entry.row.no_level]
    if unlevelled:
        one = unlevelled[0]
        text = (
            f"{len(unlevelled)} of {plural(len(given), 'problem')} with an invalid level, which becomes 1; the first "
            f"is {one.where}: {one.row.no_level} is not a level"
        )
        found.warn(name, "default_level", len(unlevelled), text)
    halves = [entry for entry in given if entry.row.unread]
    if halves:
        columns = list(dict.fromkeys(column for entry in halves for column in entry.row.unread))
        text = (
            f"{len(halves)} of {plural(len(given), 'problem')} perhaps without half of the question, the first: "
            f"{halves[0].where}: not read is "
            f'{", ".join(columns)}; to join columns: fields: {{question: "{joined_template(halves[0].row.asked, columns)}"}}'
        )
        found.warn(name, "half_question", len(halves), text)


def _readable(given: Sequence[_Given], name: str, task: Task, found: Imported) -> list[_Given]:
    """The problems whose gold the grader can read: it and each further answer of its list must be graded correct against it."""
    sound = _graded([entry.problem for entry in given if entry.row.gold is not None], task)
    asked = [(entry.problem, rival) for entry in given for rival in entry.row.rivals]
    verdicts = task.grade_answers([problem for problem, _ in asked], [rival for _, rival in asked])
    equal = {(p.gold, rival) for (p, rival), verdict in zip(asked, verdicts, strict=True) if verdict == "correct"}
    kept: list[_Given] = []
    for entry in given:
        rivals = [rival for rival in entry.row.rivals if (entry.row.gold, rival) not in equal]
        if rivals:
            detail = (
                f"field {entry.row.answered!r}: expected a text or a number, got a list of different answers, "
                f"{entry.row.gold!r} and {rivals[0]!r}; if all of them are required, set fields.several to all"
            )
            found.leave_out(name, "unreadable", where=entry.where, id=entry.problem.id, detail=detail)
            continue
        if entry.row.gold is not None and entry.problem.id in sound:
            kept.append(entry)
            continue
        shown = entry.row.given if entry.row.gold is None else entry.row.gold
        if not shown:
            shown = "(empty)"
        elif task.name not in TASKS:
            shown = f"{shown} (score() does not accept it)"
        found.leave_out(name, "unparseable_gold", where=entry.where, id=entry.problem.id, detail=shown)
    if given and not kept:
        column = given[0].row.answered
        remedy = (
            "if all answers of a list are required, set fields.several to all"
            if given[0].row.rivals
            else f"check problems.files.{name}.preset"
        )
        if task.name not in TASKS:
            remedy = f"score() of {task.name} must accept each row's own answer; check score() and fields.answer"
        raise UserError(
            f"{given[0].where}: field {column!r}: of {len(given)} problems for set {name!r} none has an answer that can be "
            f"graded (the first: {given[0].row.given[:80]!r}); {remedy}"
        )
    return kept


def _graded(problems: Sequence[Problem], task: Task) -> set[str]:
    """Ids of the problems whose gold is graded correct."""
    progress = Progress("problems", len(problems), unit="golds")
    right: set[str] = set()
    for at in range(0, len(problems), GRADED_AT_ONCE):
        batch = problems[at : at + GRADED_AT_ONCE]
        right |= {p.id for p, verdict in zip(batch, task.grade_golds(batch), strict=True) if verdict == "correct"}
        progress.update(min(at + GRADED_AT_ONCE, len(problems)))
    return right


def _leave_out_contradictions(
    group: Sequence[str], given: dict[str, list[_Given]], task: Task, found: Imported
) -> None:
    """Drop every question of the sets in `group` that occurs with two different answers, because the right one is unknown."""
    asked: dict[str, list[tuple[str, _Given]]] = defaultdict(list)
    for name in group:
        for entry in given[name]:
            asked[task.same(entry.problem.question)].append((name, entry))
    pairs: dict[tuple[str, str], tuple[Problem, Problem]] = {}  # the first answer to a question, and a different one
    for entries in asked.values():
        first, *others = dict.fromkeys(entry.problem.gold for _, entry in entries)
        by_gold = {entry.problem.gold: entry.problem for _, entry in entries}
        pairs.update(((first, other), (by_gold[first], by_gold[other])) for other in others)
    one_way = task.grade_answers([one for one, _ in pairs.values()], [other.gold for _, other in pairs.values()])
    other_way = task.grade_answers([other for _, other in pairs.values()], [one.gold for one, _ in pairs.values()])
    differ = {pair for pair, *both in zip(pairs, one_way, other_way, strict=True) if "correct" not in both}
    lost: set[str] = set()
    for entries in asked.values():
        leading = entries[0]
        against = next((e for e in entries if (leading[1].problem.gold, e[1].problem.gold) in differ), None)
        if against is None:
            continue
        for name, entry in entries:
            agrees = (leading[1].problem.gold, entry.problem.gold) not in differ
            other, rival = against if agrees else leading
            found.leave_out(
                name,
                "contradictory",
                where=entry.where,
                id=entry.problem.id,
                hits=f"{other}:{rival.problem.id}",
                detail=f"{entry.problem.gold!r} here, {rival.problem.gold!r} in {rival.where}",
            )
            lost.add(entry.problem.id)
    for name in group:
        given[name] = [entry for entry in given[name] if entry.problem.id not in lost]


def _clean(given: Sequence[_Given], name: str, index: Index, golds: dict[str, str], found: Imported) -> list[_Given]:
    """The problems that are not eval problems. golds: golds of the eval problems, by place."""
    kept = []
    for entry, hit in zip(given, index.hits([entry.problem.question for entry in given]), strict=True):
        if hit is None:
            kept.append(entry)
            continue
        detail, gold = hit.detail, entry.problem.gold
        if hit.reason == "exact" and gold != golds[hit.place]:
            detail = f"{gold!r} here, {golds[hit.place]!r} there"
        found.leave_out(name, hit.reason, where=entry.where, id=entry.problem.id, hits=hit.place, detail=detail)
    return kept


def _once(given: Sequence[_Given], name: str, seen: dict[str, str], task: Task, found: Imported) -> list[_Given]:
    """The problems without duplicates. `seen` (question -> place) is extended."""
    kept = []
    for entry in given:
        key = task.same(entry.problem.question)
        if key in seen:
            found.leave_out(name, "repeated", where=entry.where, id=entry.problem.id, hits=seen[key])
        else:
            seen[key] = f"{name}:{entry.problem.id}"
            kept.append(entry)
    return kept
