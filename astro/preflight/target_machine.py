"""The hardware that a dry run assumes: the device and the compute profile, by name."""

from dataclasses import dataclass
from pathlib import Path

from astro.compute_profile import COMPUTE, compute_file, load_compute
from astro.preflight.memory import GIB
from astro.process import UserError
from schemas.compute_profile import Compute


@dataclass(frozen=True)
class Machine:
    """The hardware that a dry run assumes."""

    device: str
    memory: float
    """bytes of one GPU"""
    compute: Compute
    profile: str
    """name of the compute profile, for messages"""


def machine(device: str, memory_gb: dict[str, float], compute: str) -> tuple[Machine, list[str]]:
    """Look up the device and the compute profile by name. Also returns faults of the profile (missing accelerate config, bad
    keys).

    Args:
        compute: name of a profile, path of a file, or "": the one that ASTRO_COMPUTE or compute.yaml selects.

    Raises:
        UserError: rates.yaml does not know the device's memory.
    """
    if device not in memory_gb:
        raise UserError(f"rates.yaml: memory_gb: no device {device!r}; available: {', '.join(sorted(memory_gb))}")
    memory = memory_gb[device] * GIB
    try:
        path = compute_path(compute)
        return Machine(device, memory, load_compute(path), path.stem if path else "none: one process"), []
    except UserError as error:
        return Machine(device, memory, Compute(device="gpu"), f"{compute}, unreadable"), [str(error)]


def compute_path(name: str) -> Path | None:
    """The file of a compute profile.

    Raises:
        UserError: there is no such profile; lists those that ship.
    """
    if not name:
        return compute_file()
    for path in (COMPUTE / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in COMPUTE.glob("*.yaml")))
    raise UserError(f"no compute profile {name!r}; available: {known}")
