"""The loss that pushes a surface outwards, like the pressure in a balloon."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

_EPS = 1e-5


def inflation_loss(vertices: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"]) -> Float[Tensor, ""]:
    """Return ``sum_f sum_{v in f} sqrt(|stop(v + n_f) - v|^2 + 1e-5)``, the mean over meshes.

    Its value says nothing: every corner that has a normal costs the same. Its gradient pushes each vertex along the
    normals of its faces with a force that depends on neither area nor shape (view prior learning, arXiv:1811.10719,
    section 3.4). A face without area does not push.

    Args:
        vertices: One mesh an image.
        faces: Counter-clockwise from outside, shared by all images; the other way round the surface shrinks.
    """
    corners = vertices[:, faces]
    fixed = corners.detach()
    sides = fixed[:, :, 1:] - fixed[:, :, :1]
    normals = normalize(sides[:, :, 0].cross(sides[:, :, 1], dim=-1), dim=-1, eps=1e-12)
    distance = (fixed + normals[:, :, None] - corners).square().sum(-1)
    return (distance + _EPS).sqrt().sum() / max(len(vertices), 1)
