"""All that we override, replace or rely on inside TRL, with the reason for each. Written against the version `TRL`.

TRL promises nothing about these methods. `OVERRIDDEN` names each of them, and tests/training/test_trl_patches.py fails when the
source of one changes. Then look at the override again, and note the new hash there.

TRL's GRPO is imported late, in functions: `spare_vllm` must come before it.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from transformers import LogitsProcessor

from astro.tokens import encode_prompt
from astro.training.batches import loader_of
from astro.training.seeds import OwnNoise, sample_seed

TRL = "1.16.0"

OVERRIDDEN = {
    # file and name in TRL: what here depends on it
    "import_utils.py:is_vllm_available": "spare_vllm replaces it",
    "trainer/grpo_trainer.py:GRPOTrainer._tokenize_prompts": "Rollouts._tokenize_prompts: no second <|begin_of_text|>",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_single_turn": "Rollouts._generate_single_turn: seeded samples",
    "generation/vllm_generation.py:VLLMGeneration.generate": "SeededLlm, SeededClient: what it asks them for",
    "generation/vllm_client.py:VLLMClient.generate": "SeededClient.generate: one request for each prompt",
    "generation/vllm_generation.py:VLLMGeneration._init_vllm": "CpuColocated._init_vllm: options that a CPU needs",
    "generation/vllm_generation.py:VLLMGeneration.sync_weights": "CpuColocated.sync_weights: vLLM's own reload",
    "generation/vllm_generation.py:VLLMGeneration._iter_named_params": "CpuColocated.sync_weights: the weights to send",
    "trainer/grpo_trainer.py:GRPOTrainer.__init__": "Rollouts.__init__, colocated_on_cpu: where it makes its backend",
}

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
        """TRL's trainer on the steps of astro/training/batches.py. batch: rows per optimizer step, in all."""

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


def rollouts_trainer() -> type[Any]:
    """The class `Rollouts`; a function, since TRL is to be imported after `spare_vllm`."""
    from trl import GRPOTrainer

    class Rollouts(GRPOTrainer):
        """TRL's trainer over prompts that are text already, with seeded samples where asked for."""

        def __init__(self, *args: Any, run_seed: int | None, **options: Any) -> None:
            """run_seed: None: TRL's own sampling."""
            self.run_seed = run_seed
            super().__init__(*args, **options)
            if run_seed is not None and self.use_vllm:
                backend: Any = self.vllm_generation
                if self.vllm_mode == "colocate":
                    backend.llm = SeededLlm(backend.llm, self)
                elif self.accelerator.is_main_process:
                    backend.vllm_client = SeededClient(backend.vllm_client, self)

        def seeds(self, prompts: Sequence[Sequence[int]], first: int) -> list[int]:
            """Of one completion each of prompts that stand at `first` and behind it in the step's batch over all processes."""
            step, group = self.state.global_step, int(self.num_generations or 1)
            assert self.run_seed is not None, "seeds are asked for where the samples are seeded"
            return [sample_seed(self.run_seed, step, ids, (first + i) % group) for i, ids in enumerate(prompts)]

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
            with contextlib.ExitStack() as stack:
                if self.run_seed is not None and not self.use_vllm:
                    seeds = self.seeds(prompt_ids, self.accelerator.process_index * len(prompt_ids))
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
        seeds = [sample_seed(self.trainer.run_seed, self.trainer.state.global_step, ids, 0) for ids in prompts]

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
