"""The compute profile: where training runs. Its file is not a dependency of any stage, so that a model trained on eight GPUs and
one trained on two have the same identity. What affects the mathematics (the global batch) is in params.yaml.

    ASTRO_COMPUTE=gpu-8-fsdp2 dvc repro       # compute/gpu-8-fsdp2.yaml; a path is accepted too
    cp compute/cpu-2.yaml compute.yaml        # permanently; git ignores this file

Without either, training is one process: the stage itself.
"""

import importlib.util
import os
from pathlib import Path

from pydantic import ValidationError

from astro.params import faults_of, plain, read_yaml
from astro.process import UserError, home_root, plural
from schemas.compute_profile import Compute

AFFECTS_RESULTS = False  # it only says where training runs

COMPUTE = Path("compute")
OWN = Path("compute.yaml")
"""The user's profile, in the main checkout. DVC's copies for queued experiments hold only files that git tracks."""


def compute_file() -> Path | None:
    """The file of the profile selected by ASTRO_COMPUTE or by compute.yaml; None: there is neither.

    Raises:
        UserError: ASTRO_COMPUTE names a missing file; lists the profiles that ship.
    """
    chosen = os.environ.get("ASTRO_COMPUTE", "")
    if not chosen:
        own = home_root() / OWN
        return own if own.is_file() else None
    for path in (COMPUTE / f"{chosen}.yaml", Path(chosen), home_root() / chosen):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in COMPUTE.glob("*.yaml")))
    raise UserError(f"ASTRO_COMPUTE {chosen!r}: no such compute profile or file; available: {known}")


def load_compute(path: Path | None = None) -> Compute:
    """The profile in `path`, else the selected one, else one process. `check_machine` compares it with the machine.

    Raises:
        UserError: unknown or invalid keys, or the accelerate file is missing; every fault with file, line and field.
    """
    path = path or compute_file()
    if path is None:
        return Compute()
    content = read_yaml(path)
    try:
        compute = Compute.model_validate(plain(content))
    except ValidationError as error:
        raise UserError("\n       ".join(faults_of(error, content, path, "compute", Compute))) from None
    if compute.accelerate:
        check_accelerate(compute, path)
    return compute


def check_accelerate(compute: Compute, path: Path) -> None:
    """Check that the accelerate file exists and shards as `strategy` says.

    Raises:
        UserError: it is missing, belongs to another strategy, or names a DeepSpeed file that is missing.
    """
    file = Path(compute.accelerate)
    if not file.is_file():
        raise UserError(
            f"{path}: accelerate: {file}: no such file; the files that ship with the project are in compute/accelerate"
        )
    content = plain(read_yaml(file))
    kind = content.get("distributed_type")
    if compute.strategy == "fsdp2":
        version = (content.get("fsdp_config") or {}).get("fsdp_version")
        if kind != "FSDP" or version != 2:
            raise UserError(f"{path}: strategy fsdp2, but {file} has distributed_type {kind}, fsdp_version {version}")
        return
    settings = content.get("deepspeed_config") or {}
    named = settings.get("deepspeed_config_file")
    if kind != "DEEPSPEED" or not (named or settings.get("zero_stage") == 3):
        raise UserError(
            f"{path}: strategy zero3, but {file} has distributed_type {kind}, zero_stage {settings.get('zero_stage')}"
        )
    if named and not Path(named).is_file():
        raise UserError(f"{file}: deepspeed_config_file: {named}: no such file")


def check_machine(compute: Compute, gpus: int) -> None:
    """Check that this machine can run the profile's processes.

    Args:
        gpus: number of GPUs that this process sees.

    Raises:
        UserError: there are too few GPUs, or a package or the address of machine 0 is missing.
    """
    on_gpu = compute.device == "gpu" or compute.strategy in ("fsdp2", "zero3")
    needed = plural(compute.processes, "process needs a GPU", "processes need one GPU each")
    if on_gpu and gpus < compute.processes:
        raise UserError(
            f"compute profile: {needed}, but {plural(gpus, 'is visible', 'are visible')}; choose a smaller "
            "profile (ASTRO_COMPUTE), or check CUDA_VISIBLE_DEVICES"
        )
    if compute.device == "auto" and 0 < gpus < compute.processes:
        raise UserError(
            f"compute profile: {needed}, but this machine has {gpus}; set device: cpu to train without GPUs"
        )
    if compute.strategy == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            "compute profile: strategy zero3 needs the package deepspeed (extra deepspeed); install it, or use fsdp2"
        )
    if compute.machines > 1 and not rendezvous(compute):
        raise UserError(
            f"compute profile: {compute.machines} machines, but the address of machine 0 is not set; set "
            "rendezvous.address or ASTRO_RENDEZVOUS"
        )


def rendezvous(compute: Compute) -> str:
    """Address of machine 0; "": none is given."""
    return os.environ.get("ASTRO_RENDEZVOUS") or compute.rendezvous.address


def split_batch(batch: int, micro: int, world: int, name: str) -> tuple[int, int]:
    """Divide a step of `batch` sequences over `world` processes: (per device and pass, accumulated passes).

    Args:
        micro: largest number per device and pass; 0: the device's whole part at once.
        name: name of the batch parameter, for the message.

    Raises:
        UserError: the processes would get unequal parts, or a part is not a multiple of `micro`.
    """
    if batch % world:
        raise UserError(
            f"{name}: {world} processes cannot share a batch of {batch} equally; change the batch or "
            "the compute profile"
        )
    share = batch // world
    if micro and share % micro and micro < share:
        raise UserError(
            f"{name}: a batch of {batch} is {share} for each of {world} processes, and the compute profile's "
            f"micro_batch {micro} does not divide that"
        )
    return (share, 1) if not micro or micro >= share else (micro, share // micro)


def identity(compute: Compute) -> list:
    """The part of the compute profile that a checkpoint depends on (strategy, world size). Included in the work folder's key;
    empty for a single process.
    """
    return [] if compute.strategy == "none" else [compute.strategy, compute.world]
