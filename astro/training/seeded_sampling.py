"""Seeds of the completions of GRPO, and the sampler of transformers that takes them.

TRL's own sampling draws from one generator per process: another number of processes is another run. Seeded, a completion depends
on (run seed, step, prompt, its number in the group) and the weights alone, as the samples of the engines do.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from astro.seeds import hashed_seed


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
