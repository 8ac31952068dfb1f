"""Everything that we override, replace or rely on inside TRL, with the reason for each. Written for the version `TRL`.

TRL does not guarantee these methods. `OVERRIDDEN` lists them, and tests/training/test_trl_overrides.py fails when the source of
one changes. In that case review the override and record the new hash.

TRL's GRPO is imported late, inside functions, because `spare_vllm` must run before.
"""

import contextlib
import importlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import LogitsProcessor

from astro.hardware import vllm_dtype
from astro.seeds import hashed_seed
from astro.special_tokens import encode_prompt
from astro.training.seeded_sampling import OwnNoise, sample_seed
from astro.training.step_sampler import loader_of
from schemas.engine import Dtype

TRL = "1.16.0"

OVERRIDDEN = {
    # file and name in TRL: what depends on it here
    "import_utils.py:is_vllm_available": "spare_vllm replaces it",
    "trainer/grpo_trainer.py:GRPOTrainer._tokenize_prompts": "Rollouts._tokenize_prompts: no second <|begin_of_text|>",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_single_turn": "Rollouts._generate_single_turn: seeded samples, validation",
    "trainer/grpo_trainer.py:GRPOTrainer._generate": "Rollouts.refilled: it asks _generate_single_turn once for a batch",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_and_score_completions": "Rollouts: dynamic sampling, which TRL does not have",
    "trainer/grpo_trainer.py:GRPOTrainer._compute_loss": "Rollouts.summed: what a completion contributes; PER_TOKEN",
    "trainer/grpo_trainer.py:GRPOTrainer._prepare_inputs": "Rollouts._prepare_inputs: order and number of completions in a pass",
    "trainer/grpo_trainer.py:GRPOTrainer._get_per_token_logps_and_entropies": "Rollouts: common padding is cut off",
    "trainer/grpo_trainer.py:GRPOTrainer._get_train_sampler": "Rollouts._get_train_sampler: a resumed run's prompts",
    "trainer/utils.py:RepeatSampler": "_order_of_epoch: what its generator draws in an epoch",
    "trainer/grpo_trainer.py:GRPOTrainer._log_metric": "Rollouts.refilled: what the dropped groups cost",
    "generation/vllm_generation.py:VLLMGeneration.generate": "SeededLlm, SeededClient: what it asks them for",
    "generation/vllm_client.py:VLLMClient.generate": "SeededClient.generate: one request for each prompt",
    "generation/vllm_generation.py:VLLMGeneration._init_vllm": "CpuColocated._init_vllm: options that a CPU needs",
    "generation/vllm_generation.py:VLLMGeneration.sync_weights": "CpuColocated.sync_weights: vLLM's own reload",
    "generation/vllm_generation.py:VLLMGeneration._iter_named_params": "CpuColocated.sync_weights: the weights to send",
    "trainer/grpo_trainer.py:GRPOTrainer.__init__": "Rollouts.__init__, colocated_on_cpu: where it makes its backend",
}

NEAR = 4
"""Number of steps before and after this one whose prompts may replace its own, if prompts are ordered by difficulty."""

SUMMED = {"cispo", "dapo", "vespo"}
"""Losses that are a sum over tokens, divided by the tokens of the whole step. Leaving out a term of 0 does not change them."""

PER_TOKEN = {"entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio"}
"""Figures that TRL logs for each pass as a mean over its tokens."""

REQUESTS = 64
"""Concurrent requests to a vLLM server. TRL's client keeps as many connections."""


def spare_vllm() -> None:
    """Prevent TRL from importing vLLM, which costs 15 s and half a gigabyte in every training process.

    It holds for the life of the process, so call it only if vLLM does not generate.
    """
    if "trl.generation.vllm_generation" not in sys.modules:
        utilities: Any = importlib.import_module("trl.import_utils")
        utilities.is_vllm_available = lambda min_version=None: False


# --- SFT ---------------------------------------------------------------------------------------------------------------


def steps_trainer() -> type[Any]:
    """Define the class `StepsTrainer`. It overrides a public method, because batches must not depend on the number of
    processes."""
    from trl import SFTTrainer

    class StepsTrainer(SFTTrainer):
        """TRL's trainer with the steps of astro/training/step_sampler.py. batch: rows per optimizer step, over all processes."""

        def __init__(self, *arguments: Any, batch: int, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.batch = batch

        def get_train_dataloader(self) -> Any:
            """The batches of this process."""
            dataset: Any = self.train_dataset
            lengths = [len(ids) for ids in dataset["input_ids"]]
            return loader_of(dataset, lengths, self.data_collator, self.args, batch=self.batch)

    return StepsTrainer


# --- GRPO --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sampled_by(model: Any, processor: LogitsProcessor) -> Iterator[None]:
    """Add one logits processor to `model.generate` during the block."""
    plain = model.generate
    model.generate = lambda *args, **kwargs: plain(*args, **kwargs, logits_processor=[processor])
    try:
        yield
    finally:
        del model.generate


def _order_of_epoch(sampler: Any, epoch: int) -> None:
    """Set the generator of TRL's sampler to its state before an epoch (from 0)."""
    sampler.generator.manual_seed(sampler.seed)
    for _ in range(epoch):
        torch.randperm(sampler.num_samples, generator=sampler.generator)


def _count(counts: dict[tuple[int, ...], int], key: tuple[int, ...]) -> int:
    """Count the calls for `key`; returns the number of earlier calls."""
    counts[key] = counts.get(key, -1) + 1
    return counts[key]


def by_length(passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The passes of a step with its completions in another order: the longest first, those without a gradient masked and last.

    A pass costs as many positions as its longest completion has, for each of its completions.

    Args:
        passes: name -> tensor with one row per completion, or what belongs to all.
    """
    step = {
        name: torch.cat([one[name] for one in passes]) if _by_row(value, passes[0]) else value
        for name, value in passes[0].items()
    }
    step["completion_mask"] = step["completion_mask"] * (step["advantages"] != 0)[:, None]
    order = step["completion_mask"].sum(1).argsort(descending=True, stable=True)
    return [_rows(step, rows) for rows in order.chunk(len(passes))]


def _by_row(value: Any, inputs: dict[str, Any]) -> bool:
    """Whether a value has one row per completion."""
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == len(inputs["advantages"])


def _rows(inputs: dict[str, Any], rows: torch.Tensor | slice) -> dict[str, Any]:
    """Some of the completions."""
    return {name: value[rows] if _by_row(value, inputs) else value for name, value in inputs.items()}


def rollouts_trainer() -> type[Any]:
    """Define the class `Rollouts`, in a function because TRL must be imported after `spare_vllm`."""
    from trl import GRPOTrainer

    class Rollouts(GRPOTrainer):
        """TRL's trainer for prompts that are already text, with seeded samples, validation and dynamic sampling."""

        def __init__(self, *args: Any, run_seed: int, seeded: bool, refills: int = 0, **options: Any) -> None:
            """Create the trainer.

            Args:
                seeded: False: TRL's own sampling, except for validation.
                refills: see schemas.grpo.GrpoParams.
            """
            self.run_seed, self.seeded, self.refills = run_seed, seeded, refills
            self.held_out = False
            self.sampled: tuple[list[list[int]], Any] | None = None
            super().__init__(*args, **options)
            self.ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
            if self.use_vllm:
                backend: Any = self.vllm_generation
                if self.vllm_mode == "colocate":
                    backend.llm = SeededLlm(backend.llm, self)
                elif self.accelerator.is_main_process:
                    backend.vllm_client = SeededClient(backend.vllm_client, self)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            """As in TRL, but the order of an epoch depends only on its number, not on how many epochs this process has seen.

            TRL's generator restarts when a killed run resumes, so every later epoch would use other prompts.
            """
            sampler: Any = super()._get_train_sampler(dataset)
            if sampler.shuffle:
                sampler.set_epoch = partial(_order_of_epoch, sampler)
            return sampler

        def seeds(self, prompts: Sequence[Sequence[int]], first: int) -> list[int] | None:
            """Seeds of one completion for each prompt; None: samples are not seeded. `first` is the position of the
            first prompt in the step's batch over all processes. Held-out prompts have the same seeds at every step.
            """
            if self.held_out:
                counts: dict[tuple[int, ...], int] = {}
                return [
                    hashed_seed(self.run_seed, "validation", list(ids), _count(counts, tuple(ids))) for ids in prompts
                ]
            if not self.seeded:
                return None
            step, group = self.state.global_step, int(self.num_generations or 1)
            return [sample_seed(self.run_seed, step, ids, (first + i) % group) for i, ids in enumerate(prompts)]

        def seeds_of_requests(self, prompts: Sequence[Sequence[int]]) -> list[int] | None:
            """As `seeds`, for a server that draws completion i of a prompt with the prompt's seed + i."""
            if self.held_out or not self.seeded:
                return self.seeds(prompts, 0)
            return [sample_seed(self.run_seed, self.state.global_step, ids, 0) for ids in prompts]

        @property
        def completions_at_once(self) -> int:
            """Completions that a process samples in one pass of training."""
            arguments: Any = self.args
            return int(arguments.per_device_train_batch_size * arguments.steps_per_generation)

        def finished(self, ids: Sequence[int]) -> bool:
            """Whether a completion ended by itself."""
            return bool(ids) and ids[-1] in self.ends

        def texts_of(self, ids: list[list[int]]) -> list[str]:
            """Decode completions as TRL passes them to the reward."""
            tokenizer: Any = self.processing_class
            return tokenizer.batch_decode(ids, skip_special_tokens=True)

        def sample_held_out(self, prompts: list[str]) -> list[list[int]]:
            """Token ids of one seeded completion per prompt, by the current model. Training is not affected."""
            devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
            model: Any = self.model
            training, self.held_out = model.training, True
            model.eval()
            try:
                with torch.random.fork_rng(devices=devices):
                    return self._generate_single_turn(self._tokenize_prompts(prompts)[0], None, {}, 1)[0]
            finally:
                self.held_out = False
                model.train(training)

        @property
        def summed(self) -> bool:
            """Whether a completion contributes the same to the gradient in every pass, and 0 if its advantage is 0."""
            more = self.beta or self.top_entropy_quantile < 1.0 or self.aux_loss_enabled
            return self.loss_type in SUMMED and not more

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            """As in TRL, but with passes that cost less, if the loss is a sum over completions."""
            before: Any = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            passes: Any = self._buffered_inputs
            if not self.summed or passes is before:
                return inputs
            passes[:] = self.cheaper(passes)
            return passes[self._step % len(passes)]

        def cheaper(self, passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
            """The passes of a step, ordered by length, and without the completions of flat groups, which contribute 0.

            A pass keeps at least one completion, and as many as in the other processes, because TRL gathers their figures.
            `share` is the weight of a pass in the means over passes that TRL logs:
            without it, the tokens of a small pass would count more than those of a large one.
            """
            passes = by_length(passes)
            lengths = gather_object([[one["completion_mask"].sum(1).tolist() for one in passes]])
            by_pass = list(zip(*lengths, strict=True))  # for each pass the lengths of every process
            counts = [max(1, *(sum(n > 0 for n in mine) for mine in each)) for each in by_pass]
            tokens = [sum(map(sum, each)) for each in by_pass]
            shares = [len(passes) * n / max(1, sum(tokens)) for n in tokens]
            return [
                _rows(one, slice(count)) | {"share": share}
                for one, count, share in zip(passes, counts, shares, strict=True)
            ]

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            """As in TRL. Logged means over tokens get the weight of their pass."""
            loss = super()._compute_loss(model, inputs)
            logged = self._metrics["train"]  # there is no other mode: validation samples without a loss
            for name in PER_TOKEN & set(logged):
                logged[name][-1] *= inputs.get("share", 1.0)
            return loss

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            logits_to_keep: int,
            batch_size: int | None = None,
            **options: Any,
        ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
            """As in TRL, without the padding that ends all rows of a pass. It costs as much as tokens, and no loss reads it."""
            width = input_ids.shape[1]
            ends = width - attention_mask.flip(1).argmax(1)  # behind the last token of each row
            order = ends.argsort(stable=True) if batch_size else torch.arange(len(ends), device=ends.device)
            found: list[list[Any]] = []
            for rows in order.split(batch_size or len(order)):
                spare = min(width - int(ends[rows].max()), logits_to_keep - 1)
                made = super()._get_per_token_logps_and_entropies(
                    model,
                    input_ids[rows, : width - spare],
                    attention_mask[rows, : width - spare],
                    logits_to_keep - spare,
                    **options,
                )
                found.append([torch.nn.functional.pad(x, (0, spare)) if x is not None and x.dim() else x for x in made])
            logps, entropies, losses = zip(*found, strict=True)
            back = order.argsort()
            return (
                torch.cat(logps)[back],
                None if entropies[0] is None else torch.cat(entropies)[back],
                None if losses[0] is None else torch.stack(losses).mean(),
            )

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            """As in TRL. With refills, groups of equal rewards in the batch are replaced before."""
            model: Any = self.model
            if not self.refills or not model.training:
                return super()._generate_and_score_completions(inputs)
            inputs, self.sampled = self.refilled(inputs)
            try:
                return super()._generate_and_score_completions(inputs)
            finally:
                self.sampled = None

        def refilled(self, inputs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[list[list[int]], Any]]:
            """(rows, their (token ids, log-probabilities)) of this process, after at most `refills` rounds of new prompts.

            In each round all processes sample the same number of new groups: as many as the process with the most flat
            groups needs. Groups that are still flat after the last round stay without a gradient, because a batch has a
            fixed size.
            """
            group = int(self.num_generations or 1)
            verifier: Any = self.reward_funcs[0]
            good: list[tuple[list[dict], list, Any]] = []
            flat: list[tuple[list[dict], list, Any]] = []
            slots, total, right, count = len(inputs) // group, 0, 0, 0
            used = set(gather_object([row["prompt"] for row in inputs]))
            rows = inputs
            for turn in range(self.refills + 1):
                ids, logps = self._generate_single_turn(
                    self._tokenize_prompts([r["prompt"] for r in rows])[0], None, {}, group
                )
                rewards = verifier.rewards(rows, self.texts_of(ids), ids, step=self.state.global_step + 1)
                total += sum(map(len, ids))
                right += sum(value == verifier.correct for value in rewards)
                count += len(rows)
                for start in range(0, len(rows), group):
                    part = slice(start, start + group)
                    known = {value for value in rewards[part] if value is not None}
                    made = (rows[part], ids[part], None if logps is None else logps[part])
                    (good if len(known) > 1 else flat).append(made)
                lacking = max(gather_object([slots - len(good)]))
                if lacking <= 0 or turn == self.refills:
                    break
                rows = self.new_rows(used, lacking, turn, group)
                if not rows:
                    break
            chosen, unused = [*good, *flat][:slots], [*good, *flat][slots:]
            verifier.drop([row for made in unused for row in zip(made[0], self.texts_of(made[1]), strict=True)])
            sums = gather_object([(total, len(unused), len(flat), right, count)])
            tokens, replaced, equal, correct, all_rows = (sum(column) for column in zip(*sums, strict=True))
            for name, value in (
                ("sampled_tokens", tokens),
                ("groups_dropped", replaced),
                ("flat_groups", equal * group / all_rows),
                ("sampled_accuracy", correct / all_rows),
            ):
                self._log_metric(name, float(value))
            kept_logps = None if chosen[0][2] is None else [x for made in chosen for x in made[2]]
            return [r for made in chosen for r in made[0]], ([i for made in chosen for i in made[1]], kept_logps)

        def new_rows(self, used: set, groups: int, turn: int, group: int) -> list[dict[str, Any]]:
            """Rows of `groups` prompts for this process that no process has used in this step; fewer if prompts run out.

            The draw is a hash of the seed, the step and the round. `used` is extended.
            """
            dataset: Any = self.train_dataset
            world, rank = self.accelerator.num_processes, self.accelerator.process_index
            draw = random.Random(hashed_seed(self.run_seed, "refill", self.state.global_step, turn))
            places = self.near(len(dataset)) if not self.shuffle_dataset else range(len(dataset))
            fresh: list[dict] = []
            for place in draw.sample(places, len(places)):
                row = dataset[place]
                if row["prompt"] not in used:
                    used.add(row["prompt"])
                    fresh.append(row)
                if len(fresh) == groups * world:
                    break
            each = len(fresh) // world
            return [row for row in fresh[rank * each : (rank + 1) * each] for _ in range(group)]

        def near(self, rows: int) -> range:
            """Positions around this step's prompts, used if prompts are ordered by difficulty."""
            arguments: Any = self.args
            per_step = int(arguments.generation_batch_size) // int(self.num_generations or 1)
            here = (self.state.global_step // self.num_iterations) * per_step % max(1, rows)
            return range(max(0, here - NEAR * per_step), min(rows, here + (NEAR + 1) * per_step))

        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict]:
            """As in TRL: (ids of each prompt, images: none, fields of other modes: none).

            Text prompts are tokenized as in the engines. TRL calls the tokenizer directly, which puts a second
            <|begin_of_text|> in front. For lists of messages TRL renders the template itself, without our fixed date
            and without breaking up control tokens in a problem's question.
            """
            tokenizer: Any = self.processing_class
            return [encode_prompt(tokenizer, prompt) for prompt in prompts], None, {}

        def _generate_single_turn(
            self,
            prompt_ids: list[list[int]],
            images: Any,
            multimodal_fields: Any,
            num_generations: int,
            has_tool_images: bool = False,
        ) -> Any:
            """As in TRL: (token ids, log-probabilities or None) of one completion for each prompt of this process."""
            if self.sampled is not None:
                return self.sampled
            with contextlib.ExitStack() as stack:
                seeds = None
                if not self.use_vllm:
                    seeds = self.seeds(prompt_ids, self.accelerator.process_index * len(prompt_ids))
                if seeds is not None:
                    noise = OwnNoise(seeds, self.temperature, self.accelerator.device)
                    stack.enter_context(sampled_by(self.accelerator.unwrap_model(self.model_wrapped), noise))
                return super()._generate_single_turn(
                    prompt_ids, images, multimodal_fields, num_generations, has_tool_images
                )

    return Rollouts


@dataclass
class SeededLlm:
    """Wraps a `vllm.LLM` in the training process to give each prompt its own seed. Everything else is passed to `llm`."""

    llm: Any
    trainer: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.llm, name)

    def generate(self, prompts: list[dict], *, sampling_params: Any, **options: Any) -> list:
        """As `LLM.generate` on tokenized prompts. Processes that share one copy of the model all see all prompts."""
        team = self.trainer.accelerator.process_index // self.trainer.vllm_tensor_parallel_size
        seeds = self.trainer.seeds([p["prompt_token_ids"] for p in prompts], team * len(prompts))
        if seeds is None:
            return self.llm.generate(prompts, sampling_params=sampling_params, **options)
        each = [sampling_params.clone() for _ in prompts]
        for params, seed in zip(each, seeds, strict=True):
            params.seed = seed
        return self.llm.generate(prompts, sampling_params=each, **options)


@dataclass
class SeededClient:
    """Wraps TRL's client of a vLLM server to give each prompt its own request and seed. Everything else is passed to `client`."""

    client: Any
    trainer: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def generate(
        self, prompts: list[list[int]], *, n: int, generation_kwargs: dict | None = None, **options: Any
    ) -> dict:
        """As `VLLMClient.generate`. The server draws completion i of a prompt with the prompt's seed + i."""
        seeds = self.trainer.seeds_of_requests(prompts)
        if seeds is None:
            return self.client.generate(prompts=prompts, n=n, generation_kwargs=generation_kwargs, **options)

        def ask(ids: list[int], seed: int) -> dict:
            kwargs = {**(generation_kwargs or {}), "seed": seed}
            return self.client.generate(prompts=[ids], n=n, generation_kwargs=kwargs, **options)

        with ThreadPoolExecutor(min(REQUESTS, len(prompts))) as pool:
            answers = list(pool.map(ask, prompts, seeds))
        return {key: [row for answer in answers for row in answer[key]] for key in answers[0]}


# --- vLLM in the training process on a CPU; TRL supports only GPUs ----------------------------------------------------


def cpu_colocated(dtype: Dtype) -> type[Any]:
    """Define the class `CpuColocated`. dtype: of vLLM's copy of the weights, as in schemas.engine.VllmParams.

    Three things differ on a CPU. vLLM repacks weights when it loads them, so new weights must use its own reload;
    written over the old ones they are silently ignored, or do not fit. The reload leaves an output layer that is the
    embedding (tie_word_embeddings) as it was, so vLLM has both as layers of their own. And a seeded request crashes if
    its prompt is split over two steps.
    """
    # Read when TRL imports vLLM.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # A user can do nothing about these: both versions are pinned, and tests cover what we use of them.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "TRL currently supports vLLM versions", UserWarning)
    warnings.filterwarnings("ignore", "`torch.distributed.reduce_op`", FutureWarning)
    import trl.generation.vllm_generation

    backend: Any = trl.generation.vllm_generation

    class CpuColocated(trl.generation.vllm_generation.VLLMGeneration):
        """TRL's vLLM backend, colocated, on a CPU in one process."""

        def _init_vllm(self) -> None:
            """As in TRL, with the options that a CPU needs."""
            plain = backend.LLM

            def on_cpu(**options: Any) -> Any:
                needed = max(options["max_num_batched_tokens"], options["max_model_len"] or 0)
                return plain(
                    **options
                    | {
                        "dtype": vllm_dtype(dtype),
                        "hf_overrides": {"tie_word_embeddings": False},
                        "load_format": "dummy",  # `sync_weights` comes before the first sample
                        "enforce_eager": True,
                        "enable_chunked_prefill": False,
                        "max_num_batched_tokens": needed,
                        "use_tqdm_on_load": False,
                    }
                )

            backend.LLM = on_cpu
            try:
                super()._init_vllm()
            finally:
                backend.LLM = plain

        def sync_weights(self) -> None:
            """Load the trainer's weights into vLLM."""
            weights = {name: parameter.detach().clone() for name, parameter in self._iter_named_params()}
            model: Any = self.model
            weights |= {name: weights[source] for name, source in model.all_tied_weights_keys.items()}
            llm: Any = self.llm
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
            llm.reset_prefix_cache()

    return CpuColocated


@contextlib.contextmanager
def colocated_on_cpu(dtype: Dtype) -> Iterator[None]:
    """Make a GRPOTrainer that is created in the block generate by `CpuColocated`, with weights of `dtype`."""
    replacement = cpu_colocated(dtype)
    import trl.trainer.grpo_trainer

    trainers: Any = trl.trainer.grpo_trainer

    plain = trainers.VLLMGeneration
    trainers.VLLMGeneration = replacement
    try:
        yield
    finally:
        trainers.VLLMGeneration = plain
