"""Jobs for the tests of the launcher: functions that its workers import by name. None but the last needs torch."""

import os
import signal
import time
from pathlib import Path

from astro.process import UserError


def says_who(given, compute, log):
    """The environment of each rank, left as a file, and of rank 0 as its result."""
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    said = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "ASTRO_TRACKING", "CUDA_VISIBLE_DEVICES")}
    (Path(given["folder"]) / f"rank-{rank}").write_text(world)
    print(f"printed by rank {rank}")
    for step in (1, 2):
        log({"loss": step / 2}, step)
    deadline = time.monotonic() + 60  # rank 0's result counts when all have run
    while len(list(Path(given["folder"]).glob("rank-*"))) < int(world) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"rank": rank, "world": world, "micro": compute.micro_batch.sft, **said}


def refuses(given, compute, log):
    """A mistake of the user's that only the last rank sees."""
    if os.environ["RANK"] == "1":
        raise UserError(f"{given['what']} is wrong")
    time.sleep(60)


def sleeps(given, compute, log):
    """Says that it is there, and works on for ever."""
    (Path(given["folder"]) / f"pid-{os.getpid()}").touch()
    time.sleep(600)


def dies_at_step(given, compute, log):
    """SFT whose last rank is killed when it has logged a step."""
    import torch

    from astro.training.sft import train_job

    torch.set_num_threads(1)

    def log_or_die(row, step):
        log(row, step)
        if step == given["dies_at"] and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    return train_job(given, compute, log_or_die)
