"""Several traces in a row of fixed length, none of which sees another.

Each trace keeps its own positions, from 0, and attention is cut where they start again (transformers derives the mask from the
positions, for SDPA and for flash attention; tests/training/test_sft_scale.py compares the loss with that of single rows).
TRL's own packing flattens a batch to one row, which needs flash attention and stalls on a CPU.
"""

import bisect
import random
from collections.abc import Sequence

import torch

from astro.training.step_sampler import IGNORED


def fit(lengths: Sequence[int], capacity: int, *, seed: int) -> list[list[int]]:
    """Best fit decreasing: the longest first, each into the fullest row that has room for it.

    Traces of equal length are taken in random order, or those of one problem would share a row.

    Args:
        lengths: tokens of each trace, at most `capacity`.

    Returns:
        The traces of each row.
    """
    order = list(range(len(lengths)))
    random.Random(f"packing/{seed}").shuffle(order)
    order.sort(key=lambda i: -lengths[i])
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for i in order:
        at = bisect.bisect_left(room, (lengths[i], 0))
        if at == len(room):
            rows.append([])
            left, row = capacity, len(rows) - 1
        else:
            left, row = room.pop(at)
        rows[row].append(i)
        bisect.insort(room, (left - lengths[i], row))
    return rows


def pack(examples: Sequence[dict[str, list[int]]], capacity: int, *, seed: int) -> list[dict[str, list[int]]]:
    """Rows of up to `capacity` tokens: input_ids, labels and position_ids, all of one length.

    The first token of a trace has no loss: unpacked it has none either, for nothing stands before it.
    """
    rows = []
    for row in fit([len(example["input_ids"]) for example in examples], capacity, seed=seed):
        packed: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
        for i in row:
            packed["input_ids"] += examples[i]["input_ids"]
            packed["labels"] += [IGNORED, *examples[i]["labels"][1:]]
            packed["position_ids"] += range(len(examples[i]["input_ids"]))
        rows.append(packed)
    return rows


class PackedRows:
    """Collates packed rows: padded on the right with tokens that are a sequence of their own, so no mask is needed."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Each value of shape (rows, tokens of the longest)."""
        width = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            missing = width - len(row["input_ids"])
            batch["input_ids"].append([*row["input_ids"], *[self.pad_token_id] * missing])
            batch["labels"].append([*row["labels"], *[IGNORED] * missing])
            batch["position_ids"].append([*row["position_ids"], *range(missing)])
        return {key: torch.tensor(values) for key, values in batch.items()}
