"""Packs several traces into a row of fixed length, so that no trace attends to another.

Each trace has its own positions, starting at 0. transformers derives the attention mask from the positions, for SDPA and for
flash attention (tests/training/test_sft_scale.py compares the loss with that of single rows).
TRL's own packing flattens a batch to one row, which needs flash attention and stalls on a CPU.
"""

import bisect
import random
from collections.abc import Sequence

import torch

from astro.training.step_sampler import IGNORED


def fit(lengths: Sequence[int], capacity: int, *, seed: int) -> list[list[int]]:
    """Best-fit decreasing: the longest trace first, each into the fullest row that has room for it.

    Traces of equal length are taken in random order, because those of one problem would otherwise share a row.

    Args:
        lengths: tokens of each trace, at most `capacity`.

    Returns:
        The indices of the traces in each row.
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
    """Pack examples into rows of up to `capacity` tokens: input_ids, labels and position_ids, all of equal length.

    The first token of a trace has no loss, as in an unpacked row, because no token precedes it.
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
    """Collates packed rows. The padding on the right is a sequence of its own, so no mask is needed."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Each tensor has shape (rows, tokens of the longest row)."""
        width = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            missing = width - len(row["input_ids"])
            batch["input_ids"].append([*row["input_ids"], *[self.pad_token_id] * missing])
            batch["labels"].append([*row["labels"], *[IGNORED] * missing])
            batch["position_ids"].append([*row["position_ids"], *range(missing)])
        return {key: torch.tensor(values) for key, values in batch.items()}
