"""Cache of measurements, shared by all experiments. The answers of a model depend only on the model and the question, so an
ablation that leaves a model unchanged finds its answers here and measures only what is new.

The cache is the folder work/eval/<key> of the main checkout. The newest `KEPT` measurements are kept.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from astro.execution.result_store import FILE, ResultStore
from astro.process import UserError, clear_folder, work_folder

R = TypeVar("R", bound=BaseModel)

KEPT = 40
"""Number of measurements to keep. One of the default profile takes about 10 MB."""

POLL_S = 2.0


@contextlib.contextmanager
def shared_store(stage: str, key: str, record: type[R]) -> Iterator[ResultStore[R]]:
    """Open the store of results measured under `key`, to be completed.

    Args:
        key: hash of everything that determines the results. A second process with the same key waits for the first.
    """
    with _locked(stage, key) as folder:
        store = ResultStore(folder / FILE, record)
        os.utime(store.path)  # marks it as recently used
        with contextlib.closing(store):
            yield store


def prune(stage: str, home: Path, keep: int = KEPT) -> int:
    """Delete all but the `keep` most recently used measurements. Those in use stay. Returns the number of deleted ones."""
    found = sorted((home / "work" / stage).glob(f"*/{FILE}"), key=lambda p: (-p.stat().st_mtime_ns, str(p)))
    emptied = 0
    for path in found[keep:]:
        with contextlib.suppress(UserError), work_folder(stage, path.parent.name) as folder:
            clear_folder(folder)
            emptied += 1
    return emptied


@contextlib.contextmanager
def _locked(stage: str, key: str) -> Iterator[Path]:
    """Lock the work folder; wait while another process holds it."""
    told = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder = stack.enter_context(work_folder(stage, key))
                break
            except UserError:
                if not told:
                    print(f"[{stage}] another run is measuring the same; waiting for it", flush=True)
                told = True
                time.sleep(POLL_S)
        yield folder
