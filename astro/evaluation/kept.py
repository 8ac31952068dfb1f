"""Measurements that outlive their run: what a model answered depends on the model and on what it was asked, not on the
experiment around it. An ablation that leaves a model as it was finds its answers here, and measures what is new.

They stand in work/eval/<key> of the main checkout, shared by all experiments; the newest `KEPT` stay.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from astro.runtime import UserError, clear_folder, read_jsonl, work_folder, write_jsonl

KEPT = 40
"""Measurements kept; one of the default takes about 10 MB."""

RECORDS = "records.jsonl"
POLL_S = 2.0


def measured(stage: str, key: str, contract: type[BaseModel], make: Callable[[], Iterable[BaseModel]]) -> list:
    """The records of `key`; made and kept first, where they are not there yet.

    key: hash of all that determines them. Two processes that want the same: the second waits for the first.
    """
    with _locked(stage, key) as folder:
        path = folder / RECORDS
        if path.exists():
            os.utime(path)  # used last
        else:
            write_jsonl(path, make())
        return list(read_jsonl(path, contract))


def prune(stage: str, home: Path, keep: int = KEPT) -> int:
    """Empty all but the `keep` that were used last. Returns how many; one in use stays."""
    found = sorted((home / "work" / stage).glob(f"*/{RECORDS}"), key=lambda p: (-p.stat().st_mtime_ns, str(p)))
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
