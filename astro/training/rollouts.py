"""TRL's GRPO trainer, with seeded samples where asked for."""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence

from transformers import LogitsProcessor

from astro.training.seeds import OwnNoise, SeededClient, SeededLlm, sample_seed


def spare_vllm() -> None:
    """Keep TRL from importing vLLM, which it does wherever it finds it: 15 s and half a gigabyte in every training process.

    For the life of this process: call it only where vLLM does not generate.
    """
    if "trl.generation.vllm_generation" not in sys.modules:
        importlib.import_module("trl.import_utils").is_vllm_available = lambda min_version=None: False


@contextlib.contextmanager
def sampled_by(model, processor: LogitsProcessor) -> Iterator[None]:
    """`model.generate` with one more logits processor, while the block runs."""
    plain = model.generate
    model.generate = lambda *args, **kwargs: plain(*args, **kwargs, logits_processor=[processor])
    try:
        yield
    finally:
        del model.generate


def rollouts_trainer():
    """The class `Rollouts`; a function, since TRL is to be imported after `spare_vllm`."""
    from astro.training.prompts import TextPromptTrainer

    class Rollouts(TextPromptTrainer):
        """TRL's trainer with seeded samples, where asked for."""

        def __init__(self, *args, run_seed: int | None, **options):
            """run_seed: None: TRL's own sampling."""
            self.run_seed = run_seed
            super().__init__(*args, **options)
            if run_seed is not None and self.use_vllm:
                backend = self.vllm_generation
                if self.vllm_mode == "colocate":
                    backend.llm = SeededLlm(backend.llm, self)
                elif self.accelerator.is_main_process:
                    backend.vllm_client = SeededClient(backend.vllm_client, self)

        def seeds(self, prompts: Sequence[Sequence[int]], first: int) -> list[int]:
            """Of one completion each of prompts that stand at `first` and behind it in the step's batch over all processes."""
            step, group = self.state.global_step, self.num_generations
            return [sample_seed(self.run_seed, step, ids, (first + i) % group) for i, ids in enumerate(prompts)]

        def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
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
