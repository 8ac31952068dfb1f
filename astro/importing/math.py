"""Mathematics, from sources to problem sets: eval sets first, then train and rl without what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from astro.domains.math.text import same_text
from astro.importing.imported import Imported
from astro.importing.maps import Row, map_of, read_row
from astro.importing.overlap import Index
from astro.importing.sources import notes_on, read_rows
from astro.runtime import Progress, UserError, explain
from astro.verify import Pool, grade_batch
from schemas.problems import Dropped, ProblemsParams, Reason, SourceSpec
from schemas.records import Problem

GRADED_AT_ONCE = 2000
"""Golds per batch, between two lines of progress."""

PATIENT_S = 20.0
"""Seconds that a gold may take before it counts as unreadable."""

TOLD = 20
"""Unreadable golds printed; all of them stand in data/problems/dropped.jsonl."""


@dataclass(frozen=True)
class _Given:
    """A problem of a source, and where it stands there."""

    problem: Problem
    where: str
    row: Row


def import_math(params: ProblemsParams) -> Imported:
    """All sets of mathematics problems.

    Order of reasons for a problem to be left out: its gold cannot be read, it is an eval problem, it is there already.

    Raises:
        UserError: a source is missing or empty, a row is broken, an id comes twice, a set keeps no problem.
    """
    found = Imported()
    seen: dict[str, str] = {}  # of train, for rl
    index: Index | None = None
    for name in sorted(params.files, key=lambda n: (not n.startswith("eval_"), n != "train", n)):
        spec = params.files[name]
        for note in notes_on(name, spec, params.folder):
            print(f"[problems] note: {note}", flush=True)
        given = read_source(name, spec, params.folder)
        readable = _readable(given, name, found)
        if name.startswith("eval_"):
            kept = _once(readable, name, {}, found)
        else:
            if index is None:
                evals = [(f"{n}:{p.id}", p.question) for n, problems in found.sets.items() for p in problems]
                index = Index(evals, ngram=params.overlap.ngram)
            kept = _once(_clean(readable, name, index, found), name, seen, found)
        if not kept:
            raise UserError(
                f"{_source(spec)}: holds no problem for set {name!r} that is readable, new and in no eval set"
            )
        found.sets[name] = [entry.problem for entry in kept]
        print(f"[problems] {name}: {len(kept)} of {len(given)} problems of {_source(spec)} kept", flush=True)
    return found


def read_source(name: str, spec: SourceSpec, folder: str) -> list[_Given]:
    """The problems of one source, in its order. Raises UserError."""
    columns, short = map_of(spec.preset, spec.fields), name.removeprefix("eval_")
    given: list[_Given] = []
    ids: dict[str, str] = {}
    for where, number, content in read_rows(name, spec, folder):
        row = read_row(content, columns, where)
        identifier = f"{short}-{row.id if row.id is not None else f'{number:06d}'}"
        if identifier in ids:
            raise UserError(f"{where}: field {columns.ids[0]!r}: {row.id!r} stands already in {ids[identifier]}")
        ids[identifier] = where
        try:
            problem = Problem(
                id=identifier,
                domain="math",
                question=row.question,
                gold=row.gold or "none",
                level=row.level,
                chance=None,
            )
        except ValidationError as error:  # e.g. half of a surrogate pair, which JSON can hold and UTF-8 cannot
            raise UserError(f"{where}: {explain(error)}") from None
        given.append(_Given(problem, where, row))
    if not given:
        taken = f" from row {spec.skip + 1} on" if spec.skip else ""
        raise UserError(f"{_source(spec)}: holds no problem{taken} for set {name!r}")
    return given


def _source(spec: SourceSpec) -> str:
    return spec.path or f"dataset {spec.dataset}"


def _readable(given: Sequence[_Given], name: str, found: Imported) -> list[_Given]:
    """Those whose gold the grader reads: graded against itself it is correct."""
    golds = [entry.row.gold for entry in given]
    progress = Progress("problems", len(golds), unit="golds")
    verdicts: list[str] = []
    for at in range(0, len(golds), GRADED_AT_ONCE):
        batch = golds[at : at + GRADED_AT_ONCE]
        grades = iter(grade_batch([(gold, gold) for gold in batch if gold is not None]))
        verdicts += ["none" if gold is None else next(grades).verdict for gold in batch]
        progress.update(len(verdicts))
    _look_again(golds, verdicts)
    kept: list[_Given] = []
    lost: list[_Given] = []
    for entry, verdict in zip(given, verdicts, strict=True):
        (kept if verdict == "correct" else lost).append(entry)
    for number, entry in enumerate(lost):
        shown = entry.row.given if entry.row.gold is None else entry.row.gold
        found.dropped.append(_dropped(entry, name, "unparseable_gold", "", shown[:200]))
        if number < TOLD:
            print(f"[problems] {entry.where}: the answer cannot be graded, left out: {shown[:80]!r}", flush=True)
    if len(lost) > TOLD:
        print(f"[problems] {name}: and {len(lost) - TOLD} more, see data/problems/dropped.jsonl", flush=True)
    if given and not kept:
        raise UserError(
            f"{given[0].where}: of {len(given)} problems for set {name!r} none has an answer that can be graded "
            f"(the first: {lost[0].row.given[:80]!r}); is problems.files.{name}.preset the right map?"
        )
    return kept


def _look_again(golds: Sequence[str | None], verdicts: list[str]) -> None:
    """Grade once more, with patience, what was not readable: a busy machine must not decide which problems there are."""
    doubtful = [(i, gold) for i, gold in enumerate(golds) if gold is not None and verdicts[i] != "correct"]
    if not doubtful:
        return
    pool = Pool(workers=1, time_limit=PATIENT_S)
    try:
        for (i, _), grade in zip(doubtful, pool.grade_batch([(gold, gold) for _, gold in doubtful]), strict=True):
            verdicts[i] = grade.verdict
    finally:
        pool.close()


def _clean(given: Sequence[_Given], name: str, index: Index, found: Imported) -> list[_Given]:
    """Those that are no eval problem."""
    kept = []
    for entry, hit in zip(given, index.hits([entry.problem.question for entry in given]), strict=True):
        if hit is None:
            kept.append(entry)
        else:
            found.dropped.append(_dropped(entry, name, hit.reason, hit.place, hit.detail))
    return kept


def _once(given: Sequence[_Given], name: str, seen: dict[str, str], found: Imported) -> list[_Given]:
    """Those that say something new; `seen` (question -> place) grows."""
    kept = []
    for entry in given:
        key = same_text(entry.problem.question)
        if key in seen:
            found.dropped.append(_dropped(entry, name, "repeated", seen[key], ""))
        else:
            seen[key] = f"{name}:{entry.problem.id}"
            kept.append(entry)
    return kept


def _dropped(entry: _Given, name: str, reason: Reason, hits: str, detail: str) -> Dropped:
    return Dropped(id=entry.problem.id, set=name, reason=reason, hits=hits, where=entry.where, detail=detail)
