"""The compute profile: where training runs. Read from a file that is no dep of any stage, so that a model trained on eight GPUs
and one trained on two have the same identity: what the mathematics depends on (the global batch) stands in params.yaml.

    ASTRO_COMPUTE=gpu-8-fsdp2 dvc repro       # compute/gpu-8-fsdp2.yaml; a path is taken too
    cp compute/cpu-2.yaml compute.yaml        # for good: git-ignored

Without either, training is one process, in the stage itself.
"""

import importlib.util
import os
from pathlib import Path

from pydantic import ValidationError

from astro.params import faults_of, plain, read_yaml
from astro.runtime import UserError, home_root
from schemas.compute import Compute

AFFECTS_RESULTS = False  # it says where training runs

COMPUTE = Path("compute")
OWN = Path("compute.yaml")
"""In the main checkout: the copies that DVC makes for queued experiments hold only what git tracks."""


def compute_file() -> Path | None:
    """The file of the profile chosen by ASTRO_COMPUTE or by compute.yaml; None: neither is there.

    Raises:
        UserError: ASTRO_COMPUTE names what is not there; says which profiles ship.
    """
    chosen = os.environ.get("ASTRO_COMPUTE", "")
    if not chosen:
        own = home_root() / OWN
        return own if own.is_file() else None
    for path in (COMPUTE / f"{chosen}.yaml", Path(chosen), home_root() / chosen):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in COMPUTE.glob("*.yaml")))
    raise UserError(f"ASTRO_COMPUTE {chosen!r}: no such compute profile, nor a file; there are: {known}")


def load_compute(path: Path | None = None) -> Compute:
    """The profile in `path`, else the chosen one, else one process. The machine is not looked at: see `check_machine`.

    Raises:
        UserError: unknown or unfitting keys, or the accelerate file is missing; every fault with file, line and field.
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
    """Whether the accelerate file is there and shards the way `strategy` says.

    Raises:
        UserError: it is missing, or for another strategy, or names a DeepSpeed file that is missing.
    """
    file = Path(compute.accelerate)
    if not file.is_file():
        raise UserError(f"{path}: accelerate: {file}: no such file; compute/accelerate holds those that ship")
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
    """Whether this machine can hold the profile's processes.

    Args:
        gpus: how many this process sees.

    Raises:
        UserError: too few GPUs, or a package or the address of machine 0 is missing.
    """
    on_gpu = compute.device == "gpu" or compute.strategy in ("fsdp2", "zero3")
    if on_gpu and gpus < compute.processes:
        raise UserError(
            f"compute profile: a GPU for each of {compute.processes} processes is needed, but {gpus} are in sight; "
            "take a smaller profile (ASTRO_COMPUTE), or CUDA_VISIBLE_DEVICES hides some"
        )
    if compute.device == "auto" and 0 < gpus < compute.processes:
        raise UserError(
            f"compute profile: {compute.processes} processes, one to a GPU, but this machine has {gpus}; "
            "device: cpu would keep off them"
        )
    if compute.strategy == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError("compute profile: strategy zero3 needs the package deepspeed (extra deepspeed), or take fsdp2")
    if compute.machines > 1 and not rendezvous(compute):
        raise UserError(
            f"compute profile: {compute.machines} machines, but no address of machine 0; set rendezvous.address or "
            "ASTRO_RENDEZVOUS"
        )


def rendezvous(compute: Compute) -> str:
    """Address of machine 0; "" where none is given."""
    return os.environ.get("ASTRO_RENDEZVOUS") or compute.rendezvous.address


def split_batch(batch: int, micro: int, world: int, name: str) -> tuple[int, int]:
    """How a step of `batch` sequences is spread over `world` processes: (per device and pass, passes accumulated).

    Args:
        micro: most per device and pass; 0: the device's whole share at once.
        name: the parameter of `batch`, for the message.

    Raises:
        UserError: the processes would get unequal shares, or a share is no multiple of `micro`.
    """
    if batch % world:
        raise UserError(f"{name}: a step of {batch} cannot be shared equally by {world} processes (compute profile)")
    share = batch // world
    if micro and share % micro and micro < share:
        raise UserError(
            f"{name}: a step of {batch} is {share} on each of {world} processes, which the compute profile's micro_batch "
            f"{micro} does not divide"
        )
    return (share, 1) if not micro or micro >= share else (micro, share // micro)


def identity(compute: Compute) -> list:
    """What a checkpoint can be gone on from by: part of a work folder's key. Empty for one process."""
    return [] if compute.strategy == "none" else [compute.strategy, compute.world]
