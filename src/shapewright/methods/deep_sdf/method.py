"""The auto-decoder: a decoder and one code a shape, trained together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from shapewright.engine.device import half_precision
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.fields.latent_table import LatentTable
from shapewright.methods.deep_sdf.config import DeepSdfConfig, LossConfig, RateConfig
from shapewright.methods.deep_sdf.model import Decoder
from shapewright.methods.deep_sdf.samples import Batch, SampleStore

CURRICULUM_EPOCHS = (200, 600, 1000)
CURRICULUM_TOLERANCES = (0.025, 0.01, 0.0025, 0.0)
CURRICULUM_WEIGHTS = (0.0, 0.1, 0.2, 0.5)
FIRST_GROWN, GROWTH_EPOCHS = 5, 200
OFF_SURFACE_SLOPE = 100.0


def learning_rate(config: RateConfig, epoch: int, progress: float) -> float:
    """Return the learning rate of an epoch, counted from 1 (DeepSDF's schedules), or of the run's progress (cosine)."""
    if config.kind == "step":
        return config.initial * config.factor ** (epoch // config.interval)
    if config.kind == "warmup":
        share = min(epoch / config.length, 1.0)
        return config.initial + share * (config.final - config.initial)
    if config.kind == "cosine":
        return config.final + (config.initial - config.final) * 0.5 * (1 + math.cos(math.pi * progress))
    return config.initial


def sdf_loss(
    config: LossConfig,
    predicted: Float[Tensor, "shapes n"],
    sdf: Float[Tensor, "shapes n"],
    epoch: int,
    clamp_prediction: bool = True,
) -> Float[Tensor, "shapes n"]:
    """Return the loss of each sample.

    ``l1`` is DeepSDF's eq. 4. ``curriculum`` tolerates errors up to ``eps`` and weights samples on the wrong side of
    the surface's level by ``1 + mu`` (Curriculum DeepSDF, eq. 4-6); both change with the epoch. ``sal`` compares
    absolute values (SAL, eq. 3), ``igr`` distances of any size.

    Args:
        config: The loss.
        predicted: The decoder's distances.
        sdf: The true ones.
        epoch: Number of the epoch, from 1.
        clamp_prediction: Clamp both sides; a field that starts beyond the clamp gets no gradient then.
    """
    target = sdf.clamp(-config.clamp, config.clamp)
    if config.kind == "sal":
        return (predicted.abs() - target.abs()).abs()
    if config.kind == "igr":
        return (predicted - sdf).abs()
    if clamp_prediction:
        predicted = predicted.clamp(-config.clamp, config.clamp)
    if config.kind == "l1":
        return (predicted - target).abs()
    stage = sum(epoch >= end for end in CURRICULUM_EPOCHS)
    hard = 1 + CURRICULUM_WEIGHTS[stage] * target.sign() * (target - predicted).sign()
    return functional.relu((predicted - target).abs() - CURRICULUM_TOLERANCES[stage]) * hard


def bypassed(config: DeepSdfConfig, epoch: int) -> tuple[float, ...]:
    """Return the share of each layer's input that goes past it: 1 for layers that have not joined yet.

    The sixth layer joins after 200 epochs, the seventh after 600, the eighth after 1000, each over 200 epochs
    (Curriculum DeepSDF, arXiv:2003.08593, section 3.3).
    """
    if not config.loss.grow:
        return ()
    shares = [0.0] * (len(config.network.widths) + 1)
    for layer, start in zip(range(FIRST_GROWN, len(shares) - 1), CURRICULUM_EPOCHS, strict=False):
        shares[layer] = min(max(1.0 - (epoch - start) / GROWTH_EPOCHS, 0.0), 1.0)
    return tuple(shares) if any(shares) else ()


def shape_penalties(
    config: LossConfig, points: Float[Tensor, "shapes n 3"], predicted: Float[Tensor, "shapes n"], sdf: Tensor
) -> Float[Tensor, ""]:
    """Return the sum over the samples of the eikonal and the off-surface term, weighted."""
    total = predicted.new_zeros(())
    if config.off_surface:
        far = sdf.abs() > config.clamp
        total = total + config.off_surface * torch.where(far, (-OFF_SURFACE_SLOPE * predicted.abs()).exp(), 0.0).sum()
    if config.eikonal:
        (gradient,) = torch.autograd.grad(predicted.sum(), points, create_graph=True)
        total = total + config.eikonal * (gradient.norm(dim=-1) - 1).square().sum()
    return total


class DeepSdfMethod:
    """Train a decoder and the codes of a list of shapes.

    Args:
        config: All settings.
        store: Samples of the shapes; none: the method is only evaluated.
        num_shapes: Number of codes.
        device: Where to compute.
        seed: Start of all random numbers.
    """

    def __init__(
        self, config: DeepSdfConfig, store: SampleStore | None, num_shapes: int, device: torch.device, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.store = store
        self.device = device
        self.decoder = Decoder(config.network, generator).to(device)
        codes = LatentTable.random(num_shapes, config.network.code_length, config.codes.init_std, generator)
        self.table = LatentTable(codes.to(device), config.codes.bound, config.optim.row_wise)
        self.optimizer = torch.optim.Adam(self.decoder.parameters(), lr=1.0)
        self._dtype = half_precision(config.optim.precision, device)
        self._seed = seed

    @property
    def codes(self) -> Float[Tensor, "shapes code"]:
        """Return the codes of the training shapes."""
        return self.table.codes

    def epoch(self, step: int) -> int:
        """Return the number of the epoch of a step, from 1."""
        if self.store is None:
            return 1
        return 1 + step // self.store.steps_per_epoch(self.config.data.shapes_per_batch)

    def next_batch(self, moment: Moment) -> Batch:
        """Return the samples of the next step."""
        if self.store is None:
            raise ValueError("The method was opened without samples.")
        data = self.config.data
        return self.store.batch(moment.step, data.shapes_per_batch, data.samples_per_shape).to(self.device)

    def train_step(self, batch: Batch, moment: Moment) -> dict[str, float | Tensor]:
        """Make one step (DeepSDF, arXiv:1901.05103, eq. 9, with a norm in place of its square, as the code has it)."""
        config, epoch = self.config, self.epoch(moment.step)
        self.decoder.train()
        torch.manual_seed(self._seed + moment.step)  # dropout
        codes = self.table.rows(batch.shapes)
        self.optimizer.zero_grad(set_to_none=True)
        values = self._gradients(batch, codes, epoch, moment.progress >= config.loss.target_only_share)
        if not math.isfinite(values["loss"]):
            return {**values, "skipped": 1.0}
        if config.optim.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), config.optim.gradient_clip)
        rates = [
            learning_rate(rate, epoch, moment.progress) for rate in (config.optim.decoder_rate, config.optim.code_rate)
        ]
        self.optimizer.param_groups[0]["lr"] = rates[0]
        self.optimizer.step()
        if codes.grad is not None:
            self.table.step(batch.shapes, codes.grad, rates[1])
            if config.codes.on_sphere and config.codes.bound is not None:
                self.table.put_on_sphere(batch.shapes, config.codes.bound)
        norms = torch._foreach_norm(list(self.decoder.parameters()))
        names = (name for name, _ in self.decoder.named_parameters())
        by_name = {f"norm.{name}": norm.detach() for name, norm in zip(names, norms, strict=True)}
        return {**values, "decoder_rate": rates[0], "code_rate": rates[1], **by_name}

    def _gradients(
        self, batch: Batch, codes: Float[Tensor, "shapes code"], epoch: int, clamp_prediction: bool
    ) -> dict[str, float]:
        """Add up the gradients of the loss over the parts of a batch; return its terms."""
        config, count = self.config, batch.sdf.numel()
        ramp = min(1.0, epoch / max(config.codes.penalty_ramp, 1))
        data_loss = code_length = positive = clamped = 0.0
        weight = config.codes.penalty * ramp
        for part in torch.arange(len(batch.shapes)).tensor_split(min(config.optim.batch_split, len(batch.shapes))):
            points = batch.points[part].requires_grad_(config.loss.eikonal > 0)
            predicted = self.decoder(points, codes[part], self._dtype, bypassed(config, epoch))
            loss = sdf_loss(config.loss, predicted, batch.sdf[part], epoch, clamp_prediction).sum() / count
            size = codes[part].norm(dim=1) if config.codes.penalty_kind == "norm" else codes[part].square().mean(dim=1)
            length = size.sum() / len(batch.shapes)
            extra = shape_penalties(config.loss, points, predicted, batch.sdf[part]) / count
            (loss + weight * length + extra).backward()
            data_loss += float(loss.detach())
            code_length += float(length.detach())
            positive += float((predicted.detach() > 0).sum()) / count
            clamped += float((predicted.detach().abs() > config.loss.clamp).sum()) / count
        total = data_loss + weight * code_length
        return {
            "loss": total,
            "sdf_loss": data_loss,
            "code_norm": code_length,
            "positive_share": positive,
            "clamped_share": clamped,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        tensors = {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        tensors |= {f"codes.{name}": value for name, value in self.table.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned.

        Raises:
            UserError: if the tensors belong to other settings.
        """
        groups: dict[str, dict[str, Tensor]] = {"decoder": {}, "codes": {}, "adam": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = value
        try:
            self.decoder.load_state_dict(groups["decoder"])
        except RuntimeError as error:
            raise UserError(
                "The checkpoint does not fit the settings of the run: its layers have other sizes.",
                "Restore config.json as the training wrote it.",
            ) from error
        self.table.load_state_dict(groups["codes"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["adam"].items():
            index, _, part = name.partition(".")
            states.setdefault(int(index), {})[part] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
