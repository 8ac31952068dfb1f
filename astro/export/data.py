"""The training chains and figures of their trees, as a data set folder for `datasets.load_dataset`.

    traces/train.parquet   chains that search, for the ASTRO arm
    traces/direct.parquet  direct solutions of the same trees, for the baseline
    trees/train.parquet    one row per search tree, without its nodes

Files are written in batches, so memory does not grow with the run.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value
from huggingface_hub import DatasetCard, DatasetCardData

from astro.export.card_text import SIZES, licence_lines, lineage_line
from astro.export.source_run import TRACES, Run
from astro.files import read_jsonl, read_shards
from astro.process import UserError
from astro.viz.markdown_table import table
from schemas.records import ROOT, Trace, Tree

TREES = Path("data/trees")
ROWS = 1000
"""Rows per batch, and per row group of the file."""

TRACE_COLUMNS = Features(
    {
        "id": Value("string"),
        "problem_id": Value("string"),
        "kind": Value("string"),
        "prompt": Value("string"),
        "completion": Value("string"),
        "answer": Value("string"),
        "backtracks": Value("int32"),
        "segments": List({"text": Value("string"), "kind": Value("string"), "node": Value("int32")}),
        "question": Value("string"),
        "gold": Value("string"),
        "level": Value("int32"),
        "task": Value("string"),
        "tree_nodes": Value("int32"),
        "tree_tokens": Value("int64"),
        "seed": Value("int64"),
        "traces_md5": Value("string"),
        "trees_md5": Value("string"),
    }
)
TREE_COLUMNS = Features(
    {
        "problem_id": Value("string"),
        "question": Value("string"),
        "gold": Value("string"),
        "level": Value("int32"),
        "task": Value("string"),
        "nodes": Value("int32"),
        "depth": Value("int32"),
        "iterations": Value("int32"),
        "requests": Value("int64"),
        "tokens": Value("int64"),
        "correct_ends": Value("int32"),
        "wrong_ends": Value("int32"),
        "distinct_answers": Value("int32"),
        "seed": Value("int64"),
        "trees_md5": Value("string"),
    }
)

MEANING = {
    "id": "<problem id>/<number within the tree>",
    "kind": "`search`: goes back at least once; `direct`: does not",
    "prompt": "what the model is given",
    "completion": "the chain of thought that it is trained to write; the texts of `segments`, joined",
    "answer": "final answer of the chain, correct by construction",
    "backtracks": "jumps back",
    "segments": "`step`: on the way to the answer; `wrong_step`: on an abandoned branch; `reflection`: doubt before a jump; "
    "`return`: where it goes back to; with the tree's node",
    "tree_nodes, tree_tokens": "size of the search tree that the chain was made of, and tokens generated for it",
    "seed, traces_md5, trees_md5": "where it comes from: seed of the run, and DVC's md5 of data/traces and data/trees",
}


def write_dataset(run: Run, folder: Path) -> dict[str, int]:
    """Write the data set and its card. Returns the number of rows per file.

    Raises:
        UserError: a line is broken, or a chain's problem has no tree.
    """
    trees: dict[str, dict[str, Any]] = {}
    rows = {"trees/train": write_parquet(folder / "trees/train.parquet", TREE_COLUMNS, tree_rows(run, trees))}
    for split, path in TRACES.items():
        made = trace_rows(run, path, trees)
        rows[f"traces/{split}"] = write_parquet(folder / f"traces/{split}.parquet", TRACE_COLUMNS, made)
    DatasetCard(dataset_card(run, rows)).save(folder / "README.md")
    return rows


def write_parquet(path: Path, columns: Features, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one file that `datasets` reads with these features. Returns the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema, remaining, count = columns.arrow_schema, iter(rows), 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def tree_rows(run: Run, seen: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per tree. `seen` collects what chains need from their tree, by problem."""
    md5 = run.md5(TREES)
    for tree in read_shards(TREES, Tree):
        ends = [n for n in tree.nodes if n.terminal]
        problem = {
            "question": tree.problem.question,
            "gold": tree.problem.gold,
            "level": tree.problem.level,
            "task": tree.problem.task,
        }
        seen[tree.problem.id] = problem | {"tree_nodes": len(tree.nodes), "tree_tokens": tree.tokens}
        yield problem | {
            "problem_id": tree.problem.id,
            "nodes": len(tree.nodes),
            "depth": max(n.depth for n in tree.nodes),
            "iterations": tree.iterations,
            "requests": tree.requests,
            "tokens": tree.tokens,
            "correct_ends": sum(n.verdict == "correct" for n in ends),
            "wrong_ends": sum(n.verdict == "wrong" for n in ends),
            "distinct_answers": len({n.answer for n in ends if n.index != ROOT and n.answer is not None}),
            "seed": run.params.run.seed,
            "trees_md5": md5,
        }


def trace_rows(run: Run, path: Path, trees: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per chain of a file."""
    origin = {"seed": run.params.run.seed, "traces_md5": run.md5(path), "trees_md5": run.md5(TREES)}
    for trace in read_jsonl(path, Trace):
        if trace.problem_id not in trees:
            raise UserError(f"{path}: chain {trace.id}: {TREES} has no tree of problem {trace.problem_id}")
        yield {**trace.model_dump(), **trees[trace.problem_id], **origin}


def dataset_card(run: Run, rows: Mapping[str, int]) -> str:
    """README.md of the data set."""
    configs = [
        {
            "config_name": "traces",
            "default": True,
            "data_files": [{"split": split, "path": f"traces/{split}.parquet"} for split in TRACES],
        },
        {"config_name": "trees", "data_files": [{"split": "train", "path": "trees/train.parquet"}]},
    ]
    total = sum(count for name, count in rows.items() if name.startswith("traces/"))
    data = DatasetCardData(
        pretty_name=f"ASTRO search chains, {run.params.run.task}",
        language=["en"],
        task_categories=["text-generation"],
        tags=["astro", "chain-of-thought", "search", "mcts", run.params.run.task],
        size_categories=[next(label for limit, label in SIZES if total < limit)],
        configs=configs,
    )
    shape = table(["file", "rows"], [[f"`{name}.parquet`", f"{count:,}"] for name, count in rows.items()])
    meaning = table(["column", "meaning"], [[f"`{c}`", text] for c, text in MEANING.items()])
    return f"""---
{data.to_yaml()}
---

# Search trees as chains of thought: {run.params.run.task}

Monte Carlo search trees over solution steps, turned into chains that keep failed branches, the doubt and the way back (after
ASTRO, arXiv 2507.00417), and, of the same trees, direct solutions as the comparator.

```python
from datasets import load_dataset

chains = load_dataset("<this folder>")            # splits train, direct
trees = load_dataset("<this folder>", "trees")    # a row per tree
```

{shape}

{content(run)}

{meaning}

## Where it comes from
{lineage_line(run)} The card of the model beside this folder has all parameters and the md5 of every input.

{licence_lines(run)}
"""


def content(run: Run) -> str:
    """Description of the training split."""
    m = run.metrics["linearize"]
    checked = " and by their steps" if run.params.linearize.require_sound_steps else ""
    return (
        f"Split `train` holds {m.search:,} chains that go back ({m.backtracks:.2f} jumps on average) and "
        f"{m.direct:,} that do not. The texts are a language model's, verified by their final answer{checked}; "
        "nobody has read them all."
    )
