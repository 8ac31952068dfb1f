"""Measurements that outlive their run: what a model answered depends on the model and on what it was asked, not on the
experiment around it. An ablation that leaves a model as it was finds its answers here, and measures what is new.

They stand in work/eval/<key> of the main checkout, shared by all experiments; the newest `KEPT` stay.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from astro.execution.result_store import FILE, ResultStore
from astro.runtime import UserError, clear_folder, work_folder

R = TypeVar("R", bound=BaseModel)

KEPT = 40
"""Measurements kept; one of the default takes about 10 MB."""

POLL_S = 2.0


@contextlib.contextmanager
def shared_store(stage: str, key: str, record: type[R]) -> Iterator[ResultStore[R]]:
    """The results that are measured under `key` so far, to be completed.

    key: hash of all that determines them. Two processes that want the same: the second waits for the first.
    """
    with _locked(stage, key) as folder:
        store = ResultStore(folder / FILE, record)
        os.utime(store.path)  # used last
        with contextlib.closing(store):
            yield store


def prune(stage: str, home: Path, keep: int = KEPT) -> int:
    """Empty all but the `keep` that were used last. Returns how many; one in use stays."""
    found = sorted((home / "work" / stage).glob(f"*/{FILE}"), key=lambda p: (-p.stat().st_mtime_ns, str(p)))
    emptied = 0
    for path in found[keep:]:
        with contextlib.suppress(UserError), work_folder(stage, path.parent.name) as folder:
            clear_folder(folder)
            emptied += 1
    return emptied


@contextlib.contextmanager
def _locked(stage: str, key: str) -> Iterator[Path]:
    """The work folder; waits while another process holds it."""
    told = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder = stack.enter_context(work_folder(stage, key))
                break
            except UserError:
                if not told:
                    print(f"[{stage}] another run measures the same; waiting for it", flush=True)
                told = True
                time.sleep(POLL_S)
        yield folder
