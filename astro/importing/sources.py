"""Read the rows of a file or a dataset, each with its place.

`path` and `dataset` use the same code, which looks at a file's content and not at its name, so they agree. Texts and
numbers keep their spelling, while pandas and `datasets` would turn whole numbers beside an empty cell into floats.
"""

import csv
import difflib
import gzip
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, cast

from astro.importing.row_fields import Cells, get, is_there, is_utf8, number_text
from astro.process import UserError, plural
from schemas.problems import Cell, SourceSpec

READ = ".jsonl (one object per line), .json (an array of objects), .csv, .tsv (all of these also as .gz) or .parquet"

TABLES = {".csv": ",;\t|", ".tsv": "\t,;|", ".tab": "\t,;|", ".psv": "|,;\t"}
"""Extensions of tables -> possible separators of their cells, the most likely first."""

SAMPLE = 500
"""Lines of a table that are used to detect its separator."""

HEAD = 1 << 16
"""Bytes at the front of a file that are used to detect its format."""

FOREIGN_SHARE = 0.01
"""Share of lines that are not UTF-8 above which the whole file counts as another encoding, if no line is UTF-8 beyond ASCII."""

UTF8 = "save it as UTF-8 (iconv -f {} -t UTF-8 OLD > NEW)"

WRONG_KINDS = [
    # beginning of the file, its format, the remedy
    (rb"version https://git-lfs", "a Git LFS pointer instead of the file itself", "run `git lfs pull`"),
    (
        rb"(?i)\s*<(!doctype|html|head|body|\?xml|!--)",
        "a web page (HTML or XML) instead of data",
        "download the file itself",
    ),
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", "text in UTF-32", UTF8.format("UTF-32")),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", UTF8.format("UTF-16")),
    (rb"(?:[\t\r\n -~]\0){4}", "text in UTF-16 (little endian)", UTF8.format("UTF-16LE")),
    (rb"(?:\0[\t\r\n -~]){4}", "text in UTF-16 (big endian)", UTF8.format("UTF-16BE")),
    (rb"PK\x03\x04", "a zip archive or a workbook (.xlsx)", "unpack it, or save the table as CSV in UTF-8"),
    (rb"BZh|\xfd7zXZ\0|\x28\xb5\x2f\xfd|7z\xbc\xaf", "a compressed file", "unpack it, or compress it with gzip"),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it"),
    (rb"ARROW1|\xff\xff\xff\xff", "an Arrow file", "write it as Parquet (Dataset.to_parquet)"),
    (rb"%PDF", "a PDF", f"expected {READ}"),
    (rb"(?s).*\0", "binary data", f"expected {READ}"),
]

_WRAPPED = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*(?=\[\s*\{)')
_SEPARATOR = re.compile(r"\"?sep=(.)\"?\s*", re.DOTALL)  # the first line of a CSV file from Excel
_OF_OBJECTS = re.compile(r"\[\s*\{")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a source. number: its line or row, from 1; fault: why it is unreadable, "": it is readable."""

    where: str
    number: int
    content: object
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a column. own: the user set it, so at least one row must have the column."""

    column: str
    values: tuple[Cell, ...]
    own: bool = True

    def lacks(self, row: Mapping) -> str:
        """What a row has instead of an accepted value; "": the row passes."""
        cell = get(row, self.column, any_case=True)
        if not self.own and not is_there(row, self.column):
            return ""
        cells = cell if isinstance(cell, list) and cell else [cell]
        if any(_is_value(one, value) for one in cells for value in self.values):
            return ""
        return f"{self.column} is {cell!r}" if is_there(row, self.column) else f"there is no field {self.column!r}"


def _is_value(cell: object, value: Cell) -> bool:
    """Whether a cell equals a value. Numbers are compared by value, true and false in any case."""
    if cell in (None, "", []) or cell != cell or value is None:  # NaN differs from itself
        return (cell in (None, "", []) or cell != cell) and value in (None, "")
    written = str(cell).lower() if isinstance(cell, bool) else number_text(cell) or str(cell)
    if isinstance(cell, bool) or isinstance(value, bool):
        return written.strip().lower() == str(value).lower()
    if isinstance(value, str):
        return written.strip() == value.strip()
    try:
        return Decimal(written) == Decimal(str(value))
    except InvalidOperation:
        return False


def own_filters(spec: SourceSpec) -> list[Filter]:
    """The filters of `where`. An empty list sets no condition."""
    lists = {column: value if isinstance(value, list) else [value] for column, value in spec.where.items()}
    return [Filter(column, tuple(values)) for column, values in lists.items() if values]


def place_of(given: str, folder: str) -> Path | None:
    """The file or folder that `given` names: in `folder`, else from the repository's root; None: it does not exist."""
    return next((path for path in (Path(folder) / given, Path(given)) if path.exists()), None)


def watched(path: Path, folder: str) -> bool:
    """Whether DVC sees an edit of `path`, because it is in `folder` or is `folder`."""
    inside = Path(folder).resolve()
    return path.resolve() == inside or path.resolve().is_relative_to(inside)


def notes_on(name: str, spec: SourceSpec, folder: str) -> list[str]:
    """Remarks about a source: whether DVC notices its changes."""
    given = spec.path or spec.dataset
    path = place_of(given, folder)
    if path is None:
        pinned = spec.revision or not spec.dataset
        return (
            []
            if pinned
            else [f"problems.files.{name}: dataset {given} has no revision; the hub may change it unnoticed"]
        )
    if watched(path, folder):
        return []
    return [
        f"problems.files.{name}: {given} is outside problems.folder ({folder}), so DVC does not notice edits; set "
        "problems.folder, or run `dvc repro -f problems` after an edit"
    ]


def read_rows(
    name: str,
    spec: SourceSpec,
    folder: str,
    filters: Sequence[Filter] | None = None,
    leave_out: Callable[[Entry, str], None] = lambda entry, why: None,
) -> Iterator[Entry]:
    """Read the rows that `spec` selects from its source. Unreadable rows are included with their fault; `skip` and `limit` count
    them.

    Args:
        filters: conditions on rows; None: those of `where`.
        leave_out: called with each row that fails them; such rows do not count for `skip` and `limit`.

    Raises:
        UserError: the source does not exist, its format is not supported, or no row passes the filters.
    """
    filters = own_filters(spec) if filters is None else filters
    several = bool(spec.dataset) and not _is_file(spec, folder)
    files = _files(name, spec, folder)
    rows = itertools.chain.from_iterable(read_file(*file, spec.separator, several=several) for file in files)
    lacking: dict[str, Counter[str]] = {one.column: Counter() for one in filters}
    taken, first, fits = 0, None, False
    for number, entry in enumerate(rows, 1):
        if filters and isinstance(entry.content, Mapping) and not entry.fault:
            first = first or entry
            lacks = {one.column: lack for one in filters if (lack := one.lacks(entry.content))}
            for column, lack in lacks.items():
                lacking[column][lack[:100]] += 1
            if lacks:
                leave_out(entry, next(iter(lacks.values())))
                continue
            fits = True
        taken += 1
        if taken > spec.skip:
            yield Entry(entry.where, number, entry.content, entry.fault) if several else entry
        if spec.limit and taken == spec.skip + spec.limit:
            return
    if first is not None and not fits:
        _require_some(name, first, filters, lacking)


def _require_some(name: str, first: Entry, filters: Sequence[Filter], lacking: Mapping[str, Counter[str]]) -> NoReturn:
    """Raise UserError because no row passes the filters. The message shows a missing column, or its values."""
    where, row = f"problems.files.{name}.where", cast("Mapping", first.content)
    for one in filters:
        if list(lacking[one.column]) == [f"there is no field {one.column!r}"] and not is_there(row, one.column):
            near = difflib.get_close_matches(one.column, [*map(str, row)], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(
                f"{first.where}: {where}: there is no field {one.column!r}; {hint}the row has: {_names(row)}"
            )
    asked = "; ".join(f"{one.column} should be {' or '.join(map(repr, one.values))}" for one in filters)
    has = ", ".join(f"{lack} ({plural(n, 'row')})" for lacks in lacking.values() for lack, n in lacks.most_common(3))
    raise UserError(f"{first.where}: {where} or the preset excludes all rows: {asked}, but {has}")


def _names(row: Mapping) -> str:
    return ", ".join(sorted(map(str, row)))


def _is_file(spec: SourceSpec, folder: str) -> bool:
    path = place_of(spec.path or spec.dataset, folder)
    return path is not None and path.is_file()


# --- which files -------------------------------------------------------------------------------------------------------


def _files(name: str, spec: SourceSpec, folder: str) -> list[tuple[Path, str]]:
    """The files of a source, each with its name for messages."""
    local = place_of(spec.path or spec.dataset, folder)
    if spec.path and (local is None or not local.is_file()):
        raise UserError(
            f"{spec.path}: no such file" + (" (it is a folder; name it in dataset instead of path)" if local else "")
        )
    if local is None or not local.is_file():
        return _dataset(name, spec, local)
    if spec.config or spec.split not in ("", "train"):
        raise UserError(f"problems.files.{name}: dataset {spec.dataset} is a file; remove config and split")
    return [(local, str(local))]


def _dataset(name: str, spec: SourceSpec, local: Path | None) -> list[tuple[Path, str]]:
    """The files of a folder or of a hub dataset, as `datasets` finds them. No file is read and no script runs."""
    import datasets

    where = f"problems.files.{name}: dataset {spec.dataset}"
    if local is not None and any((local / state).exists() for state in ("state.json", "dataset_dict.json")):
        raise UserError(
            f"{where}: written by save_to_disk, which is not supported; write it as Parquet (Dataset.to_parquet)"
        )
    datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(
            str(local or spec.dataset),
            name=spec.config or None,
            revision=(spec.revision or None) if local is None else None,
        )
        splits = {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}
        if not splits:
            raise UserError(f"contains no data file; expected {READ}")
        if spec.split and spec.split not in splits:
            raise UserError(f"there is no split {spec.split!r}; available: {', '.join(splits)}")
        if not spec.split and len(splits) != 1:
            raise UserError(f"has the splits {', '.join(splits)}; choose one in split")
        names = splits[spec.split] if spec.split else next(iter(splits.values()))
        config = datasets.DownloadConfig(token=builder.token)
        manager = datasets.DownloadManager(base_path=builder.base_path, download_config=config)
        found = manager.download(names)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # the hub's client or the network may raise anything, and the user gave this name
        hint = "" if local else "; check the name and the network"
        raise UserError(f"{where}: cannot be loaded: {_causes(error)}{hint}") from None
    labels = names if local else [f"dataset {spec.dataset}, {PurePosixPath(name).name}" for name in names]
    return [(Path(path), label) for path, label in zip(found, labels, strict=True)]


def _causes(error: BaseException) -> str:
    """The messages of an error and of its causes."""
    found: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        found.append(lines[0][:300])
        cause = cause.__cause__ or cause.__context__
    return ": ".join(dict.fromkeys(found))


# --- what a file holds -------------------------------------------------------------------------------------------------


def read_file(path: Path, label: str, separator: str = "", *, several: bool = False) -> Iterator[Entry]:
    """Read the rows of a file of any supported format.

    Args:
        separator: separator of the cells of a table; "": detected.
        several: whether it is one of several files, each of which may hold one object, as in the archive of MATH.

    Raises:
        UserError: the format is not supported; names the file, its format and the remedy.
    """
    head, packed = _head(path, label)
    suffix = PurePosixPath(label.removesuffix(".gz")).suffix.lower()
    if head.startswith(b"PAR1"):
        if packed:
            raise UserError(f"{label}: a Parquet file inside a .gz; unpack it")
        return _parquet(path, label)
    for begins, what, remedy in WRONG_KINDS:
        if re.match(begins, head):
            raise UserError(f"{label}, line 1: {what}: {remedy}")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if separator or (suffix in TABLES and not start.startswith(b"{")):
        return _table(_lines(path, label, packed), label, separator or TABLES[suffix])
    if start.startswith(b"[") or _WRAPPED.match(start.decode("utf-8", "replace")):
        rows = _array("".join(_lines(path, label, packed)), label)
        if rows is not None:
            return rows
    if re.match(rb"\{[ \t]*\r?\n", start):
        content, fault = _parse("".join(_lines(path, label, packed)))
        if not several or "Extra data" in fault:
            _several_lines(content, label)
        return iter([Entry(f"{label}, line 1", 1, content, fault)])
    if start and not re.search(rb"(?m)^[\s\xef\xbb\xbf]*[\[{]", head):
        _no_json(start, suffix, label)
    return _json_lines(_lines(path, label, packed), label)


def _head(path: Path, label: str) -> tuple[bytes, bool]:
    """The first bytes of a file's content, and whether it is compressed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return b"".join(_raw(path, label, packed, limit=HEAD)), packed


def _raw(path: Path, label: str, packed: bool, limit: int = -1) -> Iterator[bytes]:
    """The lines of a file as bytes, or of its first `limit` bytes. Only "\\n" ends a line, because others occur inside texts."""
    with cast("BinaryIO", gzip.open(path) if packed else path.open("rb")) as file:
        try:
            if limit >= 0:
                yield file.read(limit)
            else:
                yield from file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{label}: the .gz is damaged or cut short: {error}") from None


def _lines(path: Path, label: str, packed: bool) -> Iterator[str]:
    """The lines of a UTF-8 text file. Invalid bytes become lone surrogates, which mark their row as unreadable.

    Raises:
        UserError: the file as a whole is in another encoding.
    """
    checked = False
    for number, line in enumerate(_raw(path, label, packed), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            if not checked and _is_foreign(_raw(path, label, packed)):
                byte = line[error.start]
                raise UserError(
                    f"{label}, line {number}: the text is not UTF-8 (byte 0x{byte:02x}), perhaps Latin-1 or Windows-1252: "
                    + UTF8.format("WINDOWS-1252")
                ) from None
            checked = True
            text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff")


def _is_foreign(lines: Iterable[bytes]) -> bool:
    """Whether the whole file is in another encoding than UTF-8, not only a damaged line."""
    total = bad = wide = 0
    for line in lines:
        total += 1
        try:
            line.decode("utf-8")
            wide += not line.isascii()
        except UnicodeDecodeError:
            bad += 1
    return not wide and bad > FOREIGN_SHARE * total


def _several_lines(content: object, label: str) -> NoReturn:
    held = rows_inside(content)
    if held:
        raise UserError(
            f"{label}, line 1: one object with its rows in {held!r}; write only the rows (jq -c '.{held}[]' OLD > NEW)"
        )
    raise UserError(f"{label}, line 1: an object over several lines; write one object per line (jq -c . OLD > NEW)")


def rows_inside(content: object) -> str | None:
    """The field of an object that holds a list of objects, which may be the intended rows."""
    held = content.items() if isinstance(content, dict) else ()
    return next((n for n, v in held if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)), None)


def _no_json(start: bytes, suffix: str, label: str) -> NoReturn:
    line = start.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if suffix in (".tsv", ".tab") or "\t" in line:
        kind = "it looks like a table with tabs; name it .tsv, or set separator"
    elif any(mark in line for mark in ",;|"):
        kind = "it looks like a table; name it .csv, or set separator"
    else:
        kind = "no JSON"
    raise UserError(f"{label}, line 1: {kind}; expected {READ} (the line: {line[:60]!r})")


# --- rows of each kind of file -----------------------------------------------------------------------------------------


def _parse(text: str) -> tuple[object, str]:
    """(content, "") of a JSON text, or (None, the fault). Numbers with a point or an exponent keep their digits."""
    twice: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(items)) < len(items):
            twice.extend(key for key, count in Counter(key for key, _ in items).items() if count > 1)
        return found

    try:
        content = json.loads(text, parse_float=Decimal, object_pairs_hook=pairs)
    except RecursionError:
        return None, "nested too deeply"
    except json.JSONDecodeError as error:
        return None, f"invalid JSON: {error.msg} (column {error.colno})"
    except (ValueError, ArithmeticError) as error:  # a number with too many digits
        return None, f"invalid JSON: {error}"
    if twice:
        return None, f"field {twice[0]!r}: occurs twice in one object, so its value is ambiguous"
    return content, "" if is_utf8(text) else _NOT_UTF8


_NOT_UTF8 = "the text is not UTF-8"


def _json_lines(lines: Iterator[str], label: str) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            content, fault = _parse(line)
            if fault.startswith("invalid JSON") and "Extra data" not in fault and not line.endswith("\n"):
                fault += " (the line has no line end, so the file may be cut short)"
            yield Entry(f"{label}, line {number}", number, content, fault)


def _array(text: str, label: str) -> Iterator[Entry] | None:
    """The items of a JSON array, which may be the only field of an object; None: the text is neither."""
    wrapped = _WRAPPED.match(text)
    opening = wrapped.end() if wrapped else text.index("[")
    depth, starts = 0, [opening + 1]
    for token in _TOKEN.finditer(text, opening):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth == 1 and token[0] == ",":
            starts.append(token.end())
        if depth == 0:
            rest = text[token.end() :].strip()
            if rest != ("}" if wrapped else ""):
                return None
            return _items(text, [*starts, token.end()], label)
    if wrapped or _OF_OBJECTS.match(text, opening):
        raise UserError(
            f"{label}, line {text.count(chr(10)) + 1}: the JSON array is never closed; the file may be cut short"
        )
    return None


def _items(text: str, bounds: Sequence[int], label: str) -> Iterator[Entry]:
    line = 1 + text.count("\n", 0, bounds[0])
    for number, (start, end) in enumerate(itertools.pairwise(bounds), 1):
        item = text[start : end - 1]
        blank = len(item) - len(item.lstrip())
        if item.strip():
            content, fault = _parse(item)
            at = line + item.count("\n", 0, blank)
            yield Entry(f"{label}, line {at}, item {number}", number, content, fault)
        line += text.count("\n", start, end)


def _table(lines: Iterator[str], label: str, separators: str) -> Iterator[Entry]:
    """Read the rows of a table. Every cell is text; an empty cell is None. separators: the separator, or several candidates."""
    csv.field_size_limit(1 << 30)
    sample = list(itertools.islice(lines, SAMPLE))
    named = _SEPARATOR.fullmatch(sample[0]) if sample else None
    if named:
        separators = named[1]
        del sample[0]
    reader = csv.reader(itertools.chain(sample, lines), delimiter=_separator(sample, separators), strict=True)
    header: list[str] = []
    number = 0
    while True:
        where = f"{label}, line {reader.line_num + 1 + bool(named)}"
        fault = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UserError(f"{where}: a quoted text begins here and is never closed") from None
            cells, fault = [""], f"invalid CSV: {error}"
        if not cells:
            continue
        if not header:
            header = _header(cells, where)
            continue
        number += 1
        if not fault and len(cells) != len(header):
            fault = f"{plural(len(cells), 'cell')}, but the table has {plural(len(header), 'column')}"
        if not fault and not all(map(is_utf8, cells)):
            fault = _NOT_UTF8
        yield Entry(where, number, Cells((n, c or None) for n, c in zip(header, cells, strict=False)), fault)


def _separator(sample: Sequence[str], separators: str) -> str:
    """Detect the separator: the one for which most rows have as many cells as the header, then the one with the most columns."""

    def fits(separator: str) -> tuple[float, int]:
        counts: list[int] = []
        reader = csv.reader(sample, delimiter=separator, strict=True)
        while True:
            try:
                counts.append(len(next(reader)))
            except StopIteration:
                break
            except csv.Error as error:
                if "unexpected end" in str(error):  # the sample ends inside a cell
                    break
                counts.append(-1)
        columns = next((count for count in counts if count), 0)
        rows = [count for count in counts if count][1:]
        return (sum(count == columns for count in rows) / max(len(rows), 1), columns) if columns > 1 else (-1.0, 0)

    return max(separators, key=fits)


def _header(cells: Sequence[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UserError(f"{where}: column {twice[0]!r} occurs twice")
    return names


def _parquet(path: Path, label: str) -> Iterator[Entry]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _header(file.schema_arrow.names, label)
            rows = (row for batch in file.iter_batches(1000) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield Entry(f"{label}, row {number}", number, row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: cannot be read as Parquet: {_causes(error)}") from None
