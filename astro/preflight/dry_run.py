"""The dry run of a profile: it runs every check and reports all faults and the plan as text."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from astro.params import plain, read_yaml
from astro.preflight import checks, lengths, memory_settings
from astro.preflight.disk import disk_needed, dvc_links, texts_of
from astro.preflight.memory import GIB, Memory, Serving, Training
from astro.preflight.model_shape import Shape, shape_of
from astro.preflight.target_machine import Machine, machine
from astro.preflight.templates import Rendered, template
from astro.process import UserError, plural
from astro.rates import RATES, search_of
from schemas.compute_profile import Compute
from schemas.params import Params

NEAR = 0.9
"""Share of a GPU above which an estimate is too close to the limit to be safe."""


@dataclass
class Report:
    """The report: sections of text, faults that prevent the run, and warnings."""

    title: str
    sections: list[tuple[str, list[str]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report as text for the console."""
        rows = [self.title]
        for name, lines in self.sections:
            rows += ["", name, *(f"  {line}" for line in lines)]
        rows += ["", *(f"warning: {line}" for line in self.warnings)]
        rows += [f"fault: {line}" for line in self.faults]
        verdict = (
            f"{plural(len(self.faults), 'fault')} found; fix them before the run" if self.faults else "no faults found"
        )
        return "\n".join([*rows, f"dry run: {verdict}"])


def check_profile(params: Params, title: str, *, device: str, compute: str, lines: list, here: bool) -> Report:
    """Dry run of a profile on `device` of rates.yaml with a compute profile. lines: the planner's lines.

    Raises:
        UserError: rates.yaml does not know the device's memory.
    """
    rates = plain(read_yaml(RATES))
    where, faults = machine(device, rates["memory_gb"], compute)
    return dry_run(
        params,
        where,
        title=f"Dry run of {title[0].lower() + title[1:]} on {device}, compute profile {where.profile}",
        shape_of_search=rates["searches"][search_of(params)],
        texts_gb=texts_of(lines),
        here=here,
        faults=faults,
    )


def dry_run(
    params: Params, where: Machine, *, title: str, shape_of_search: dict, texts_gb: float, here: bool, faults: list[str]
) -> Report:
    """Check a run of a pretrained model.

    Args:
        shape_of_search: the entry of `searches` in rates.yaml: lengths of chains and prompts.
        texts_gb: GiB of trees, traces and completions, by the planner.
        here: compare with the disk and the GPUs of this machine.
        faults: faults that are known already.
    """
    report = Report(title, faults=list(faults))
    try:
        shape = shape_of(params.base.pretrained.path)
    except UserError as error:
        report.faults.append(str(error))
        return report
    described(report, params, shape)
    rendered = template(params, shape)
    report.sections.append(("chat template", rendered.lines))
    report.faults += rendered.faults + adapter_faults(params, shape)
    report.warnings += unpinned(params)
    found = check_lengths(report, params, shape, shape_of_search, rendered)
    if targets := checks.target_faults(params, where.compute, shape):
        report.faults += targets
        return report
    check_batches(report, params, shape, where.compute)
    trainings = check_memory(report, params, shape, where, found.prompt)
    check_disk(report, params, shape, trainings, texts_gb, here=here)
    if here:
        report.warnings += missing_gpus(where.compute)
    return report


def adapter_faults(params: Params, shape: Shape) -> list[str]:
    """Faults of base.pretrained.adapter if it was not made for the model."""
    from astro.training.lora import check_adapter

    pretrained = params.base.pretrained
    if not pretrained.adapter:
        return []
    return checks.told(
        lambda: check_adapter(
            Path(pretrained.adapter), shape.tensors, base_name=pretrained.path, name="base.pretrained.adapter"
        )
    )


def unpinned(params: Params) -> list[str]:
    """Hub ids without a commit, whose content may change unnoticed."""
    pretrained = params.base.pretrained
    found = []
    if not Path(pretrained.path).is_dir() and pretrained.revision in ("", "main"):
        found.append(f"base.pretrained.revision {pretrained.revision!r}: not pinned to a commit")
    for name, source in params.problems.files.items():
        if source.dataset and not Path(source.dataset).exists() and source.revision in ("", "main"):
            found.append(f"problems.files.{name}: {source.dataset} without a revision may change unnoticed")
    return found


def described(report: Report, params: Params, shape: Shape) -> None:
    """Add the section on the model and its size."""
    report.sections.append(
        (
            "model",
            [
                f"{shape.name}, revision {params.base.pretrained.revision or '-'}: {shape.parameters / 1e9:.2f} B parameters",
                f"{shape.layers} blocks of {shape.hidden}, {shape.heads} heads, {shape.kv_heads} key-value heads, vocabulary "
                f"{shape.vocabulary}, context {shape.context}, KV cache {shape.kv_bytes() / 1024:.0f} KiB a token",
                f"config: {shape.source}",
            ],
        )
    )


def check_lengths(report: Report, params: Params, shape: Shape, search: dict, rendered: Rendered) -> lengths.Lengths:
    """Check the lengths of prompts, chains and completions. Returns these lengths."""
    found = lengths.lengths_of(params, shape, search, ask=not rendered.faults)
    g = params.grpo
    report.sections.append(
        (
            "lengths, tokens",
            [
                f"prompt {found.prompt} at most ({found.prompt_source}), chain {found.chain} ({found.chain_source})"
                f"{'; ' if rendered.frame else ''}{rendered.frame}",
                f"sft: rows of {params.sft.max_length}; engine: {params.engine.max_model_len}; grpo: {found.prompt} + "
                f"{g.max_completion_length}; eval: {found.prompt} + {params.eval.max_tokens}; "
                f"the model's context: {shape.context}",
            ],
        )
    )
    if shape.folder is None:  # else its own tokenizer and context were checked already
        report.faults += lengths.context_faults(params, shape.context, shape.name)
    for check in (lengths.completion_faults, lengths.trace_faults):
        faults, warnings = check(params, shape.context, found, shape.name)
        report.faults += faults
        report.warnings += warnings
    return found


def check_batches(report: Report, params: Params, shape: Shape, compute: Compute) -> None:
    """Add the section on batches."""
    found = checks.batch_faults(params, compute) + checks.parallel_faults(params, compute, shape)
    lines = []
    if not found:
        g = params.grpo
        for name, batch, micro in (
            ("sft", params.sft.batch_size, compute.micro_batch.sft),
            ("grpo", g.prompts_per_step * g.group_size, compute.micro_batch.grpo or g.micro_batch),
        ):
            each, passes = checks.split_batch(batch, micro, compute.world, name)
            lines.append(
                f"{name}: {plural(batch, 'sequence')} a step = {each} at a time x {plural(passes, 'accumulation step')} x "
                f"{plural(compute.world, 'process', 'processes')}"
            )
        lines.append(
            f"grpo: {plural(g.prompts_per_step, 'prompt')} x {plural(g.group_size, 'completion')}, {plural(g.steps, 'step')}"
        )
    lines.append(f"eval: pass@1 over {plural(params.eval.samples, 'sample')}, maj@{params.eval.majority}")
    report.sections.append(("batches", lines or ["does not fit, see below"]))
    report.faults += found


def check_memory(report: Report, params: Params, shape: Shape, where: Machine, prompt: int) -> list[Training]:
    """Check engine and training on one GPU each. Returns the training stages that have steps."""
    name, lines = f"{where.device}", []
    serving, found = checks.engine_memory(params, shape, where.memory, name)
    lines.append(engine_line(params, serving))
    report.faults += found
    trainings = []
    if params.sft.epochs:
        trainings.append(memory_settings.sft_training(params, where.compute))
    if params.grpo.steps:
        trainings.append(memory_settings.grpo_training(params, where.compute, prompt))
    for training in trainings:
        memory, found = checks.training_faults(shape, training, where.memory, name)
        lines += training_lines(training, memory)
        report.faults += found
        if not found and memory.most > NEAR * where.memory:
            report.warnings.append(
                f"{training.stage}: {memory.most / GIB:.1f} of {where.memory / GIB:.1f} GiB is near the limit of an estimate"
            )
    head = f"memory, GiB of one {where.device} ({where.memory / GIB:g}); compute profile {where.profile}: "
    report.sections.append(
        (head + f"{plural(where.compute.world, 'process', 'processes')}, strategy {where.compute.strategy}", lines)
    )
    if params.grpo.generation == "vllm_server" and params.grpo.steps:
        report.warnings.append(
            "grpo.generation vllm_server: the server needs GPUs besides those of the compute profile; docs/rl.md "
            "shows how to start it"
        )
    return trainings


def engine_line(params: Params, serving: Serving | float | None) -> str:
    """One line on the engine's memory."""
    if serving is None:
        return "engine: an endpoint on another machine"
    if isinstance(serving, float):
        return f"engine (hf): {serving / GIB:.1f}"
    wanted = params.execution.concurrency
    enough = "" if serving.at_once >= wanted else f" ({wanted} may be in flight; longer ones wait or are recomputed)"
    return (
        f"engine (vllm, {plural(params.execution.vllm.tensor_parallel_size, 'GPU')}): weights {serving.weights / GIB:.1f}, "
        f"a step {serving.working / GIB:.1f}, cache {max(0.0, serving.cache) / GIB:.1f} = "
        f"{plural(serving.at_once, 'sequence')} of {params.engine.max_model_len}{enough}"
    )


def training_lines(training: Training, memory: Memory) -> list[str]:
    """Lines on a training stage: the sum and its parts."""
    kind = (
        "full fine-tuning"
        if not training.rank
        else f"{'QLoRA' if training.quantized else 'LoRA'}, rank {training.rank}"
    )
    phases = ", ".join(f"{phase} {size / GIB:.1f}" for phase, size in memory.phases.items())
    parts = ", ".join(f"{part} {size / GIB:.1f}" for part, size in memory.parts.items())
    return [
        f"{training.stage} ({kind}, {training.sequences} x {training.tokens} tokens): {phases}",
        f"  of it: {parts}",
    ]


def check_disk(
    report: Report, params: Params, shape: Shape, trainings: list[Training], texts_gb: float, *, here: bool
) -> None:
    """Compare the needed disk space with this machine if `here`, else add a warning with the size."""
    parts = disk_needed(
        shape, trainings, texts_gb=texts_gb, saved_bytes=memory_settings.BYTES[params.sft.dtype], links=dvc_links()
    )
    needed, free = sum(parts.values()), shutil.disk_usage(Path()).free
    listed = ", ".join(f"{part} {size / GIB:.0f}" for part, size in parts.items())
    report.sections.append(("disk, GiB", [f"{needed / GIB:.0f}: {listed}"]))
    if needed > free:
        text = f"disk: {needed / GIB:.0f} GiB are needed, {free / GIB:.0f} are free in {Path().resolve().name} here"
        (report.faults if here else report.warnings).append(text)


def missing_gpus(compute: Compute) -> list[str]:
    """Faults if this machine has fewer GPUs than the compute profile uses."""
    import torch

    here = torch.cuda.device_count()
    if compute.device == "cpu" or here >= compute.processes:
        return []
    needed = plural(compute.processes, "GPU is", "GPUs are")
    return [f"{needed} needed (compute profile), but this machine has {here}"]
