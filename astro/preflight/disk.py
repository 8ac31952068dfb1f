"""Disk space of a run: models, checkpoints, trees, traces, completions, and DVC's copies of them."""

from pathlib import Path

from astro.preflight.memory import GIB, Training
from astro.preflight.model_shape import Shape
from astro.process import UserError

KEPT = 3
"""Largest number of checkpoints that the trainers keep (save_total_limit; RL also keeps the best one). One more while writing."""


def linked(root: Path) -> bool:
    """Whether DVC links its cache into the workspace (cache.type of .dvc/config) and so needs no second copy of a file.

    DVC's default is reflink, which few file systems support, and then copy.
    """
    import configparser

    kinds = ""
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser()
        try:
            parser.read(root / ".dvc" / name)
        except configparser.Error as error:
            raise UserError(f"{root / '.dvc' / name}: {error}") from None
        kinds = parser.get("cache", "type", fallback=kinds)
    first = kinds.replace('"', "").split(",")[0].strip()
    return first in ("hardlink", "symlink")


def disk_needed(
    shape: Shape, trainings: list[Training], *, texts_gb: float, saved_bytes: int, links: bool
) -> dict[str, float]:
    """Bytes by part.

    Args:
        texts_gb: GiB of trees, traces and completions.
        saved_bytes: bytes per weight of a saved model.
        links: DVC's cache needs no second copy.
    """
    model = shape.parameters * saved_bytes
    models = (1 + 2 * len(trainings)) * model  # base, and both arms of each stage
    checkpoints = max((KEPT + 1) * checkpoint(shape, t) for t in trainings) if trainings else 0.0
    found = {
        f"models ({1 + 2 * len(trainings)} of {model / GIB:.1f})": models,
        "checkpoints of one running stage": checkpoints,
        "trees, traces, completions": texts_gb * GIB,
    }
    if not links:
        found["DVC's cache (copies)"] = models + texts_gb * GIB
    return found


def checkpoint(shape: Shape, t: Training) -> float:
    """Bytes of one checkpoint: weights and AdamW's two states; with LoRA, of the adapter alone."""
    trained = shape.adapter(t.rank, t.targets) if t.rank else shape.parameters
    return trained * 3 * (4 if t.rank or t.sharded > 1 else t.weight_bytes)


def dvc_links(root: Path = Path()) -> bool:
    """`linked` for a folder that may have no DVC at all."""
    return (root / ".dvc").is_dir() and linked(root)


def texts_of(lines: list) -> float:
    """GiB of trees, traces and completions, from the planner's lines."""
    return sum(line.disk_gb for line in lines if line.stage in ("mcts", "linearize", "eval"))
