"""A tiny method for tests of the engine: linear regression with Adam and its own generator."""

from __future__ import annotations

import torch
from torch import Tensor


class ToyMethod:
    """Fit three weights to noisy samples; ``bad_steps`` say at which steps the loss is not finite."""

    def __init__(self, seed: int = 0, bad_steps: range = range(0)) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.weights], lr=0.05)
        self.bad_steps = bad_steps

    def next_batch(self, moment):
        return torch.randn(8, 3, generator=self.generator)

    def train_step(self, batch, moment):
        if moment.step in self.bad_steps:
            return {"loss": float("nan"), "skipped": 1.0}
        target = batch @ torch.tensor([1.0, -2.0, 0.5]) * (1.0 - moment.progress)
        loss = ((batch @ self.weights - target) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"].get(0, {})
        tensors = {f"adam.{name}": value for name, value in state.items()}
        return tensors | {"weights": self.weights, "generator": self.generator.get_state()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.weights.copy_(tensors["weights"])
        self.generator.set_state(tensors["generator"])
        state = {name.removeprefix("adam."): value for name, value in tensors.items() if name.startswith("adam.")}
        if state:
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": {0: state}})
