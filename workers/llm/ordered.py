"""TRL's SFT trainer that takes its rows in a curriculum's order. Imported where a training begins."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from workers.llm.curriculum import Order


class InOrder(torch.utils.data.Sampler[int]):
    """Groups one after the other, in every epoch; shuffled within, from seed and epoch, where the order says so.

    The trainer calls `set_epoch`, also when it resumes in the middle of one.
    """

    def __init__(self, groups: Sequence[Sequence[int]], seed: int, *, shuffled: bool) -> None:
        self._groups, self._seed, self._shuffled, self._epoch = groups, seed, shuffled, 0

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        for group in self._groups:
            if not self._shuffled:
                yield from group
                continue
            for place in torch.randperm(len(group), generator=generator).tolist():
                yield group[place]


class OrderedTrainer(SFTTrainer):  # type: ignore[misc]  # of which nobody tells the types
    """`order` None: TRL's own, which shuffles all rows in each epoch."""

    def __init__(self, *given: Any, order: Order | None, **named: Any) -> None:
        self._order = order
        super().__init__(*given, **named)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self._order is None:
            return super()._get_train_sampler(train_dataset)
        return InOrder(self._order.groups, self.args.seed, shuffled=self._order.shuffled)
