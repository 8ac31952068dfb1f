"""What a run leaves on disk: models, checkpoints on the way, trees, traces, completions, and DVC's copies of them."""

from pathlib import Path

from astro.preflight.memory import GIB, Training
from astro.preflight.shapes import Shape
from astro.runtime import UserError

KEPT = 3
"""Checkpoints that the trainers keep at most (save_total_limit: RL keeps the best one too); one more while it is written."""


def linked(root: Path) -> bool:
    """Whether DVC links its cache into the workspace (cache.type of .dvc/config) and so needs no second copy of a file.

    DVC's default is reflink, which few file systems have, and then copy.
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
        texts_gb: trees, traces and completions, GiB.
        saved_bytes: of a weight of a saved model.
        links: no second copy in DVC's cache.
    """
    model = shape.parameters * saved_bytes
    models = (1 + 2 * len(trainings)) * model  # base, and both arms of each stage
    checkpoints = max((KEPT + 1) * checkpoint(shape, t) for t in trainings) if trainings else 0.0
    found = {
        f"models ({1 + 2 * len(trainings)} of {model / GIB:.1f})": models,
        "checkpoints of one stage at work": checkpoints,
        "trees, traces, completions": texts_gb * GIB,
    }
    if not links:
        found["DVC's cache (copies)"] = models + texts_gb * GIB
    return found


def checkpoint(shape: Shape, t: Training) -> float:
    """Bytes of one: weights and AdamW's two states; of LoRA, of the adapter alone."""
    trained = shape.adapter(t.rank, t.targets) if t.rank else shape.parameters
    return trained * 3 * (4 if t.rank or t.sharded > 1 else t.weight_bytes)


def dvc_links(root: Path = Path()) -> bool:
    """`linked` for a folder that may have no DVC at all."""
    return (root / ".dvc").is_dir() and linked(root)


def texts_of(lines: list) -> float:
    """GiB of trees, traces and completions, of the planner's lines."""
    return sum(line.disk_gb for line in lines if line.stage in ("mcts", "linearize", "eval"))
