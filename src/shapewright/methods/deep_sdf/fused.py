"""All layers of the decoder as one function, with its derivative written out.

What autograd spends beside the products (views, copies between types, fresh memory for each layer) is two fifths of
a step in 16 bits. Here the points go through all layers in parts that stay in the cache, and what position and code
bring to a layer is one product: ``[x 1] [W_x; c]`` with the shape's condition ``c``. In bf16 the position is split
into a leading and a rest part (``x = x1 + x2``): its rounding would move all neurons together, where that of weights
and activations averages out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Numbers of a layer's output in a part: on the processor two megabytes in 16 bits, on a device enough to fill it.
CHUNK_NUMBERS = 1 << 20
DEVICE_CHUNK_NUMBERS = 1 << 27
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Stack:
    """Hold the weights of layers with ReLU between them, split by what they multiply.

    Args:
        hidden: For the outputs of the layer before; none in the first layer.
        position: For the position's features, where they enter; never in the last layer.
        added: What each shape gets on top: bias and the code's product.
        dropout: Share of a hidden layer's outputs set to zero.
        dtype: Type in which the hidden layers are multiplied.
        num_exact: Leading features that keep 16 significant bits in a type of 8.
    """

    hidden: Sequence[Float[Tensor, "out hidden"] | None]
    position: Sequence[Float[Tensor, "out features"] | None]
    added: Sequence[Float[Tensor, "shapes out"]]
    dropout: Sequence[float]
    dtype: torch.dtype
    num_exact: int = 3


def evaluate_stack(stack: Stack, features: Float[Tensor, "shapes n features"]) -> Float[Tensor, "shapes n"]:
    """Return the last layer's output; it can be derived once by the weights and ``added``, not by the features.

    Args:
        stack: The layers; the last has one output.
        features: The encoded positions.

    Raises:
        ValueError: if the features need a gradient.
    """
    tensors = [*stack.hidden[1:], *stack.position, *stack.added]
    if torch.is_grad_enabled():
        if features.requires_grad:
            raise ValueError("The fused layers have no derivative by the position.")
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            return _StackFunction.apply(stack, features, *tensors)
    return _Pass(stack, features).forward()


def drop_out(values: Float[Tensor, "*n"], share: float) -> None:
    """Set a share of the numbers to zero and scale the others by ``1 / (1 - share)``, in place.

    Sixteen random bits decide for each number, four to a draw of the generator: a seventh of the time of
    ``functional.dropout``. The share is exact to 1/65536.
    """
    if share >= 1:
        values.zero_()
        return
    random = torch.empty((values.numel() + 3) // 4, dtype=torch.int64, device=values.device).random_(-(2**63), None)
    parts = random.view(torch.int16)[: values.numel()].view(values.shape)
    integers = values.view(INTEGERS[values.itemsize])
    kept = torch.ge(parts, round(share * 2**16) - 2**15, out=torch.empty_like(integers))
    integers.bitwise_and_(kept.neg_())
    values.mul_(1 / (1 - share))


class _Pass:
    """Run the layers forward and backward over parts of the points."""

    def __init__(self, stack: Stack, features: Tensor) -> None:
        self.stack = stack
        self.features = features
        self.last = len(stack.hidden) - 1
        self.split = stack.dtype.itemsize < features.dtype.itemsize
        self.hidden = [None if weight is None else weight.detach().to(stack.dtype) for weight in stack.hidden]
        self.added = [added.detach() for added in stack.added]
        top = stack.hidden[self.last]
        assert top is not None
        self.top = top.detach()[0]
        self.joined = [
            None if weight is None else self._joined_weight(weight.detach(), added)
            for weight, added in zip(stack.position, self.added, strict=True)
        ]

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Yield slices of shapes and points: some whole shapes, or a part of one."""
        num_shapes, num_points = self.features.shape[:2]
        widest = max(added.shape[1] for added in self.added)
        numbers = CHUNK_NUMBERS if self.features.device.type == "cpu" else DEVICE_CHUNK_NUMBERS
        limit = max(numbers // widest, 1)
        shapes_at_once = max(limit // max(num_points, 1), 1)
        for first in range(0, num_shapes, shapes_at_once):
            for start in range(0, num_points, limit):
                yield slice(first, first + shapes_at_once), slice(start, start + limit)

    def forward(self, kept: list[Tensor] | None = None) -> Tensor:
        """Return the output of all points; append to ``kept`` what the derivative needs."""
        out = self.features.new_empty(self.features.shape[:2])
        for shapes, points in self.parts():
            features = self.features[shapes, points]
            columns = self._columns(features)
            hidden = columns
            if kept is not None:
                kept.append(columns)
            for layer in range(self.last):
                hidden = self._hidden_layer(layer, shapes, columns, hidden)
                if kept is not None:
                    kept.append(hidden)
            # In 16 bits the sum would be off by up to 0.002 before the bias comes to it.
            value = hidden.to(out.dtype) @ self.top
            out[shapes, points] = value.view(features.shape[:2]) + self.added[self.last][shapes]
        return out

    def _hidden_layer(self, layer: int, shapes: slice, columns: Tensor, hidden: Tensor) -> Tensor:
        """Return the output of a layer for some points, flat."""
        weight, joined, added = self.hidden[layer], self.joined[layer], self.added[layer]
        if joined is not None:
            out = torch.bmm(columns, joined[shapes]).flatten(0, 1)
            if weight is not None:
                out.addmm_(hidden, weight.t())
        else:
            assert weight is not None
            out = functional.linear(hidden, weight, added[0].to(hidden.dtype))
        out.relu_()
        if share := self.stack.dropout[layer]:
            drop_out(out, share)
        return out

    def backward(self, gradient: Tensor, kept: Sequence[Tensor], needed: _Needed) -> list[Tensor | None]:
        """Return the gradients of ``hidden[1:]``, ``position`` and ``added``, from what ``forward`` kept."""
        hidden = [torch.zeros_like(w, dtype=self.features.dtype) if w is not None else None for w in self.hidden]
        joined = [torch.zeros_like(w, dtype=self.features.dtype) if w is not None else None for w in self.joined]
        added = [torch.zeros_like(a) for a in self.added]
        for part, (shapes, points) in enumerate(self.parts()):
            columns, *activations = kept[part * (self.last + 1) : (part + 1) * (self.last + 1)]
            top = gradient[shapes, points]
            added[self.last][shapes] += top.sum(1, keepdim=True)
            flow = top.reshape(-1, 1).to(self.stack.dtype)
            for layer in range(self.last, needed.lowest - 1, -1):
                if layer < self.last:
                    torch.ops.aten.threshold_backward.grad_input(flow, activations[layer], 0, grad_input=flow)
                    if 0 < (share := self.stack.dropout[layer]) < 1:
                        flow.mul_(1 / (1 - share))
                    by_shape = flow.view(*columns.shape[:2], -1)
                    if (sums := joined[layer]) is not None:
                        if needed.joined[layer]:
                            sums[shapes] += torch.bmm(columns.transpose(1, 2), by_shape)
                    elif needed.added[layer]:
                        added[layer][shapes] += by_shape.sum(1)
                weight, slope = self.hidden[layer], hidden[layer]
                if slope is not None and needed.hidden[layer]:
                    slope += flow.t() @ activations[layer - 1]
                if weight is not None and layer > needed.lowest:
                    flow = flow @ weight
        position: list[Tensor | None] = [None] * len(joined)
        for layer, sums in enumerate(joined):
            if sums is not None:
                position[layer], added[layer] = self._unjoined(sums)
        return [*hidden[1:], *position, *added]

    def _columns(self, features: Tensor) -> Tensor:
        """Return what the joined weights multiply: ``[x 1]``, in 16 bits ``[x1 x2 1]``."""
        ones = torch.ones_like(features[..., :1])
        if not self.split:
            return torch.cat((features, ones), -1)
        lead = features.to(self.stack.dtype)
        exact = slice(self.stack.num_exact)
        rest = features[..., exact] - lead[..., exact].to(features.dtype)
        return torch.cat((lead, rest.to(lead), ones.to(lead)), -1)

    def _joined_weight(self, position: Tensor, added: Tensor) -> Tensor:
        """Return each shape's ``[W; c]``, in 16 bits ``[W; W; c]``."""
        weight = position.t()
        if self.split:
            weight = torch.cat((weight, weight[: self.stack.num_exact]))
        joined = torch.cat((weight.expand(len(added), -1, -1), added[:, None]), 1)
        return joined.to(self.stack.dtype)

    def _unjoined(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the position's weights and of what was added."""
        num = self.features.shape[-1]
        over_shapes = sums.sum(0)
        position = over_shapes[:num]
        if self.split:
            position[: self.stack.num_exact] += over_shapes[num:-1]
        return position.t(), sums[:, -1]


@dataclass(frozen=True)
class _Needed:
    """Say which gradients are asked for, by layer; ``lowest`` is the first layer with one."""

    hidden: list[bool]
    joined: list[bool]
    added: list[bool]
    lowest: int


def _needed(flags: Sequence[bool], num_layers: int) -> _Needed:
    hidden = [False, *flags[: num_layers - 1]]
    position = flags[num_layers - 1 : 2 * num_layers - 1]
    added = list(flags[2 * num_layers - 1 :])
    joined = [a or b for a, b in zip(position, added, strict=True)]
    return _Needed(hidden, joined, added, min(i for i in range(num_layers) if hidden[i] or joined[i]))


class _StackFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stack: Stack, features: Tensor, *tensors: Tensor | None) -> Tensor:  # noqa: ARG004 - torch's
        ctx.run = _Pass(stack, features.detach())
        ctx.needed = _needed(ctx.needs_input_grad[2:], len(stack.hidden))
        kept: list[Tensor] = []
        out: Tensor = ctx.run.forward(kept)
        ctx.save_for_backward(*kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.run.backward(gradient, ctx.saved_tensors, ctx.needed)
        return (None, None, *(g if n else None for g, n in zip(found, ctx.needs_input_grad[2:], strict=True)))
