"""The dry run at the start of a stage: check that this and the later stages fit the GPUs of this machine.

It can only refuse, so results do not depend on it. It does nothing without a GPU, or for a model that is trained here.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from astro.compute_profile import load_compute
from astro.params import plain, read_yaml
from astro.preflight import checks, memory_settings
from astro.preflight.model_shape import Shape, known, shape_of
from astro.process import UserError
from astro.rates import RATES, search_of
from schemas.compute_profile import Compute
from schemas.params import Params

MODEL = Path("models/base")
ORDER = ("base", "mcts", "linearize", "sft", "grpo", "eval")
SETTING = "ASTRO_FIT"
"""Environment variable. "warn" only prints the faults, for wrong estimates or work on other machines."""


def check_start(stage: str, params: Params, gpus: Sequence[float] | None = None) -> None:
    """Refuse before the long work if the compute profile or the memory of this machine's GPUs does not fit.

    The base stage checks all later stages; any other stage checks itself.

    Args:
        stage: a stage of dvc.yaml.
        gpus: bytes of each GPU; None: the GPUs of this machine.

    Raises:
        UserError: all faults, with settings that would fit.
    """
    name = stage.removesuffix("_direct")
    if params.base.source != "pretrained" or name not in ORDER:
        return
    ahead = ORDER if name == "base" else (name,)
    compute = load_compute() if {"sft", "grpo"} & set(ahead) else Compute()
    if name == "linearize" and params.linearize.filter != "self_eval" and params.linearize.writer != "lm":
        return
    memory = visible() if gpus is None else gpus
    path = str(MODEL) if name != "base" and (MODEL / "config.json").is_file() else params.base.pretrained.path
    if not memory or not known(path):
        return
    found = faults(
        ahead, params, compute, shape_of(path), min(memory), f"the smallest GPU here ({len(memory)} of them)"
    )
    if not found:
        return
    text = "\n       ".join(found)
    if os.environ.get(SETTING) != "warn":
        raise UserError(f"{text}\n       ({SETTING}=warn continues anyway)")
    print(f"warning: {text}", flush=True)


def visible() -> list[float]:
    """Bytes of each GPU that this process sees."""
    import torch

    return [float(torch.cuda.get_device_properties(i).total_memory) for i in range(torch.cuda.device_count())]


def faults(ahead: Sequence[str], params: Params, compute: Compute, shape: Shape, device: float, name: str) -> list[str]:
    """Faults of the later stages on GPUs with `device` bytes."""
    found = []
    if {"mcts", "linearize", "eval"} & set(ahead) and params.execution.ray.address == "":
        found += checks.engine_memory(params, shape, device, name)[1]
    if compute.device == "cpu":
        return found
    if "sft" in ahead and params.sft.epochs:
        found += checks.training_faults(shape, memory_settings.sft_training(params, compute), device, name)[1]
    if "grpo" in ahead and params.grpo.steps:
        search = plain(read_yaml(RATES))["searches"][search_of(params)]
        training = memory_settings.grpo_training(params, compute, memory_settings.prompt_tokens(search))
        found += checks.training_faults(shape, training, device, name)[1]
    return found
