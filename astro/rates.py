"""Read rates.yaml: speeds of devices, lengths of texts, memory of GPUs. Each entry says whether it was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astro.params import plain, read_yaml
from astro.process import UserError
from schemas.params import Params

RATES = Path("rates.yaml")
GIB = 2**30


@dataclass(frozen=True)
class Rates:
    """The speeds of one device for one model, and the size of a search."""

    generate: float  # tokens/s of one unit
    train: float
    rollouts: float  # tokens/s of RL's sampling / generate
    shape: Mapping[str, float]
    weights_gb: float
    training_gb: float
    notes: tuple[str, ...]


def search_of(params: Params) -> str:
    """The entry of `searches` in rates.yaml that is most like a run."""
    if params.base.source == "train":
        return "countdown"
    return "countdown_pretrained" if params.run.task == "countdown" else "mathematics"


def closest(entries: list[dict], field: str, wanted: str, parameters: float) -> dict:
    """The entry whose `field` is `wanted`, for the model nearest in size.

    Raises:
        UserError: there is none.
    """
    known = [e for e in entries if e[field] == wanted]
    if not known:
        raise UserError(f"{RATES}: no rate for {field} {wanted!r}; available: {sorted({e[field] for e in entries})}")
    return min(known, key=lambda e: abs(e["parameters"] - parameters))


def nearest(entries: list[dict], device: str, parameters: float) -> tuple[float, str]:
    """(tokens/s scaled to the model, its source).

    Raises:
        UserError: there is no entry for the device.
    """
    best = closest(entries, "device", device, parameters)
    scaled = "" if abs(best["parameters"] / parameters - 1) < 0.2 else ", scaled by size"
    return best["tokens_per_s"] * best["parameters"] / parameters, best["source"] + scaled


def load_rates(path: Path, *, device: str, parameters: float, task: str, generation: str, rate: float | None) -> Rates:
    """The rates of a device. generation: grpo.generation. rate: the user's own measurement, in tokens/s of one unit.

    Raises:
        UserError: an entry is missing.
    """
    content = plain(read_yaml(path))
    try:
        generate, why = nearest(content["engines"], device, parameters)
        train, why_train = nearest(content["training"], device, parameters)
        shape = content["searches"][task]
        rollouts = closest(content["rollouts"], "generation", generation, parameters)["share"]
        weights, training = content["weights_bytes"], content["training_bytes"]
    except KeyError as error:
        raise UserError(f"{path}: missing entry {error}") from None
    if rate is not None:
        generate, why = rate, "given by --rate"
    return Rates(
        generate,
        train,
        rollouts,
        shape,
        parameters * weights / GIB,
        parameters * training / GIB,
        (
            f"{generate:,.0f} generated tokens/s on one {device}: {why}",
            f"{train:,.0f} trained tokens/s on one {device}: {why_train}",
            f"lengths and shape of a search with {task}: {shape['source']}",
        ),
    )
