"""Write the result table, the offline page, and one MLflow run for the state of the whole pipeline.

    python -m stages.report            # all of it
    python -m stages.report --table    # the table only

Deviations from the paper: none; the paper has no such stage.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from astro import tracking
from astro.arms import baselines, contracts, models, rl_models
from astro.files import digest, digest_path, read_json, read_jsonl, read_shards, write_text
from astro.params import UNTRACKED, load_params, read_yaml
from astro.params import plain as plain_yaml
from astro.process import UserError, home_root, run_stage
from astro.training.rollout_store import PROBLEMS, home_of, kind_of, read_problems, read_shard, shards, step_of
from astro.viz.chain_selection import Example, examples
from astro.viz.report import ReportData, StageProvenance, render
from astro.viz.results_table import console_table
from astro.viz.rollouts_page import ArmRollouts, completion_of, spaced, telling
from astro.viz.rollouts_page import render as render_rollouts
from astro.viz.trace_view import most_backtracks
from schemas.records import Completion, Problem, StageRecord, Trace, Tree
from stages.harness import CURVES, METRICS, RECORDS, REPORTS

if TYPE_CHECKING:
    from schemas.params import Params  # not imported, because no stage depends on the sections of others

LOCK = Path("dvc.lock")
PAGE = REPORTS / "report.html"
ROLLOUTS_PAGE = REPORTS / "rollouts.html"
LOOKED_AT = 20
"""Number of usable trees examined for each one shown."""
SEARCHES = 2
"""Returns that a training chain needs to serve as an illustration of search."""


def read_metrics() -> dict:
    """The metrics of every stage, validated."""
    return {name: read_json(METRICS / f"{name}.json", contract) for name, contract in contracts().items()}


def chances(metrics: dict) -> dict[str, float | None]:
    """Eval set -> probability that a random legal path succeeds."""
    sets = metrics["problems"].sets.items()
    return {name.removeprefix("eval_"): s.chance for name, s in sets if name.startswith("eval_")}


def table(metrics: dict) -> str:
    """The result table as text."""
    return console_table(metrics["eval"], chances(metrics))


def read_curve(name: str) -> list[dict[str, float]]:
    """Rows of a training curve; [] if the stage trained nothing."""
    path = CURVES / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def with_start(rows: list[dict[str, float]], metrics: Mapping) -> list[dict[str, float]]:
    """The RL curve with the measurement before its first step, which is not a row of the CSV."""
    points = (metrics.get("validation") or {}).get("points", [])
    start = [{f"validation_{k}" if k != "step" else k: v for k, v in p.items()} for p in points if p["step"] == 0]
    return [*start, *rows]


def kept_rollouts() -> list[ArmRollouts]:
    """Stored rollouts of the RL models, the main arm first; [] if they were not kept or the models were made elsewhere."""
    found = []
    for stage in sorted(rl_models(), key=lambda name: name not in baselines()):
        curve = CURVES / f"{stage}.csv"
        folder = home_of(home_root(), stage, digest_path(curve)) if curve.is_file() else Path()
        if not (folder / PROBLEMS).is_file():
            continue
        paths = shards(folder)
        steps = {kind: spaced(step_of(p) for p in paths if kind_of(p) == kind) for kind in ("validation", "train")}
        rows = {
            kind: {step_of(p): list(read_shard(p)) for p in paths if kind_of(p) == kind and step_of(p) in steps[kind]}
            for kind in steps
        }
        shown = folder.relative_to(home_root()).as_posix()
        found.append(
            ArmRollouts(stage, read_problems(folder), rows["validation"], rows["train"], folder=shown, files=len(paths))
        )
    return found


def first_and_last(arms: Sequence[ArmRollouts]) -> tuple[str, list[Completion]]:
    """(question, chains) of the most telling held-out problem, by the main arm before and after RL; ("", []): none."""
    for problem_id in telling(arms, 1):
        arm = next(arm for arm in arms if arm.validation)
        ends = [(step, arm.validation[step]) for step in (min(arm.validation), max(arm.validation))]
        rows = [(step, next(r for r in found if r.problem_id == problem_id)) for step, found in ends]
        return arm.problems[problem_id].question, [
            completion_of(arm, row).model_copy(update={"set": f"after step {step}"}) for step, row in rows
        ]
    return "", []


def gallery(count: int) -> list[Example]:
    """Up to `count` chains per eval set of the RL model (else of the SFT model), beside those of the direct arm."""
    found: list[Example] = []
    chains, shown = next(((done, m) for m in reversed(baselines()) if (done := completions(m))), ([], ""))
    contrasts = completions(baselines()[shown]) if shown else []
    for path in sorted(Path("data/problems/eval").glob("*.jsonl")):
        problems = {p.id: p for p in read_jsonl(path, Problem)}
        found += examples(problems, chains, contrasts, count)
    return found


def completions(model: str) -> list[Completion]:
    """Completions of one model in the eval stage; [] if it was not measured."""
    path = Path("data/completions") / f"{model}.jsonl"
    return list(read_jsonl(path, Completion)) if path.is_file() else []


def training_chains() -> dict[str, Trace]:
    """Problem id -> the chain from its tree with the most returns; {} if there are no chains."""
    path = Path("data/traces/train.jsonl")
    return most_backtracks(read_jsonl(path, Trace)) if path.is_file() else {}


def sample_trees(count: int, chains: Mapping[str, Trace]) -> list[Tree]:
    """Early trees with a correct and a wrong terminal node, alternating between levels; [] if there are no trees.

    Trees with a chain of at least SEARCHES returns in `chains` come first.
    """
    folder = Path("data/trees")
    if not any(folder.glob("*.jsonl")):
        return []
    usable = (t for t in read_shards(folder, Tree) if {"correct", "wrong"} <= {n.verdict for n in t.nodes})
    searched: list[Tree] = []
    others: list[Tree] = []
    for tree in islice(usable, LOOKED_AT * count):
        made = chains.get(tree.problem.id)
        (searched if made and made.backtracks >= SEARCHES else others).append(tree)
    return list(islice(chain(by_turns(searched), by_turns(others)), count))


def by_turns(trees: Sequence[Tree]) -> Iterator[Tree]:
    """All trees, alternating between levels, the hardest level first."""
    by_level: dict[int, list[Tree]] = {}
    for tree in trees:
        by_level.setdefault(tree.problem.level, []).append(tree)
    turns = zip_longest(*(by_level[level] for level in sorted(by_level, reverse=True)))
    return (tree for tree in chain.from_iterable(turns) if tree is not None)


def locked_outs() -> dict[str, dict[str, str]]:
    """Stage name -> path -> md5, from dvc.lock (DVC writes it as stages end); {} before the first `dvc repro`."""
    if not LOCK.is_file():
        return {}
    stages = plain_yaml(read_yaml(LOCK)).get("stages", {})
    found = ({out["path"]: out["md5"] for out in entry.get("outs", []) if "md5" in out} for entry in stages.values())
    return {name: outs for outs in found for name in contracts() if f"records/{name}.json" in outs}


def stage_infos() -> dict[str, tracking.StageInfo]:
    """The state of each stage in the workspace. Cached means: made before this pipeline run started."""
    invocation = psutil.Process().parent()
    since = invocation.create_time() if invocation else 0.0
    outs = locked_outs()
    infos = {}
    for name in contracts():
        record = read_json(RECORDS / f"{name}.json", StageRecord)
        infos[name] = tracking.StageInfo(
            outs=outs.get(name, {}), run_id=record.run_id, cached=record.started < since, seconds=record.seconds
        )
    return infos


def main() -> None:
    """Print the table; write reports/report.html; log the pipeline run."""
    metrics = read_metrics()
    if "--table" in sys.argv[1:]:
        print(table(metrics))
        return
    params = load_params()
    plain = {name: m.model_dump() for name, m in metrics.items()}
    infos = stage_infos()
    traces = training_chains()
    trees = sample_trees(params.report.trees, traces)
    md5s = {
        name: digest(sorted((p, m) for p, m in info.outs.items() if not p.startswith("records/")))
        for name, info in infos.items()
    }
    curves = {name: with_start(read_curve(name), plain.get(name, {})) for name in ("base", *models())}
    arms = kept_rollouts() if params.report.rollouts else []
    question, chains = first_and_last(arms)
    page = render(
        ReportData(
            title="ASTRO: search in the chain of thought",
            metrics=metrics["eval"],
            chances=chances(metrics),
            stage_metrics={name: m for name, m in plain.items() if name != "eval"},
            params=params.model_dump(),
            curves=curves,
            rollouts=chains,
            rollouts_question=question,
            gallery=gallery(params.report.gallery),
            trees=trees,
            traces=traces,
            provenance={
                name: StageProvenance(md5=md5s[name], seconds=info.seconds, run_id=info.run_id or None)
                for name, info in infos.items()
            },
        )
    )
    write_text(PAGE, page)
    if params.report.rollouts:
        validated = {name: v for name in rl_models() if (v := metrics[name].validation)}
        write_text(
            ROLLOUTS_PAGE,
            render_rollouts(arms, problems=params.report.rollouts, validated=validated, curves=curves),
        )
    text = table(metrics)
    write_text(REPORTS / "table.txt", text + "\n")
    log_run(params, plain, infos, digest(params.model_dump(exclude={"tracking"}), md5s, plain), trees)
    print(text)
    print(f"\npage: {PAGE}    runs: make ui    metrics: {METRICS}/eval.json")


def log_run(params: "Params", metrics: dict, infos: dict, fingerprint: str, trees: list[Tree]) -> None:
    """Log the MLflow run in experiment `pipelines` (once per fingerprint), the trained models, and the RL model in the
    registry."""
    flat: dict[str, float] = {}
    for name, values in metrics.items():
        flat |= tracking.numbers(values, prefix=name)
    root = home_root()
    artifacts = [p for p in (PAGE, ROLLOUTS_PAGE, REPORTS / "table.txt", LOCK) if p.is_file()]
    run_id = tracking.log_pipeline(
        root, params=params.model_dump(), metrics=flat, stages=infos, fingerprint=fingerprint, artifacts=artifacts
    )
    if not run_id:
        return
    tracking.log_models(root, trained_models(params, metrics, infos), run_id=run_id, mode=params.tracking.models)
    model_md5 = infos["grpo"].outs.get("models/grpo")
    if model_md5:
        tracking.register_model(root, name="astro", path="models/grpo", md5=model_md5, run_id=run_id)
    tracking.log_trees_as_traces(root, trees, run_id=run_id, limit=len(trees))


def trained_models(params: "Params", metrics: dict, infos: dict) -> list[tracking.ModelInfo]:
    """The models of all arms in dvc.lock, after SFT and after RL, each with its training params. Metric names are the same for
    all models: `sft/loss`, `eval/n3/pass_at_1/value`.
    """
    found = []
    for name, model in models().items():
        path = f"models/{name}"
        if path not in infos[name].outs:
            continue
        measured = {set_name: of_model[name] for set_name, of_model in metrics["eval"]["sets"].items()}
        figures = tracking.numbers(metrics[name], prefix=model.stage) | tracking.numbers(measured, prefix="eval")
        later = {"eval", "report", "arms", *UNTRACKED, *({"grpo"} if model.stage == "sft" else ())}
        given = params.of_arm(model.arm).model_dump(exclude=later)
        found.append(tracking.ModelInfo(name, Path(path), infos[name].outs[path], given, figures))
    return found


if __name__ == "__main__":
    if unknown := [a for a in sys.argv[1:] if a != "--table"]:
        run_stage(lambda: (_ for _ in ()).throw(UserError(f"unknown argument {unknown[0]!r}; the only one is --table")))
    run_stage(main)
