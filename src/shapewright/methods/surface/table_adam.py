"""Adam for the tables of a hash grid, of which a batch touches only some entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from shapewright.kernels.cpu.adam import adam_step


class TableAdam(torch.optim.Optimizer):
    """Take Adam steps (arXiv:1412.6980, algorithm 1) that leave entries without a gradient alone.

    Most entries of a table lie where the batch has no point: they keep
    value and averages, as in Instant NGP (arXiv:2201.05989, section 4).

    Args:
        tables: The parameters.
        lr: Learning rate.
        betas: Decay of the two averages.
        eps: Offset of the denominator.
    """

    def __init__(self, tables: Iterable[Tensor], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step.

        Raises:
            ValueError: if a closure is given: none is called.
        """
        if closure is not None:
            raise ValueError("TableAdam takes no closure.")
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step_table(table, table.grad, group)

    def _step_table(self, table: Tensor, slope: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state |= {"step": torch.tensor(0.0), "mean": torch.zeros_like(table), "square": torch.zeros_like(table)}
        state["step"] += 1
        (beta1, beta2), count = group["betas"], float(state["step"])
        mean, square = state["mean"], state["square"]
        corrections = 1.0 / (1.0 - beta1**count), 1.0 / (1.0 - beta2**count)
        if table.is_cuda:
            touched = slope != 0
            mean += touched * (1.0 - beta1) * (slope - mean)
            square += touched * (1.0 - beta2) * (slope.square() - square)
            table -= touched * group["lr"] * mean * corrections[0] / ((square * corrections[1]).sqrt() + group["eps"])
        else:
            arrays = [array.detach().view(-1).numpy() for array in (table, slope, mean, square)]
            numbers = (group["lr"], beta1, beta2, group["eps"], 0.0, *corrections)
            adam_step(*arrays, *(arrays[0].dtype.type(number) for number in numbers), 0, table.numel())
