"""Seeds of the completions of GRPO, and the samplers that take them.

TRL's own sampling draws from one generator per process: another number of processes is another run. Seeded, a completion depends
on (run seed, step, prompt, its number in the group) and the weights alone, as the samples of the engines do.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from astro.search.seeds import hashed_seed

REQUESTS = 64
"""Requests to a vLLM server at once; TRL's client keeps as many connections."""


def sample_seed(run_seed: int, step: int, prompt: Sequence[int], number: int) -> int:
    """Seed in [0, 2**62) of completion `number` of a prompt (token ids) in a step.

    Hashed, never counted up: vLLM draws completion i of a request with seed + i, so neighbouring seeds would share samples.
    """
    return hashed_seed(run_seed, step, list(prompt), number)


class OwnNoise(LogitsProcessor):
    """Samples each row from a generator of its own: argmax(logits / T + Gumbel noise), everything else is ruled out.

    So a row's draw depends on its own seed and not on the batch it happens to be in, whatever sampler follows.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device):
        """One seed per row; temperature > 0. The noise is made on `device`: another kind of device is another run."""
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature, self.device = temperature, device

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (rows, vocabulary) -> the same shape: 0 for the drawn token, -inf for the others."""
        width = scores.shape[-1]
        draws = [torch.empty(width, device=self.device).exponential_(generator=g) for g in self.generators]
        noisy = scores.float() / self.temperature - torch.stack(draws).clamp_min(1e-30).log().to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, noisy.argmax(-1, keepdim=True), 0.0)


@dataclass
class SeededLlm:
    """`vllm.LLM` in the training process, with a seed for each prompt; in all else `llm` itself."""

    llm: object
    trainer: object

    def __getattr__(self, name):
        return getattr(self.llm, name)

    def generate(self, prompts: list[dict], *, sampling_params, **options) -> list:
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

    client: object
    trainer: object

    def __getattr__(self, name):
        return getattr(self.client, name)

    def generate(self, prompts: list[list[int]], *, n: int, generation_kwargs: dict | None = None, **options) -> dict:
        """As `VLLMClient.generate`: the server draws completion i of a prompt with the prompt's seed + i."""
        seeds = [sample_seed(self.trainer.run_seed, self.trainer.state.global_step, ids, 0) for ids in prompts]

        def ask(ids: list[int], seed: int) -> dict:
            kwargs = {**(generation_kwargs or {}), "seed": seed}
            return self.client.generate(prompts=[ids], n=n, generation_kwargs=kwargs, **options)

        with ThreadPoolExecutor(min(REQUESTS, len(prompts))) as pool:
            answers = list(pool.map(ask, prompts, seeds))
        return {key: [row for answer in answers for row in answer[key]] for key in answers[0]}
