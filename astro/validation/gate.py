"""The common part of all gates: run expectations over tables, report failures with their rows, write a summary and a page.

Great Expectations is imported late (it takes 4 to 7 s) and works in memory, without a project folder, progress bars or
telemetry.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.files import write_json
from astro.process import UserError

if TYPE_CHECKING:
    import pandas as pd

NAMED_ROWS = 10
"""Number of failing rows that are named."""

_DECIMALS = 6  # decimals of observed values in the summary
_INTERNAL = ("batch_id", "column", "column_list")  # keyword arguments that name the place, not the condition


class GateError(UserError):
    """Data failed its gate. The message names expectations, columns and rows."""


@dataclass(frozen=True)
class Table:
    """A data frame with its expectations.

    Attributes:
        name: name of the table in messages and pages.
        frame: the rows.
        key: column that identifies a row.
        expectations: Great Expectations objects. Their `notes` describe the condition in words. At most one of each type per
            column.
    """

    name: str
    frame: "pd.DataFrame"
    key: str
    expectations: Sequence[Any]


@dataclass(frozen=True)
class GateResult:
    """The outcome of a gate.

    Attributes:
        name: name of the gate.
        success: whether all expectations were met.
        summary: the same bytes for the same data: `{"gate", "success", "rows": {table: n}, "expectations": {"<table>/
            <column>/<type>": {"success", "observed", "unexpected", "kwargs"}}}`; "observed" is None for an expectation
            on single rows, "unexpected" (failing rows) for one on the whole column.
        failures: one line per failed expectation, with the first failing rows.
        build_docs: `build_docs(folder)` writes Data Docs there and replaces older ones.
    """

    name: str
    success: bool
    summary: Mapping[str, Any]
    failures: Sequence[str]
    build_docs: Callable[[Path], None] = field(repr=False, compare=False)


def load() -> Any:
    """Import great_expectations."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def run_gate(name: str, tables: Sequence[Table]) -> GateResult:
    """Run all expectations of all tables, even after a failure, so that the user sees all failures at once."""
    gx = load()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    for site in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(site)  # it would write to its own folder under /tmp
    source = context.data_sources.add_pandas(name)
    entries: dict[str, dict[str, Any]] = {}
    failures: list[str] = []
    for table in tables:
        batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=table.name, expectations=list(table.expectations)))
        definition = gx.ValidationDefinition(name=table.name, data=batch, suite=suite)
        definition = context.validation_definitions.add(definition)
        found = definition.run(
            batch_parameters={"dataframe": table.frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [table.key]},
        )
        for result in found.results:
            where, entry = _entry(table, result.to_json_dict())
            if where in entries:
                raise ValueError(f"two expectations of gate {name} are both {where}")
            entries[where] = entry
            if not entry["success"]:
                failures.append(_failure(table, result.to_json_dict()))
    summary = {
        "gate": name,
        "success": not failures,
        "rows": {table.name: len(table.frame) for table in tables},
        "expectations": dict(sorted(entries.items())),
    }
    return GateResult(name, not failures, summary, failures, lambda folder: _build_docs(context, folder))


def require(result: GateResult, metrics_path: Path, docs_dir: Path) -> None:
    """Write the summary and the page of a gate, then raise an error if the gate failed.

    Args:
        result: the result of a `check_*` function.
        metrics_path: path of the JSON summary (written completely or not at all).
        docs_dir: folder of all gates' pages; this gate's page is `docs_dir/<gate>/index.html`.

    Raises:
        GateError: an expectation failed. Both files exist by then.
    """
    write_json(metrics_path, result.summary)
    page = docs_dir / result.name
    try:
        result.build_docs(page)
    finally:
        if not result.success:
            lines = "\n".join(f"  - {line}" for line in result.failures)
            raise GateError(f"gate {result.name} failed:\n{lines}\n  see {metrics_path} and {page}/index.html")


def _build_docs(context: Any, folder: Path) -> None:
    """Write Data Docs into `folder`. Pages are filed by time, so those of an older run are removed first."""
    for part in ("expectations", "validations"):
        shutil.rmtree(folder / part, ignore_errors=True)
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.add_data_docs_site(site_name="gate", site_config=site)
    try:
        context.build_data_docs(site_names=["gate"])
    finally:
        context.delete_data_docs_site("gate")


def _column(result: Mapping[str, Any]) -> str:
    """The column, columns or "table" of an expectation."""
    kwargs = result["expectation_config"]["kwargs"]
    return kwargs.get("column") or "+".join(kwargs.get("column_list", [])) or "table"


def _entry(table: Table, result: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """One entry of the summary: its name and its content, without GX's random ids."""
    config, found = result["expectation_config"], result["result"]
    kwargs = {k: _plain(v) for k, v in config["kwargs"].items() if k not in _INTERNAL and v is not None}
    entry = {
        "success": bool(result["success"]),
        "observed": _plain(found.get("observed_value")),
        "unexpected": found.get("unexpected_count"),
        "kwargs": dict(sorted(kwargs.items())),
    }
    return f"{table.name}/{_column(result)}/{config['type']}", entry


def _failure(table: Table, result: Mapping[str, Any]) -> str:
    """Describe a failure: the condition, the observed value, and the rows."""
    config, found = result["expectation_config"], result["result"]
    limits = ", ".join(f"{k}={_plain(v)}" for k, v in sorted(config["kwargs"].items()) if k not in _INTERNAL)
    line = f"{table.name}.{_column(result)}: {config.get('notes') or 'no note'} [{config['type']}({limits})]: "
    if not found:
        return line + f"could not be evaluated: {result['exception_info']}"
    if "unexpected_count" in found:
        line += f"failing rows: {found['unexpected_count']} of {found['element_count']}: "
        rows = [_row(table.key, row) for row in found.get("unexpected_index_list") or []]
    else:
        observed = {k: v for k, v in found.items() if k.startswith(("observed", "partial_missing")) and v is not None}
        line += ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in observed.items()) + " "
        rows = _counterexamples(table, config["kwargs"].get("column"))
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return (line + ", ".join(rows[:NAMED_ROWS]) + more).rstrip()


def _row(key: str, row: Mapping[str, Any]) -> str:
    """`p7 (chance 0)`: the row's name and its value in the column."""
    rest = ", ".join(f"{k} {_plain(v)}" for k, v in row.items() if k != key)
    return f"{row[key]} ({rest})" if rest else str(row[key])


def _counterexamples(table: Table, column: str | None) -> list[str]:
    """Rows that lower a share, for a yes/no column: those with "no". [] for any other column."""
    if column is None or column not in table.frame or table.frame[column].dtype != bool:
        return []
    rows = [str(key) for key in table.frame.loc[~table.frame[column], table.key]]
    return [f"not: {rows[0]}", *rows[1:]] if rows else []


def _plain(value: Any) -> Any:
    """`value` in JSON types with rounded floats."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    return value if isinstance(value, int | str | bool | None) else str(value)
