"""All that we override, replace or rely on inside TRL, with the reason for each. Written against the version `TRL`.

TRL promises nothing about these methods. `OVERRIDDEN` names each of them, and tests/training/test_trl_overrides.py fails when the
source of one changes. Then look at the override again, and note the new hash there.

TRL's GRPO is imported late, in functions: `spare_vllm` must come before it.
"""

import contextlib
import importlib
import os
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import LogitsProcessor

from astro.seeds import hashed_seed
from astro.special_tokens import encode_prompt
from astro.training.seeded_sampling import OwnNoise, sample_seed
from astro.training.step_sampler import loader_of

TRL = "1.16.0"

OVERRIDDEN = {
    # file and name in TRL: what here depends on it
    "import_utils.py:is_vllm_available": "spare_vllm replaces it",
    "trainer/grpo_trainer.py:GRPOTrainer._tokenize_prompts": "Rollouts._tokenize_prompts: no second <|begin_of_text|>",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_single_turn": "Rollouts._generate_single_turn: seeded samples, validation",
    "trainer/grpo_trainer.py:GRPOTrainer._generate": "Rollouts.refilled: it asks _generate_single_turn once for a batch",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_and_score_completions": "Rollouts: dynamic sampling, which TRL does not have",
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
"""Steps to each side of this one whose prompts may replace it where prompts are ordered by difficulty."""

REQUESTS = 64
"""Requests to a vLLM server at once; TRL's client keeps as many connections."""


def spare_vllm() -> None:
    """Keep TRL from importing vLLM, which it does wherever it finds it: 15 s and half a gigabyte in every training process.

    For the life of this process: call it only where vLLM does not generate.
    """
    if "trl.generation.vllm_generation" not in sys.modules:
        utilities: Any = importlib.import_module("trl.import_utils")
        utilities.is_vllm_available = lambda min_version=None: False


# --- SFT ---------------------------------------------------------------------------------------------------------------


def steps_trainer() -> type[Any]:
    """The class `StepsTrainer`. It overrides a public method: the batches must not depend on the number of processes."""
    from trl import SFTTrainer

    class StepsTrainer(SFTTrainer):
        """TRL's trainer on the steps of astro/training/step_sampler.py. batch: rows per optimizer step, in all."""

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
    """`model.generate` with one more logits processor, while the block runs."""
    plain = model.generate
    model.generate = lambda *args, **kwargs: plain(*args, **kwargs, logits_processor=[processor])
    try:
        yield
    finally:
        del model.generate


def _order_of_epoch(sampler: Any, epoch: int) -> None:
    """Set the generator of TRL's sampler to where it stands before an epoch, from 0."""
    sampler.generator.manual_seed(sampler.seed)
    for _ in range(epoch):
        torch.randperm(sampler.num_samples, generator=sampler.generator)


def _count(counts: dict[tuple[int, ...], int], key: tuple[int, ...]) -> int:
    """How often `key` has been asked for before."""
    counts[key] = counts.get(key, -1) + 1
    return counts[key]


def rollouts_trainer() -> type[Any]:
    """The class `Rollouts`; a function, since TRL is to be imported after `spare_vllm`."""
    from trl import GRPOTrainer

    class Rollouts(GRPOTrainer):
        """TRL's trainer over prompts that are text already, with seeded samples, validation and dynamic sampling."""

        def __init__(self, *args: Any, run_seed: int, seeded: bool, refills: int = 0, **options: Any) -> None:
            """seeded: False: TRL's own sampling, but for validation. refills: see schemas.grpo.GrpoParams."""
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
            """As TRL's, but an epoch's order depends on its number, not on how many epochs this process has seen.

            TRL's generator begins anew where a killed run resumes, so in every epoch but the first it would take other prompts.
            """
            sampler: Any = super()._get_train_sampler(dataset)
            if sampler.shuffle:
                sampler.set_epoch = partial(_order_of_epoch, sampler)
            return sampler

        def seeds(self, prompts: Sequence[Sequence[int]], first: int) -> list[int] | None:
            """Of one completion each of prompts that stand at `first` and behind it in the step's batch over all processes; None:
            the samples are not seeded. Held-out prompts have the same seeds at every step."""
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
            """As `seeds`, for a server that draws a prompt's completion i with the prompt's seed + i."""
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
            """Completions as TRL hands them to the reward."""
            tokenizer: Any = self.processing_class
            return tokenizer.batch_decode(ids, skip_special_tokens=True)

        def sample_held_out(self, prompts: list[str]) -> list[list[int]]:
            """Token ids of one seeded completion of each prompt, by the model as it is. Training does not notice."""
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

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            """As TRL's. With refills: of a batch in which groups of equal rewards have been replaced."""
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

            Each round all processes sample as many new groups as the one needs that lacks most. Groups that are still flat after
            the last round stay, without a gradient, because a batch has a fixed size.
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
            """Rows of `groups` prompts for this process, fewer where the prompts run out. No process has used them in this step.

            Drawn by a hash of the seed, the step and the round. `used` grows.
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
            """Places around this step's prompts, where the prompts are ordered by difficulty."""
            arguments: Any = self.args
            per_step = int(arguments.generation_batch_size) // int(self.num_generations or 1)
            here = (self.state.global_step // self.num_iterations) * per_step % max(1, rows)
            return range(max(0, here - NEAR * per_step), min(rows, here + (NEAR + 1) * per_step))

        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict]:
            """As TRL's: (ids of each prompt, images: none, fields of other modes: none).

            Text prompts are tokenized as the engines tokenize them. TRL calls the tokenizer on a text prompt as it is, which
            puts <|begin_of_text|> in front of one that has it. Its other form, lists of messages, is rendered by TRL alone:
            without our date, and without the control tokens of a problem's question broken up.
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
            """As TRL's: (token ids, log-probabilities or None) of one completion of each of this process' prompts."""
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
    """`vllm.LLM` in the training process, with a seed for each prompt; in all else `llm` itself."""

    llm: Any
    trainer: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.llm, name)

    def generate(self, prompts: list[dict], *, sampling_params: Any, **options: Any) -> list:
        """As `LLM.generate` on tokenized prompts. Processes that share one copy of the model all see the prompts of all."""
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
    """TRL's client of a vLLM server, with a request and a seed for each prompt; in all else `client` itself."""

    client: Any
    trainer: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def generate(
        self, prompts: list[list[int]], *, n: int, generation_kwargs: dict | None = None, **options: Any
    ) -> dict:
        """As `VLLMClient.generate`: the server draws completion i of a prompt with the prompt's seed + i."""
        seeds = self.trainer.seeds_of_requests(prompts)
        if seeds is None:
            return self.client.generate(prompts=prompts, n=n, generation_kwargs=generation_kwargs, **options)

        def ask(ids: list[int], seed: int) -> dict:
            kwargs = {**(generation_kwargs or {}), "seed": seed}
            return self.client.generate(prompts=[ids], n=n, generation_kwargs=kwargs, **options)

        with ThreadPoolExecutor(min(REQUESTS, len(prompts))) as pool:
            answers = list(pool.map(ask, prompts, seeds))
        return {key: [row for answer in answers for row in answer[key]] for key in answers[0]}


# --- vLLM in the training process on a CPU, which TRL supports on GPUs only ----------------------------------------------


def cpu_colocated() -> type[Any]:
    """The class `CpuColocated`.

    Two things differ on a CPU. vLLM repacks weights for it when it loads them, so new ones must go through its own reload
    instead of being written over the old (written over, they are silently not used, or do not fit). And a seeded request
    crashes when its prompt is split over two steps.
    """
    # Read when vLLM is imported, which TRL does.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    import trl.generation.vllm_generation

    backend: Any = trl.generation.vllm_generation

    class CpuColocated(trl.generation.vllm_generation.VLLMGeneration):
        """TRL's vLLM backend, colocated, on a CPU in one process."""

        def _init_vllm(self) -> None:
            """As TRL's, with options that a CPU needs."""
            plain = backend.LLM

            def on_cpu(**options: Any) -> Any:
                needed = max(options["max_num_batched_tokens"], options["max_model_len"] or 0)
                return plain(
                    **options
                    | {
                        "dtype": "float32",
                        "enforce_eager": True,
                        "enable_chunked_prefill": False,
                        "max_num_batched_tokens": needed,
                    }
                )

            backend.LLM = on_cpu
            try:
                super()._init_vllm()
            finally:
                backend.LLM = plain

        def sync_weights(self) -> None:
            """Give vLLM the trainer's weights."""
            weights = [(name, parameter.detach().clone()) for name, parameter in self._iter_named_params()]
            llm: Any = self.llm
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            llm.reset_prefix_cache()

    return CpuColocated


@contextlib.contextmanager
def colocated_on_cpu() -> Iterator[None]:
    """A GRPOTrainer that is made in the block generates by `CpuColocated`."""
    replacement = cpu_colocated()
    import trl.trainer.grpo_trainer

    trainers: Any = trl.trainer.grpo_trainer

    plain = trainers.VLLMGeneration
    trainers.VLLMGeneration = replacement
    try:
        yield
    finally:
        trainers.VLLMGeneration = plain
