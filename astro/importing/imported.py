"""The result of importing problem sets: the sets, and which rows were dropped and why.

A bad row does not end an import, unless `problems.files.<set>.strict` is set. It is counted, and the first rows of each
set and reason are listed and printed. A set without a single readable row is an error.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from astro.importing.row_fields import Unreadable
from astro.importing.sources import Entry, Filter, notes_on, read_rows, rows_inside
from astro.process import UserError, plural
from schemas.problems import Dropped, ImportMetrics, ProblemsParams, Reason, SourceSpec
from schemas.records import Problem

T = TypeVar("T")

LISTED = 1000
"""Rows per set and reason that data/problems/dropped.csv lists. A public set may contain a million duplicates."""

TOLD = 20
"""Rows per set and reason that are printed."""

BAD: dict[str, str] = {
    # reasons that are a fault of the row -> message
    "unreadable": "left out: {}",
    "unparseable_gold": "left out, because the answer cannot be graded: {!r}",
    "contradictory": "both left out, because one question has two answers: {}",
}


@dataclass
class Imported:
    """Problem sets, and the rows that were dropped.

    Attributes:
        dropped: the first `LISTED` dropped rows of each set and reason.
        counts: number of dropped rows by (set, reason).
        rows: number of rows in each set's source.
        unsure: number of rows kept with a warning, by the field of `ImportMetrics`.
        strict: the sets in which a bad row is an error.
        notes: (set, remark for the user), as printed.
        errors: set -> its first error, if an error ends only that set; None: it ends the import.
    """

    sets: dict[str, list[Problem]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    strict: set[str] = field(default_factory=set)
    notes: list[tuple[str, str]] = field(default_factory=list)
    errors: dict[str, str] | None = None

    def fail(self, name: str, text: str) -> None:
        """End the import with an error of set `name`, or record the error if all sets are to be checked.

        Raises:
            UserError: the error.
        """
        if self.errors is None:
            raise UserError(text)
        self.errors.setdefault(name, text)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Context for the work on set `name`. Its errors are passed to `fail`."""
        try:
            yield
        except UserError as error:
            self.fail(name, str(error))

    def leave_out(
        self, name: str, reason: Reason, *, where: str, id: str = "", hits: str = "", detail: str = ""
    ) -> None:
        """Drop a row of set `name`: count it, list it and print it.

        Raises:
            UserError: the set is strict, and the row is bad.
        """
        self.counts[name, reason] += 1
        number = self.counts[name, reason]
        if number <= LISTED:
            self.dropped.append(
                Dropped(id=id, set=name, reason=reason, hits=hits, where=where, detail=printable(detail)[:200])
            )
        if reason not in BAD:
            return
        text = f"{where}: {BAD[reason].format(printable(detail)[:300])}"
        if name in self.strict:
            self.fail(name, f"{text} (problems.files.{name}.strict)")
        if number <= TOLD:
            print(f"[problems] {text}", flush=True)
        if number == TOLD + 1:
            print(f"[problems] {name}: more rows like this one are listed in data/problems/dropped.csv", flush=True)

    def warn(self, name: str, kind: str, count: int, text: str) -> None:
        """Warn about `count` rows that were kept."""
        self.unsure[kind] += count
        self.notes.append((name, text))
        print(f"[problems] warning: {name}: {text}", flush=True)

    def close(self, name: str, problems: list[Problem], spec: SourceSpec) -> None:
        """Store `problems` as the set `name`, and print how many of its rows they are.

        Raises:
            UserError: there is no problem.
        """
        lost = ", ".join(f"{count} {reason}" for (of, reason), count in sorted(self.counts.items()) if of == name)
        if not problems:
            raise UserError(
                f"{source_of(spec)}: set {name!r} would be empty, because each problem is unreadable, repeated or "
                f"in an eval set ({lost})"
            )
        self.sets[name] = problems
        left = f"; left out: {lost}" if lost else ""
        print(
            f"[problems] {name}: {len(problems)} of {plural(self.rows[name], 'row')} of {source_of(spec)} kept{left}",
            flush=True,
        )

    def lost(self, *reasons: Reason, evals: bool = True) -> int:
        """Number of rows that were dropped for these reasons. evals: include eval sets."""
        return sum(n for (name, why), n in self.counts.items() if why in reasons and (evals or not is_eval(name)))

    def metrics(self) -> ImportMetrics:
        """Number of rows dropped, by reason, or kept with a warning."""
        found = dict.fromkeys(ImportMetrics.model_fields, 0) | self.unsure
        for (_, reason), count in self.counts.items():
            found[reason] += count
        return ImportMetrics(**found)


def is_eval(name: str) -> bool:
    """Whether the set is for measuring, so that no other set may contain its problems."""
    return name.startswith("eval_")


def in_order(params: ProblemsParams, found: Imported) -> Iterator[tuple[str, SourceSpec]]:
    """The sets in the order in which they claim problems, eval sets first. Remarks about each source are recorded."""
    for name in sorted(params.files, key=lambda n: (not is_eval(n), n != "train", n)):
        for note in notes_on(name, params.files[name], params.folder):
            found.notes.append((name, note))
            print(f"[problems] note: {note}", flush=True)
        yield name, params.files[name]


def source_of(spec: SourceSpec) -> str:
    """The name of a source in messages."""
    return spec.path or f"dataset {spec.dataset}"


def printable(text: str) -> str:
    """The text in one line. Characters that UTF-8 cannot encode are escaped."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().splitlines())


def each_row(
    name: str,
    spec: SourceSpec,
    folder: str,
    read: Callable[[object], T],
    found: Imported,
    filters: Sequence[Filter] | None = None,
) -> Iterator[tuple[str, int, T]]:
    """(place, number, result of `read`) for each row of a source. Unreadable rows are dropped.

    Args:
        filters: conditions that rows must meet to be read; None: those of `where`.

    Raises:
        UserError: the source has no row, or no readable one; names the row's fault.
    """
    faults: Counter[str] = Counter()
    first: dict[str, str] = {}
    inside: str | None = None

    def leave_out(entry: Entry, why: str) -> None:
        found.rows[name] += 1
        found.leave_out(name, "filtered", where=entry.where, detail=why)

    for entry in read_rows(name, spec, folder, filters, leave_out):
        found.rows[name] += 1
        fault = entry.fault
        try:
            made = None if fault else read(entry.content)
        except Unreadable as error:
            fault = str(error)
            inside = inside or rows_inside(entry.content)
        if fault:
            faults[fault] += 1
            first.setdefault(fault, entry.where)
            found.leave_out(name, "unreadable", where=entry.where, detail=fault)
        elif made is not None:
            yield entry.where, entry.number, made
    rows = found.rows[name] - found.counts[name, "filtered"]
    if not rows:
        taken = f" from row {spec.skip + 1} on" if spec.skip else ""
        raise UserError(f"{source_of(spec)}: contains no problem{taken} for set {name!r}")
    if faults.total() == rows:
        fault = faults.most_common(1)[0][0]
        hint = (
            f"; if {inside!r} contains the rows, write only these to a file, one per line"
            if inside and rows == 1 and "missing" in fault
            else ""
        )
        of = f" (none of {rows} rows of set {name!r} can be read)" if rows > 1 else ""
        raise UserError(f"{first[fault]}: {printable(fault)}{hint}{of}")
