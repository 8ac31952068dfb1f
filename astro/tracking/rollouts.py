"""RL rollouts in MLflow: a sample as a table, and a few of them as traces."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astro.tracking import store
from astro.tracking.stage import warned
from schemas.records import Problem
from schemas.rollouts import RlRollout

TABLE = "rollouts.json"
"""Artifact of the stage's run, which MLflow shows as a table."""

_SPANS = 100
"""Most spans of one trace, because 1,000 spans take 7 s to write."""


def log_rollouts(
    root: Path,
    rows: Sequence[RlRollout],
    problems: Mapping[str, Problem],
    *,
    run_id: str,
    traces: Sequence[RlRollout] = (),
) -> None:
    """Log `rows` as a table of a stage's run, and `traces` as traces with one span per step, nested as the chain is.

    If the store has become unavailable, the data is lost but the stage continues.
    """
    if not store.enabled() or not run_id or not rows:
        return
    with warned("the rollouts"):
        mlflow = store.load(root)
        client = mlflow.MlflowClient()
        client.log_table(run_id, table_of(rows, problems), TABLE)
        experiment = mlflow.get_run(run_id).info.experiment_id
        for row in traces:
            _trace(mlflow, row, problems[row.problem_id], experiment, run_id)
        mlflow.flush_trace_async_logging()


def table_of(rows: Sequence[RlRollout], problems: Mapping[str, Problem]) -> dict[str, list[Any]]:
    """Column name -> values."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        cells = {
            "set": row.set,
            "step": row.step,
            "problem": row.problem_id,
            "question": problems[row.problem_id].question,
            "number": row.number,
            "verdict": row.verdict,
            "reward": row.reward,
            "used": row.used,
            "tokens": row.tokens,
            "finished": row.finished,
            "attempts": len(row.chain.attempts),
            "backtracks": len(row.chain.back_edges),
            "repeats": row.chain.repeats,
            "text": row.prefix + row.text,
        }
        for name, value in cells.items():
            columns.setdefault(name, []).append(value)
    return columns


def _trace(mlflow: Any, row: RlRollout, problem: Problem, experiment: str, run_id: str) -> None:
    """Log one rollout. Spans open in the order of the steps and close in reverse, so each contains its children in time."""
    inputs = {"question": problem.question, "gold": problem.gold, "prefix": row.prefix}
    tags = {"set": row.set, "step": str(row.step), "verdict": row.verdict}
    root = mlflow.start_span_no_context(
        f"rollout {row.problem_id} step {row.step}",
        inputs=inputs,
        tags=tags,
        metadata={"mlflow.sourceRun": run_id},
        experiment_id=experiment,
    )
    spans: list[Any] = []
    for node in row.chain.nodes[:_SPANS]:
        parent = root if node.parent < 0 else spans[node.parent]
        span = mlflow.start_span_no_context(node.text[:80] or "step", parent_span=parent, inputs={"step": node.text})
        span.set_attributes(node.model_dump(include={"valid", "ends"}))
        spans.append(span)
    for node, span in zip(reversed(row.chain.nodes[:_SPANS]), reversed(spans), strict=True):
        span.end(outputs={"right": node.right, "claim": node.claim})
    root.end(outputs={"text": row.text, "answer": row.answer, "verdict": row.verdict, "reward": row.reward})
