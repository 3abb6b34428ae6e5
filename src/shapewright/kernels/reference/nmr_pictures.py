"""The gradient of the Neural Mesh Renderer for pictures with colours, in plain torch.

Where a silhouette asks whether a sample is covered, a picture asks what the loss would gain if a sample showed what
lies on the other side of an edge. Sample d1 of a line pushes the edge by

    max(0, sum_c (I_c[d1] - I_c[i]) g_c[d1])    beyond the edge, i the last sample inside, if that shows the face
    max(0, sum_c (I_c[d1] - I_c[q]) g_c[d1])    within the face, q the first sample outside

With the mask as the only channel that is the gradient of silhouettes: empty samples that want to be covered pull the
edge outwards, and covered samples of the face that want to be empty push it inwards, where the outline is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int32, Int64
from torch import Tensor

from shapewright.kernels.reference.rasterizer import RasterRule, face_areas_on_screen
from shapewright.kernels.reference.silhouettes import Crossings


def nmr_pictures_backward(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    ids: Int32[Tensor, "images n n"],
    picture: Float[Tensor, "images n n channels"],
    grad: Float[Tensor, "images n n channels"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient by x and y of vertices (arXiv:1711.07566, section 3.2, as its program computes it).

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices.
        ids: Nearest face of each sample.
        picture: Colours of the samples, the background among them.
        grad: Gradient by the samples.
    """
    points = screen.detach().double()
    items = zip(points, ids.long(), picture.detach().double(), grad.double(), strict=True)
    found = [_image(*item, faces) for item in items]
    return torch.stack(found) if found else points[..., :2]


def nmr_backward(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    rule: RasterRule,
    ids: Int32[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient of silhouettes by x and y of vertices.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices.
        rule: Which faces are drawn.
        ids: Nearest face of each sample.
        grad: Gradient by the silhouette's pixels.
    """
    return nmr_pictures_backward(screen, faces, ids, *mask_as_picture(rule, ids, grad))


def mask_as_picture(
    rule: RasterRule, ids: Int32[Tensor, "images n n"], grad: Float[Tensor, "images size size"]
) -> tuple[Float64[Tensor, "images n n 1"], Float64[Tensor, "images n n 1"]]:
    """Return the mask as a picture of one channel, and the gradient by its samples."""
    supersample = rule.size // grad.shape[-1] if grad.numel() else 1
    wishes = grad.double().repeat_interleave(supersample, 1).repeat_interleave(supersample, 2) / supersample**2
    return (ids >= 0).double()[..., None], wishes[..., None]


def _image(
    points: Float64[Tensor, "vertices 3"],
    ids: Int64[Tensor, "n n"],
    picture: Float64[Tensor, "n n channels"],
    grad: Float64[Tensor, "n n channels"],
    faces: Int64[Tensor, "faces 3"],
) -> Float64[Tensor, "vertices 2"]:
    seen = ids[ids >= 0].unique()
    seen = seen[face_areas_on_screen(points, faces[seen], RasterRule(len(ids), None)) != 0]
    by_points = torch.zeros_like(points[:, :2])
    for axis in range(2):
        # Lines of axis 0 are columns: the image is turned so that lines are rows.
        lines, colors, slopes = (part.transpose(0, 1) if axis == 0 else part for part in (ids, picture, grad))
        for side in range(3):
            corners = faces[seen].roll(-side, dims=1)
            crossings = Crossings.find(points[..., :2] - 0.5, corners, seen, axis, len(ids))
            amounts = _amounts(crossings, lines, colors, slopes)
            for end in range(2):
                by_points[:, 1 - axis].index_add_(0, corners[crossings.edge, end], crossings.pushed(amounts, end))
    return by_points


def _amounts(
    crossings: Crossings,
    lines: Int64[Tensor, "n n"],
    colors: Float64[Tensor, "n n channels"],
    slopes: Float64[Tensor, "n n channels"],
) -> Float64[Tensor, "crossings n"]:
    """Return what each sample of the line of each crossing pushes with."""
    beyond, within = crossings.regions(lines)
    inside = colors[crossings.line, crossings.inner]
    outside = colors[crossings.line, crossings.inner + crossings.outward]
    here, slope = colors[crossings.line], slopes[crossings.line]
    gain_beyond = ((here - inside[:, None]) * slope).sum(-1).clamp(min=0)
    gain_within = ((here - outside[:, None]) * slope).sum(-1).clamp(min=0)
    return torch.where(beyond, gain_beyond, torch.where(within, gain_within, 0.0))
