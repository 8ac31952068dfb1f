"""Seeds of GRPO's completions, and the logits processor that applies them in transformers.

TRL's own sampling uses one generator per process, so another number of processes changes the run. With seeds a completion
depends only on the weights and on (run seed, step, prompt, its number in the group), like the samples of the engines.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from astro.seeds import hashed_seed


def sample_seed(run_seed: int, step: int, prompt: Sequence[int], number: int) -> int:
    """Seed in [0, 2**62) of completion `number` of a prompt (token ids) in a step.

    Seeds are hashed and not counted up, because vLLM draws completion i with seed + i, and neighbouring seeds would share
    samples.
    """
    return hashed_seed(run_seed, step, list(prompt), number)


class OwnNoise(LogitsProcessor):
    """Samples each row from its own generator: the token argmax(logits / T + Gumbel noise) is kept, all others are excluded.

    A row's draw therefore depends on its own seed and not on its batch, whatever sampler follows.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device):
        """Create the processor, with one seed per row and temperature > 0. The noise depends on the kind of `device`."""
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature, self.device = temperature, device

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (rows, vocabulary) -> the same shape: 0 for the drawn token, -inf for all others."""
        width = scores.shape[-1]
        draws = [torch.empty(width, device=self.device).exponential_(generator=g) for g in self.generators]
        noisy = scores.float() / self.temperature - torch.stack(draws).clamp_min(1e-30).log().to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, noisy.argmax(-1, keepdim=True), 0.0)
