"""Selects the examples of each optimizer step and divides a step over processes and passes.

The trainers' own samplers depend on both: they group by length within the batch of one device, and pad the last step of
an epoch with examples from its start. Here a step depends only on (seed, epoch, step). Two processes, or gradient
accumulation, therefore train on the same steps as a single pass in one process, and a resumed run continues with the
same steps.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

if TYPE_CHECKING:
    from datasets import Dataset as HubDataset
    from transformers import TrainingArguments

IGNORED = -100
"""Label of a token without loss."""

NOTHING = -1
"""Index of a row without loss. A process takes it if a last, short step has too few rows for all processes."""


class Steps(Sampler[list[int]]):
    """Batches of row indices for one process: `passes` batches for each step."""

    def __init__(self, lengths: Sequence[int], *, batch: int, micro: int, seed: int, rank: int = 0, world: int = 1):
        """Create the sampler.

        Args:
            lengths: tokens per row.
            batch: rows per step, over all processes.
            micro: rows per pass in each of `world` processes.
        """
        self.lengths, self.batch, self.micro, self.seed = list(lengths), batch, micro, seed
        self.rank, self.world, self.epoch = rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, of the next iteration."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """The row order of this epoch: rows of similar length are adjacent, and the groups are in random order.

        The draws equal those of a trainer with torch's global generator, seeded at its start: each epoch, a number for
        the data loader, then a permutation.
        """
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        for _ in range(self.epoch):
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            torch.randperm(len(self.lengths), generator=generator)
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        return get_length_grouped_indices(self.lengths, self.batch, generator=generator)

    def passes(self, rows: int) -> int:
        """Passes of each process for a step with this many rows. All processes have the same number, else they would deadlock."""
        share = -(-rows // self.world)
        return -(-share // self.micro)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            mine = rows[self.rank :: self.world]  # rows are sorted by length, so all processes get some long ones
            for i in range(self.passes(len(rows))):
                yield mine[i * self.micro : (i + 1) * self.micro] or [NOTHING]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch)
        return whole * self.passes(self.batch) + self.passes(rest)


class Rows(Dataset):
    """Row access by index, with a short row without loss at `NOTHING`."""

    def __init__(self, dataset: "HubDataset") -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if index != NOTHING:
            return self.dataset[index]
        row = {key: values[:2] for key, values in self.dataset[0].items()}
        return row | {"labels": [IGNORED] * len(row["labels"])}


class Loader(DataLoader):
    """A data loader over `Steps` that passes on the trainer's epoch. It must not be distributed a second time."""

    def set_epoch(self, epoch: int) -> None:
        """See `Steps.set_epoch`."""
        assert isinstance(self.batch_sampler, Steps)
        self.batch_sampler.set_epoch(epoch)


def loader_of(
    dataset: "HubDataset",
    lengths: Sequence[int],
    collate: Callable[[list[Any]], Any],
    arguments: "TrainingArguments",
    *,
    batch: int,
) -> Loader:
    """The data loader of this process.

    Args:
        arguments: the trainer's arguments: seed, rank, world size, rows per pass.
        batch: rows per optimizer step, over all processes.
    """
    steps = Steps(
        lengths,
        batch=batch,
        micro=arguments.per_device_train_batch_size,
        seed=arguments.seed,
        rank=arguments.process_index,
        world=arguments.world_size,
    )
    return Loader(Rows(dataset), batch_sampler=steps, collate_fn=collate, pin_memory=False)
