"""Search trees as MLflow traces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astro.tracking import connectivity, store
from schemas.records import NO_PARENT, Tree


def log_trees_as_traces(
    root: Path, trees: Sequence[Tree], *, run_id: str, limit: int = 3, max_spans: int = 100
) -> list[str]:
    """Log the first `limit` trees as traces of a pipeline run, one span per node, nested as the tree is. Returns trace ids.

    The number is small because 1,000 spans take 7 s to write. A tree keeps its first `max_spans` nodes; parents come before
    children, so the result is a tree again. If the run already has traces, nothing is logged and [] is returned.
    """
    if not store.enabled() or not run_id:
        return []
    mlflow = store.load(root)
    with connectivity.told(mlflow.get_tracking_uri()):
        experiment = mlflow.get_run(run_id).info.experiment_id
        if mlflow.MlflowClient().search_traces(locations=[experiment], run_id=run_id, max_results=1):
            return []
        made = [_trace(mlflow, tree, experiment, run_id, max_spans) for tree in trees[:limit]]
        mlflow.flush_trace_async_logging()
    return made


def _trace(mlflow: Any, tree: Tree, experiment: str, run_id: str, max_spans: int) -> str:
    """Log one tree. Spans open in index order and close in reverse, so each contains its children in time."""
    spans: list[Any] = []
    for node in tree.nodes[:max_spans]:
        if node.parent == NO_PARENT:
            tags = {"problem_id": tree.problem.id, "nodes": str(len(tree.nodes)), "tokens": str(tree.tokens)}
            root = {"tags": tags, "metadata": {"mlflow.sourceRun": run_id}, "experiment_id": experiment}
            inputs = {"question": tree.problem.question, "gold": tree.problem.gold}
            spans.append(mlflow.start_span_no_context(f"tree {tree.problem.id}", inputs=inputs, **root))
        else:
            name, parent = node.text[:80] or f"node {node.index}", spans[node.parent]
            spans.append(mlflow.start_span_no_context(name, parent_span=parent, inputs={"step": node.text}))
        shown = {"depth", "prior", "visits", "q", "reward", "terminal"}
        spans[-1].set_attributes(node.model_dump(include=shown))
    for node, span in zip(reversed(tree.nodes[:max_spans]), reversed(spans), strict=True):
        span.end(outputs={"verdict": node.verdict, "answer": node.answer} if node.terminal else {"q": node.q})
    return spans[0].trace_id
