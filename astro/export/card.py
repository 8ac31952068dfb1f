"""Write the model card from the run. All figures come from metrics/; unmeasured ones are left out."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from ruamel.yaml import YAML

from astro.arms import all_models, models
from astro.export.card_text import (
    HUB_ID,
    base_called,
    base_hub_id,
    licence_lines,
    lineage_line,
    percent,
    public,
)
from astro.export.model_files import config_of, licence_fields
from astro.export.source_run import Run, titles
from astro.hardware import vllm_dtype
from astro.tasks import get_task
from astro.viz.markdown_table import table
from schemas.evaluate import ModelMetrics
from schemas.grpo import GrpoMetrics
from schemas.records import Problem
from schemas.sft import SftMetrics


def model_card(run: Run, name: str) -> ModelCard:
    """README.md of the model folder. `name` is the model's name in front matter and commands."""
    sections = [
        f"# {name}",
        summary(run),
        stale_warning(run),
        figures(run),
        f"## Serve it\n{serving(run, name)}",
        f"## What it was given\n{data(run)}",
        f"## How it was trained\n{training(run)}",
        licence_lines(run),
        f"## Where it comes from\n{lineage(run)}",
    ]
    return ModelCard(f"---\n{front_matter(run, name).to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


def front_matter(run: Run, name: str) -> ModelCardData:
    """The card's metadata: licence and base if known, data sets of the hub, every measured pass@1 and maj@k."""
    files = run.params.problems.files.values()
    hub = sorted({s.dataset for s in files if re.fullmatch(HUB_ID, s.dataset or "") and not Path(s.dataset).exists()})
    return ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["astro", "chain-of-thought", "search", run.params.run.task],
        base_model=base_hub_id(run),
        datasets=hub or None,
        model_name=name,
        eval_results=eval_results(run) or None,
        **licence_fields(),
    )


def eval_results(run: Run) -> list[EvalResult]:
    """pass@1 and maj@k of the model on each eval set, in per cent, with interval, problems, samples and seed."""
    evaluation, found = run.metrics["eval"], []
    for name, measured in evaluation.sets.items():
        if run.model not in measured:
            continue
        kinds = {
            "pass@1": measured[run.model].pass_at_1,
            f"maj@{run.params.eval.majority}": measured[run.model].maj_at_k,
        }
        for kind, e in kinds.items():
            found.append(
                EvalResult(
                    task_type="text-generation",
                    dataset_type=f"{run.params.run.task}-{name}",
                    dataset_name=name,
                    metric_type=kind,
                    metric_name=kind,
                    metric_value=round(100 * e.value, 2),
                    metric_args={
                        "low_95": round(100 * e.low, 2),
                        "high_95": round(100 * e.high, 2),
                        "problems": e.n,
                        "samples": evaluation.samples,
                        "seed": evaluation.seed,
                    },
                )
            )
    return found


def summary(run: Run) -> str:
    """A short description of the model."""
    model = models()[run.model]
    how = f"fine-tuned on {model.description}"
    how += ", then improved by GRPO with a verifier" if model.stage == "grpo" else ""
    how += "" if model.baseline else " (a baseline)"
    return (
        f"{titles()[run.model]}: {base_called(run)}, {how}. After [ASTRO, arXiv 2507.00417](https://arxiv.org/abs/2507.00417). "
        f"Task: {run.params.run.task}; it was measured on nothing else."
    )


def stale_warning(run: Run) -> str:
    """A warning about parts of the run that did not match at the export; "": all matched."""
    if not run.stale:
        return ""
    lines = "\n".join(f"> - {line}" for line in run.stale)
    return (
        f"> **Not the files of one run.** When this was exported, these had changed since they were recorded:\n{lines}"
    )


def figures(run: Run) -> str:
    """The measured figures of the model and of the models that it is compared with."""
    evaluation, k = run.metrics["eval"], run.params.eval.majority
    rows = [
        [name, titles().get(model, model), str(m.pass_at_1.n), percent(m.pass_at_1), percent(m.maj_at_k), *shape_of(m)]
        for name, measured in evaluation.sets.items()
        for model in all_models()
        if (m := measured.get(model))
    ]
    head = ["set", "model", "problems", "pass@1 in %", f"maj@{k} in %", "tokens", "backtracks", "cut off"]
    pairs = [
        [name, f"{titles().get(d.better, d.better)} - {titles().get(d.worse, d.worse)}", percent(d.difference)]
        for name, differences in evaluation.differences.items()
        for d in differences
        if run.model in (d.better, d.worse)
    ]
    paired = "\n\n" + table(["set", "paired difference", "pass@1, points"], pairs) if pairs else ""
    return (
        f"## Figures\n{evaluation.samples} samples a problem at temperature {run.params.eval.temperature:g}, at most "
        f"{run.params.eval.max_tokens:,} tokens; seed {evaluation.seed}. In brackets the 95 % interval over problems "
        f"(bootstrap): it does not cover another training seed.\n\n{table(head, rows)}{paired}"
    )


def shape_of(m: ModelMetrics) -> list[str]:
    """Mean tokens and backtracks of a chain, and the share cut by the length limit."""
    return [f"{m.tokens:.0f}", f"{m.backtracks:.2f}", f"{100 * m.truncated:.1f} %"]


def serving(run: Run, name: str) -> str:
    """How to serve and query the model: the prompt's format, the commands, and the sampling settings of its measurement."""
    config, params = config_of(run.folder), run.params
    length = min(params.engine.max_model_len, config.get("max_position_embeddings", params.engine.max_model_len))
    dtype = vllm_dtype(params.engine.vllm.dtype)
    options = f"--served-model-name {name} --max-model-len {length} --dtype {dtype} --generation-config vllm"
    sampling = {
        "max_tokens": min(params.eval.max_tokens, length // 2),
        "temperature": params.eval.temperature,
    }
    if params.run.prompt == "chat":
        said = (
            "A problem is a message to a chat model. The second request gives the same as a text that the chat template has "
            "rendered already: no token is to be put before it."
        )
        asks = {
            "chat/completions": {"messages": messages(run.question, params.run.spec), **template_settings()},
            "completions": {"prompt": run.prompt, "add_special_tokens": False},
        }
    else:
        said = "The model continues a plain text; there is no chat template around it. A prompt ends as the one below does."
        asks = {"completions": {"prompt": run.prompt}}
    requests = "\n".join(curl(path, {"model": name, **ask, **sampling}) for path, ask in asks.items())
    return f"""{said}

```
vllm serve <this folder> {options}
{requests}
```

A build of vLLM without the command: `python -m vllm.entrypoints.openai.api_server --model <this folder> {options}`.
`--generation-config vllm`: sampling as it was measured, not as `generation_config.json` has it.
In Python: `AutoModelForCausalLM` and `AutoTokenizer` of transformers, `.from_pretrained("<this folder>")`; no remote code."""


def messages(question: str, spec: str) -> list[dict[str, str]]:
    """A problem as the messages that the chat template renders."""
    task = get_task(spec)
    system, said = task.messages(Problem(id="-", task=task.name, question=question, gold="?", level=1, chance=None))
    told = [{"role": "system", "content": system}] if system else []
    return [*told, {"role": "user", "content": said}]


def template_settings() -> dict[str, Any]:
    """Template variables, such as the date, that make prompts equal to those of the training."""
    from astro.tasks.chat import TODAY

    return {"chat_template_kwargs": {"date_string": TODAY.strftime("%d %b %Y")}}


def curl(path: str, ask: dict[str, Any]) -> str:
    """A request as a curl command."""
    body = json.dumps(ask, ensure_ascii=False).replace("'", "'\\''")
    return f"curl -s http://127.0.0.1:8000/v1/{path} -H 'Content-Type: application/json' -d '{body}'"


def data(run: Run) -> str:
    """The data sets with their sizes."""
    rows = [[f"problems: {name}", f"{s.size:,}", ""] for name, s in run.metrics["problems"].sets.items()]
    m = run.metrics["mcts"]
    rows.append(["search trees", f"{m.trees:,}", f"{100 * m.solved:.1f} % solved; {m.tokens:,} tokens generated"])
    chains = run.metrics["linearize"]
    rows.append(["chains of thought", f"{chains.traces:,}", f"{chains.search:,} go back, {chains.direct:,} do not"])
    dropped = run.metrics["problems"].dropped
    return (
        table(["data", "size", ""], rows)
        + f"\n\nTrain and RL problems left out because they also occur in an eval set, or twice: {dropped:,}. The "
        "chains are the data set in `dataset/`."
    )


def training(run: Run) -> str:
    """Counts of the training stages, and all params."""
    rows = []
    for stage in models():
        if isinstance(m := run.metrics.get(stage), SftMetrics):
            loss = "" if m.loss is None else f", loss {m.loss:.4f} nats per token (last 5 % of the steps)"
            rows.append(f"- {titles()[stage]}: {m.examples:,} examples, {m.steps:,} steps, {m.tokens:,} tokens{loss}.")
    for stage in models():
        if isinstance(m := run.metrics.get(stage), GrpoMetrics):
            ends = (
                ""
                if m.reward_last is None
                else f", mean reward {m.reward_first:.3f} at first, {m.reward_last:.3f} at last"
            )
            cut = f" and {m.restart_prompts:,} that continue from the middle of a chain" if m.restart_prompts else ""
            rows.append(
                f"- {titles()[stage]}: {m.prompts_kept:,} prompts{cut}, {m.steps:,} steps, {m.completions:,} completions{ends}."
            )
    text = StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(public(run.params.model_dump()), text)
    shown = f"<details><summary>All parameters</summary>\n\n```yaml\n{text.getvalue()}```\n\n</details>"
    return "\n".join(rows) + f"\n\n{shown}"


def lineage(run: Run) -> str:
    """md5 of all inputs and outputs of each stage, from dvc.lock."""
    rows = [
        [stage, kind.removesuffix("s"), f"`{path}`", f"`{md5}`"]
        for stage, sides in run.lineage.items()
        for kind, hashes in sides.items()
        for path, md5 in hashes.items()
        if not path.startswith("records/")  # it holds machine and duration, no data
    ]
    shown = table(["stage", "", "path", "md5"], rows)
    return (
        f"{lineage_line(run)} The model is `{run.folder}`, md5 `{run.md5(run.folder)}`; `provenance.json` has the "
        "same for programs to read.\n\n<details><summary>md5 of every input and output "
        f"(DVC)</summary>\n\n{shown}\n\n</details>"
    )
