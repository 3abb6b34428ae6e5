"""Codes of new shapes: the decoder stays as it is, the code moves (DeepSDF, arXiv:1901.05103, eq. 10)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.fields.latent_table import CodePrior
from shapewright.methods.deep_sdf.config import FitConfig
from shapewright.methods.deep_sdf.model import FoldedDecoder, LayerWeights, conditions, evaluate
from shapewright.methods.deep_sdf.observations import Bounds, draw

RANKING_POINTS = 512
SELECTION_POINTS = 4096
PUBLISHED_CODE_STD, PUBLISHED_PENALTY, PUBLISHED_CLAMP = 0.01, 1e-4, 0.1
REFINED_LAYERS = 3
REFINED_WEIGHTS = ("hidden", "position", "bias")


@dataclass(frozen=True)
class FitContext:
    """Gather what fitting needs beside the observations.

    Args:
        decoder: The frozen decoder.
        training_codes: Codes of the training shapes, to start from.
        clamp: Distances beyond this count as this.
        dtype: Type of the hidden layers' products.
        seed: Start of all random numbers.
    """

    decoder: FoldedDecoder
    training_codes: Float[Tensor, "shapes code"]
    clamp: float = 0.1
    dtype: torch.dtype = torch.float32
    seed: int = 0

    @cached_property
    def prior(self) -> CodePrior:
        """Return where the training codes lie."""
        return CodePrior.of(self.training_codes)


@dataclass(frozen=True)
class Fit:
    """Hold the fitted codes of several shapes, the best first.

    Args:
        codes: For each shape its hypotheses.
        losses: Their data losses on the same points.
        start_losses: Data losses of all starts after their first iterations.
        iterations: Steps made.
        positive_share: Share of predictions above zero at the points of the data: a sign of collapse at 0 or 1.
    """

    codes: Float[Tensor, "shapes hypotheses code"]
    losses: Float[Tensor, "shapes hypotheses"]
    start_losses: Float[Tensor, "shapes starts"]
    iterations: int
    positive_share: Float[Tensor, " shapes"]


def fit_codes(
    context: FitContext, shapes: Sequence[Sequence[Bounds]], config: FitConfig, num_hypotheses: int = 1
) -> Fit:
    """Return the codes that explain what is known of each shape.

    Args:
        context: Decoder, training codes.
        shapes: For each shape the groups of its bounds.
        config: Iterations, starts, rates, prior.
        num_hypotheses: Starts that are followed to the end.

    Raises:
        ValueError: if ``num_hypotheses`` exceeds the number of starts.
    """
    if not 1 <= num_hypotheses <= config.starts:
        raise ValueError(f"num_hypotheses must lie in [1, {config.starts}], got {num_hypotheses}.")
    generator = torch.Generator().manual_seed(context.seed)
    codes = _starts(context, shapes, config.starts, generator)
    early = min(config.start_iterations, config.iterations)
    codes = _descend(context, shapes, codes, (0, early), config, generator)
    start_losses, _ = _select(context, shapes, codes)
    best = start_losses.argsort(dim=1)[:, :num_hypotheses]
    codes = codes.gather(1, best[..., None].expand(-1, -1, codes.shape[2]))
    codes = _descend(context, shapes, codes, (early, config.iterations), config, generator)
    losses, positive = _select(context, shapes, codes)
    order = losses.argsort(dim=1)
    codes = codes.gather(1, order[..., None].expand(-1, -1, codes.shape[2]))
    return Fit(codes, losses.gather(1, order), start_losses, config.iterations, positive.gather(1, order)[:, 0])


def fit_published(context: FitContext, samples: Sequence[Float[Tensor, "n 4"]], config: FitConfig) -> Fit:
    """Return codes as the published program finds them (facebookresearch/DeepSDF, ``reconstruct.py``).

    The code starts near zero. Each iteration takes a random run of the rows, shuffled once: half of the samples from
    outside and half from inside. The rate falls to a tenth after half of the iterations, the penalty is the mean
    square of the code, and the clamp is 0.1 whatever the training used. A side with too few rows is drawn with
    replacement; the original crashes on the outer one.

    Args:
        context: Decoder; the training codes are not used.
        samples: Positions and distances of each shape.
        config: Iterations, samples an iteration, rate.

    Raises:
        ValueError: if a shape has no sample on one side.
    """
    generator = torch.Generator().manual_seed(context.seed)
    results = [_fit_one_published(context, rows, config, generator) for rows in samples]
    codes, losses, positive = zip(*results, strict=True)
    found = torch.stack(losses)[:, None]
    return Fit(torch.stack(codes)[:, None], found, found, config.iterations, torch.stack(positive))


def _fit_one_published(
    context: FitContext, rows: Float[Tensor, "n 4"], config: FitConfig, generator: torch.Generator
) -> tuple[Float[Tensor, " code"], Float[Tensor, ""], Float[Tensor, ""]]:
    half = config.samples // 2
    sides = []
    for side in (rows[rows[:, 3] > 0], rows[rows[:, 3] <= 0]):
        if not len(side):
            raise ValueError("The published fit needs samples on both sides of the surface.")
        sides.append(side[torch.randperm(len(side), generator=generator)])
    length = context.training_codes.shape[1]
    code = (PUBLISHED_CODE_STD * torch.randn(1, length, generator=generator)).to(rows.device).requires_grad_()
    optimizer = torch.optim.Adam([code], lr=config.rate)
    for iteration in range(config.iterations):
        optimizer.param_groups[0]["lr"] = config.rate * (0.1 if iteration >= max(config.iterations // 2, 1) else 1.0)
        batch = torch.cat([_random_run(side, half, generator) for side in sides])
        predicted = context.decoder(batch[None, :, :3].contiguous(), code, context.dtype)[0]
        error = predicted.clamp(-PUBLISHED_CLAMP, PUBLISHED_CLAMP) - batch[:, 3].clamp(
            -PUBLISHED_CLAMP, PUBLISHED_CLAMP
        )
        data_loss = error.abs().mean()
        optimizer.zero_grad(set_to_none=True)
        (data_loss + PUBLISHED_PENALTY * code.square().mean()).backward()
        optimizer.step()
    return code.detach()[0], data_loss.detach(), (predicted.detach() > 0).float().mean()


def _random_run(rows: Float[Tensor, "n 4"], count: int, generator: torch.Generator) -> Float[Tensor, "count 4"]:
    """Return consecutive rows from a random place; with too few of them, random rows with replacement."""
    if len(rows) <= count:
        return rows[torch.randint(len(rows), (count,), generator=generator)]
    start = int(torch.randint(len(rows) - count, (), generator=generator))
    return rows[start : start + count]


def _starts(
    context: FitContext, shapes: Sequence[Sequence[Bounds]], count: int, generator: torch.Generator
) -> Float[Tensor, "shapes starts code"]:
    """Return the mean code, the training codes nearest by the data, and for a quarter of the starts random ones."""
    random = count // 4
    nearest = min(max(count - 1 - random, 0), len(context.training_codes))
    points = draw(shapes, RANKING_POINTS, generator)
    candidates = context.training_codes
    starts = []
    for index in range(len(shapes)):
        row = context.prior.mean[None]
        if nearest:
            repeated = points.points[index].expand(len(candidates), -1, -1)
            with torch.no_grad():
                predicted = context.decoder(repeated, candidates, context.dtype)
            losses = points.only(index).loss(predicted, context.clamp)
            row = torch.cat((row, candidates[losses.argsort()[:nearest]]))
        starts.append(torch.cat((row, context.prior.draw(count - len(row), generator, 0.5))))
    return torch.stack(starts)


def _descend(
    context: FitContext,
    shapes: Sequence[Sequence[Bounds]],
    codes: Float[Tensor, "shapes starts code"],
    span: tuple[int, int],
    config: FitConfig,
    generator: torch.Generator,
) -> Float[Tensor, "shapes starts code"]:
    """Return the codes after some iterations of Adam; the rate falls as a cosine within the span."""
    num_shapes, starts, length = codes.shape
    flat = codes.reshape(-1, length).clone().requires_grad_()
    optimizer = torch.optim.Adam([flat], lr=config.rate)
    first, end = span
    for iteration in range(first, end):
        share = (iteration - first) / max(end - first, 1)
        optimizer.param_groups[0]["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * share))
        drawn = draw(shapes, config.samples, generator).repeated(starts)
        predicted = context.decoder(drawn.points, flat, context.dtype)
        loss = drawn.loss(predicted, context.clamp) + config.prior * context.prior.energy(flat)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
    return flat.detach().reshape(num_shapes, starts, length)


@torch.no_grad()
def _select(
    context: FitContext, shapes: Sequence[Sequence[Bounds]], codes: Float[Tensor, "shapes starts code"]
) -> tuple[Float[Tensor, "shapes starts"], Float[Tensor, "shapes starts"]]:
    """Return data loss and share of positive predictions of every code, on the same points for all of a shape."""
    drawn = draw(shapes, SELECTION_POINTS, torch.Generator().manual_seed(context.seed + 1))
    losses, positive = [], []
    for start in range(codes.shape[1]):
        predicted = context.decoder(drawn.points, codes[:, start], context.dtype)
        losses.append(drawn.loss(predicted, context.clamp))
        positive.append((predicted > 0).float().mean(dim=1))
    return torch.stack(losses, dim=1), torch.stack(positive, dim=1)


def refine(
    context: FitContext, groups: Sequence[Bounds], code: Float[Tensor, " code"], config: FitConfig
) -> tuple[FoldedDecoder, Float[Tensor, " code"]]:
    """Fit the last layers to one shape together with its code.

    Returns:
        A decoder of this shape alone, and its code.
    """
    generator = torch.Generator().manual_seed(context.seed)
    layers = list(context.decoder.layers)
    first = max(len(layers) - REFINED_LAYERS, 0)
    free: list[Tensor] = [code.clone().requires_grad_()]
    for index in range(first, len(layers)):
        layers[index], moved = _freed(layers[index])
        free += moved
    optimizer = torch.optim.Adam(
        [{"params": free[:1], "lr": config.rate}, {"params": free[1:], "lr": config.refine_rate}]
    )
    for iteration in range(config.refine_iterations):
        share = 0.5 * (1 + math.cos(math.pi * iteration / config.refine_iterations))
        for group, rate in zip(optimizer.param_groups, (config.rate / 4, config.refine_rate), strict=True):
            group["lr"] = rate * share
        drawn = draw([groups], config.samples, generator)
        added = conditions(layers, free[0][None])
        predicted = evaluate(context.decoder.config, layers, drawn.points, added, context.dtype)
        optimizer.zero_grad(set_to_none=True)
        drawn.loss(predicted, context.clamp).sum().backward()
        optimizer.step()
    refined = FoldedDecoder(context.decoder.config, [layer.detached() for layer in layers])
    return refined, free[0].detach()


def changed_weights(decoder: FoldedDecoder) -> dict[str, Tensor]:
    """Return the weights that ``refine`` changed, by layer and name, for a file."""
    first = max(len(decoder.layers) - REFINED_LAYERS, 0)
    return {
        f"{index}.{name}": value.cpu()
        for index in range(first, len(decoder.layers))
        for name in REFINED_WEIGHTS
        if (value := getattr(decoder.layers[index], name)) is not None
    }


def with_weights(decoder: FoldedDecoder, changed: Mapping[str, Tensor]) -> FoldedDecoder:
    """Return a decoder with the weights that ``changed_weights`` returned in place of its own."""
    layers = list(decoder.layers)
    for key, value in changed.items():
        index, _, name = key.partition(".")
        named: dict[str, Any] = {name: value.to(layers[int(index)].bias)}
        layers[int(index)] = replace(layers[int(index)], **named)
    return FoldedDecoder(decoder.config, layers)


def _freed(layer: LayerWeights) -> tuple[LayerWeights, list[Tensor]]:
    """Return a copy of a layer whose weights collect gradients, and these weights."""
    parts = {
        name: getattr(layer, name).clone().requires_grad_()
        for name in REFINED_WEIGHTS
        if getattr(layer, name) is not None
    }
    return replace(layer, **parts), list(parts.values())
