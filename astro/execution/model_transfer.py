"""Access to a model for workers that may not share the driver's disk. It is read from its path or, if missing, transferred."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astro.files import digest
from astro.inference.engine import EngineError

TRANSFER_BYTES = 4 * 2**30
"""Largest model that is transferred. Larger models belong on a disk that all nodes share."""


@dataclass(frozen=True)
class TransferredModel:
    """A model folder that a worker can open.

    Attributes:
        folder: absolute path on the driver's machine.
        sizes: (name below the folder, bytes) of each file.
        blobs: a handle for the content of each file; (): the model is not transferred.
    """

    folder: Path
    sizes: tuple[tuple[str, int], ...]
    blobs: tuple[Any, ...]

    def at(self, get: Callable[[Any], bytes]) -> Path:
        """Path of the model on this machine.

        Args:
            get: returns the content of a handle.

        Raises:
            EngineError: the model is not here and was not transferred.
        """
        if all((self.folder / name).is_file() and (self.folder / name).stat().st_size == n for name, n in self.sizes):
            return self.folder
        if not self.blobs:
            raise EngineError(
                f"{self.folder} differs on node {os.uname().nodename} from the driver's copy; models larger than "
                f"{TRANSFER_BYTES / 2**30:.0f} GiB must be on a disk that the nodes share"
            )
        target = Path(tempfile.gettempdir()) / f"astro-model-{digest(str(self.folder), self.sizes)}-{os.getpid()}"
        shutil.rmtree(target, ignore_errors=True)
        for (name, _), blob in zip(self.sizes, self.blobs, strict=True):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(get(blob))
        return target


def transfer(folder: Path, put: Callable[[bytes], Any], *, bring: bool = True) -> TransferredModel:
    """Prepare a model for workers on other machines.

    Args:
        put: stores the content of a file and returns a handle for it.
        bring: False: the workers share the disk, so nothing is transferred.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    sizes = tuple((str(p.relative_to(folder)), p.stat().st_size) for p in files)
    small = bring and sum(n for _, n in sizes) <= TRANSFER_BYTES
    return TransferredModel(folder.resolve(), sizes, tuple(put(p.read_bytes()) for p in files) if small else ())
