"""Pictures of meshes whose outlines and inner edges can be learned from their colours.

``rendering.rasterizer`` differentiates what a face looks like, not which face is seen. Here the Neural Mesh Renderer's
gradient (arXiv:1711.07566, section 3.2) adds the second: an edge is pushed to where the loss wants the colour on its
other side. A direction of descent, no derivative; it reaches to the border of the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from shapewright.checks import check_shape
from shapewright.kernels import backend, raster_ops
from shapewright.kernels.backends import choose
from shapewright.rendering.rasterizer import Fragments, to_pixels


def draw_with_nmr_gradient(
    colors: Float[Tensor, "images samples samples channels"],
    screen: Float[Tensor, "images vertices 3"],
    fragments: Fragments,
    background: float | Float[Tensor, " channels"] = 0.0,
) -> tuple[Float[Tensor, "images size size channels"], Float[Tensor, "images size size"]]:
    """Return what ``rasterizer.draw`` does, with gradients by the screen where one face gives way to another.

    Gradients by the colours pass as they do there. The published renderer has no derivative of the colour by the place
    inside a face: give ``interpolate`` a detached screen for that.

    Args:
        colors: At each sample, such as ``rasterizer.interpolate`` returns.
        screen: As it was rasterised; x and y get a gradient, the depth none.
        fragments: What each sample shows.
        background: Colour of the samples without a face.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape("colors", colors, (*fragments.face_id.shape, None))
    check_shape("screen", screen, (len(colors), None, 3))
    covered = fragments.is_covered[..., None]
    background = torch.as_tensor(background, dtype=colors.dtype, device=colors.device)
    # The mask is one more channel: it wishes for and against coverage just as a colour does.
    samples = torch.cat([torch.where(covered, colors, background), covered.to(colors.dtype)], dim=-1)
    pixels = to_pixels(_NmrPicture.apply(samples, screen, fragments), fragments.supersample)
    return pixels[..., :-1], pixels[..., -1]


class _NmrPicture(Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, screen: Tensor, fragments: Fragments) -> Tensor:
        ctx.save_for_backward(samples, screen, fragments.face_id, fragments.faces)
        # On CUDA the backward pass runs in another thread, which does not know what was asked for here.
        ctx.supersample, ctx.backend = fragments.supersample, choose(samples.device.type)
        return samples.view_as(samples)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        samples, screen, ids, faces = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return grad, None, None
        # In double precision the product is exact, whatever the number of samples.
        in_samples = screen.double() * screen.new_tensor([ctx.supersample] * 2 + [1], dtype=torch.float64)
        by_screen = torch.zeros_like(screen)
        with backend(ctx.backend):
            by_samples = raster_ops.nmr_pictures_backward(in_samples, faces, ids, samples, grad)
        by_screen[..., :2] = ctx.supersample * by_samples
        return grad, by_screen, None
