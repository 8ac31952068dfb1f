"""Check that prompts, chains and completions fit the model's context, the engine and the training rows.

Lengths are measured if texts and a tokenizer are here, else assumed (rates.yaml). A check that rests only on an
assumption gives a warning, never a fault.
"""

import heapq
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from astro.arms import load_arms
from astro.files import read_jsonl
from astro.importing.presets import filters_of, map_of, read_row
from astro.importing.row_fields import Unreadable
from astro.importing.sources import place_of, read_rows
from astro.params import load_params
from astro.preflight.memory_settings import prompt_tokens
from astro.preflight.model_shape import Shape
from astro.preflight.templates import chosen, tokenizer_of
from astro.process import UserError
from astro.special_tokens import encode_prompt
from astro.tasks import get_task
from astro.tasks.chat import ChatTemplate
from schemas.params import Params
from schemas.records import Problem, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRACES = Path("data/traces")
LONGEST = 20
"""Number of questions per file that are tokenized: the longest ones in characters."""


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens."""

    prompt: int
    """the longest prompt"""
    chain: int
    """a chain of thought; the longest one if traces are here"""
    prompt_source: str
    chain_source: str
    prompt_measured: bool = False
    rows: tuple[int, ...] = ()
    """each trace that is here, with its prompt"""

    @property
    def certain(self) -> int:
        """Lower bound of the longest prompt's tokens."""
        return self.prompt if self.prompt_measured else 1


def lengths_of(params: Params, shape: Shape, search: Mapping, *, ask: bool = True) -> Lengths:
    """The lengths of a run.

    Args:
        search: the entry of `searches` in rates.yaml, for lengths that cannot be measured.
        ask: whether the model's tokenizer may be used if it is here.
    """
    assumed = f"rates.yaml, {search['source']}"
    tokenizer = tokenizer_of(shape) if ask else None
    chat = chosen(shape)[0] if tokenizer is not None and params.run.prompt == "chat" else None
    prompts = prompt_lengths(params, tokenizer, chat) if tokenizer is not None else []
    traces = trace_lengths(params, tokenizer) if tokenizer is not None else []
    return Lengths(
        prompt=max(prompts) if prompts else prompt_tokens(search),
        chain=max(chain for _, chain in traces) if traces else int(search["chain_tokens"]),
        prompt_source="measured, the problem files" if prompts else assumed,
        chain_source=f"measured, {TRACES}" if traces else assumed,
        prompt_measured=bool(prompts),
        rows=tuple(prompt + chain for prompt, chain in traces),
    )


def prompt_lengths(params: Params, tokenizer: "PreTrainedTokenizerBase", chat: ChatTemplate | None) -> list[int]:
    """Tokens of the longest questions in the problem files; [] if a set is not a file here, or is unreadable."""
    if params.problems.source != "files":
        return []
    task, found = get_task(params.run.spec, chat=chat), []
    for name, spec in params.problems.files.items():
        if not spec.path or place_of(spec.path, params.problems.folder) is None:
            return []
        columns, questions = map_of(spec.preset, spec.fields), []
        try:
            for entry in read_rows(name, spec, params.problems.folder, filters_of(spec)):
                with suppress(Unreadable):  # such a row is dropped
                    questions += [] if entry.fault else [read_row(entry.content, columns).question]
        except UserError:  # the problems stage reports it
            return []
        for question in heapq.nlargest(LONGEST, questions, key=len):
            asked = Problem(id="asked", task=params.run.task, question=question, gold="none", level=1, chance=None)
            found.append(len(encode_prompt(tokenizer, task.prompt(asked))))
    return found


def trace_lengths(params: Params, tokenizer: "PreTrainedTokenizerBase") -> list[tuple[int, int]]:
    """(prompt, chain) tokens of the existing traces, if the present params.yaml would make the same ones."""
    try:
        here = load_params()
        same = all(getattr(here, s) == getattr(params, s) for s in ("run", "problems", "base", "mcts", "linearize"))
        paths = {TRACES / f"{arm.traces}.jsonl" for arm in load_arms().values()} if same else set()
        traces = [trace for path in sorted(paths) if path.is_file() for trace in read_jsonl(path, Trace)]
    except UserError:
        return []
    count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    return [(len(encode_prompt(tokenizer, t.prompt)), count(t.completion)) for t in traces]


def context_faults(params: Params, context: int, name: str) -> list[str]:
    """Limits of the params above the model's context, which the model could never use.

    Args:
        context: tokens, from config.json (max_position_embeddings).
        name: name of the model, for messages.
    """
    limits = {"engine.max_model_len": params.engine.max_model_len, "sft.max_length": params.sft.max_length}
    if params.grpo.generation != "hf":
        limits["execution.grpo_vllm.max_model_len"] = params.execution.grpo_vllm.max_model_len
    return [
        f"{where} {value}: longer than the context of {name}, {context} tokens"
        for where, value in limits.items()
        if value > context
    ]


def completion_faults(params: Params, context: int, lengths: Lengths, name: str) -> tuple[list[str], list[str]]:
    """Compare prompt and completion with the limits that must hold both. Returns (faults, warnings based on assumed lengths)."""
    g, engine = params.grpo, params.engine.max_model_len
    limits = [
        ("eval.max_tokens", params.eval.max_tokens, "engine.max_model_len is", engine),
        ("mcts.rollout_tokens", params.mcts.rollout_tokens, "engine.max_model_len is", engine),
        ("grpo.max_completion_length", g.max_completion_length, f"the context of {name} is", context),
    ]
    if (g.pass_rate.low, g.pass_rate.high) != (0.0, 1.0):
        where = "grpo.max_completion_length (of the pass rate)"
        limits.append((where, g.max_completion_length, "engine.max_model_len is", engine))
    if g.generation != "hf" and (rollouts := params.execution.grpo_vllm.max_model_len):
        limits.append(
            ("grpo.max_completion_length", g.max_completion_length, "execution.grpo_vllm.max_model_len is", rollouts)
        )
    faults: list[str] = []
    warnings: list[str] = []
    for where, value, holder, limit in limits:
        total = lengths.prompt + value
        if total > limit:
            text = (
                f"{where} {value}: with a prompt of {lengths.prompt} tokens ({lengths.prompt_source}) that is "
                f"{total}, but {holder} {limit}, so completions would be cut"
            )
            (faults if lengths.certain + value > limit else warnings).append(text)
    return faults, warnings


def trace_faults(params: Params, context: int, lengths: Lengths, name: str) -> tuple[list[str], list[str]]:
    """Compare traces with SFT's rows and the context; longer ones are dropped. Returns (faults, warnings)."""
    limit, where = min((params.sft.max_length, "sft.max_length"), (context, f"the context of {name}"))
    if lengths.rows:
        longer = sum(row > limit for row in lengths.rows)
        text = f"{where} {limit}: traces that are longer ({lengths.chain_source}) and dropped: {longer} of {len(lengths.rows)}"
        return ([text], []) if longer == len(lengths.rows) else ([], [text] if longer else [])
    needed = lengths.prompt + lengths.chain
    if needed <= limit:
        return [], []
    return [], [
        f"{where} {limit}: shorter than the traces may be: a prompt of {lengths.prompt} ({lengths.prompt_source}) and a chain "
        f"of {lengths.chain} tokens ({lengths.chain_source}) make {needed}"
    ]
