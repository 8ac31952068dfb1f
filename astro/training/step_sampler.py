"""Which examples make an optimizer step, and how a step is spread over processes and passes.

The trainers' own samplers depend on both: they group by length over the batch of one device, and fill the last step of an epoch
with examples of its start where it cannot be shared. Here a step is a function of (seed, epoch, step) alone, so two processes,
or one that accumulates, train on the same steps as one that takes a step in one pass, and a run that goes on takes the steps
that it would have taken.
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
"""Index of the row without loss that a process takes where a last, short step has too few rows for all."""


class Steps(Sampler[list[int]]):
    """Batches of row indices for one process: a step's rows in `passes` batches, then the next step's."""

    def __init__(self, lengths: Sequence[int], *, batch: int, micro: int, seed: int, rank: int = 0, world: int = 1):
        """lengths: tokens per row; batch: rows per step, in all; micro: rows per pass, in each of `world` processes."""
        self.lengths, self.batch, self.micro, self.seed = list(lengths), batch, micro, seed
        self.rank, self.world, self.epoch = rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0, that the next iteration goes over."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """The rows of this epoch: rows of like length beside each other, the groups at random.

        The draws are those of a trainer that draws from torch's own generator, seeded when it starts: a number by the data
        loader, then a permutation, each epoch.
        """
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        for _ in range(self.epoch):
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            torch.randperm(len(self.lengths), generator=generator)
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        return get_length_grouped_indices(self.lengths, self.batch, generator=generator)

    def passes(self, rows: int) -> int:
        """Passes of each process for a step of so many rows: the same for all, or they would wait for each other for ever."""
        share = -(-rows // self.world)
        return -(-share // self.micro)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            mine = rows[self.rank :: self.world]  # sorted by length: all get their part of the long ones
            for i in range(self.passes(len(rows))):
                yield mine[i * self.micro : (i + 1) * self.micro] or [NOTHING]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch)
        return whole * self.passes(self.batch) + self.passes(rest)


class Rows(Dataset):
    """The rows of a dataset by index, and a short one without loss at `NOTHING`."""

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
    """A data loader over `Steps` that is told the epoch, as the trainer tells it. Not to be shared out once more."""

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
    """The batches of this process.

    Args:
        arguments: the trainer's: seed, rank, world size, rows per pass.
        batch: rows per optimizer step, in all.
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
