"""Entry point of one of several training processes.

python -m astro.training.worker ORDER     # started only by the agent
"""

import importlib
import json
import os
import sys
import warnings
from pathlib import Path

from pydantic import ValidationError

from astro.files import write_json
from astro.process import UserError, die_with
from schemas.compute_profile import Compute


def check_world(compute: Compute) -> None:
    """Refuse to train with another number of processes than requested, because the global batch would change.

    For example, `accelerate launch --cpu` starts one process whatever number it is given.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != compute.world:
        raise UserError(f"compute profile: {compute.world} processes were requested, but {world} were started")


def quieten() -> None:
    """Silence stdout and warnings of all ranks but rank 0. Traces of errors that end the process remain."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    warnings.simplefilter("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["DATASETS_VERBOSITY"] = "error"


def work(order: Path) -> None:
    """Run the job of an order; rank 0 leaves its rows and its result beside it."""
    said = json.loads(order.read_bytes())
    compute, folder = Compute.model_validate(said["compute"]), order.parent
    check_world(compute)
    rank = int(os.environ["RANK"])
    if rank:
        quieten()
    module, name = said["job"]
    job = getattr(importlib.import_module(module), name)  # imports what a literal names
    with (folder / "rows.jsonl").open("a") if rank == 0 else open(os.devnull, "w") as rows:

        def log(row: dict[str, float], step: int) -> None:
            rows.write(json.dumps({"row": row, "step": step}) + "\n")
            rows.flush()

        result = job(said["given"], compute, log)
    if rank == 0:
        write_json(folder / "result.json", result)
    if "torch.distributed" in sys.modules:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def main() -> None:
    """What a user can mend goes to the stage, in one line, with exit code 2; the rest shows its trace."""
    die_with(int(os.environ["ASTRO_PARENT"]))
    order = Path(sys.argv[1])
    try:
        work(order)
    except (UserError, ValidationError, ValueError, OSError) as error:
        if os.environ.get("ASTRO_TRACE"):
            raise
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        write_json(order.parent / "failure.json", {"message": f"{error}{where}", "rank": os.environ.get("RANK")})
        sys.exit(2)


if __name__ == "__main__":
    main()
