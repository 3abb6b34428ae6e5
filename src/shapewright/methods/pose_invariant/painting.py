"""Drawing the meshes of a batch: silhouettes, and colours where the networks make them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from shapewright.data.picture_sets import near_of, project_to
from shapewright.data.render_pictures import LIGHT
from shapewright.geometry.cube_sphere import cube_patches, patch_texture_coordinates, patch_triangles
from shapewright.losses.inside_out import inside_out_loss
from shapewright.methods.pose_invariant.config import PoseInvariantConfig
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.networks.patch_decoders import PatchTextureDecoder
from shapewright.rendering.nmr_pictures import draw_with_nmr_gradient
from shapewright.rendering.rasterizer import rasterize
from shapewright.rendering.shading import lambert_light
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette
from shapewright.rendering.textures import interpolate_corners, sample_texture

# Of what is lit at all.
_LEAST_LIGHT = 0.5


class Skin(nn.Module):
    """Paint the sides of a cube sphere by a code.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        is_symmetric: Whether both sides of the plane z = 0 are painted alike.
    """

    coordinates: Tensor
    corners: Tensor
    vertex_of_point: Tensor

    def __init__(self, code_dim: int, is_symmetric: bool = False) -> None:
        super().__init__()
        self.texture = PatchTextureDecoder(code_dim, is_symmetric=is_symmetric)
        self.register_buffer("coordinates", patch_texture_coordinates(texels=self.texture.texels), persistent=False)
        self.register_buffer("corners", patch_triangles(), persistent=False)
        self.register_buffer("vertex_of_point", cube_patches().flatten(), persistent=False)

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 3 rows columns"]:
        """Return textures in [0, 1]."""
        return self.texture(codes)

    def vertex_colors(self, texture: Float[Tensor, "n 3 rows columns"]) -> Float[Tensor, "n vertices 3"]:
        """Return the colour of each vertex: the mean over the sides that share it."""
        points = sample_texture(texture, self.coordinates.expand(len(texture), 1, -1, -1))[:, 0]
        counts = torch.bincount(self.vertex_of_point)
        sums = points.new_zeros(len(points), len(counts), 3).index_add(1, self.vertex_of_point, points)
        return sums / counts[:, None]


class Painter:
    """Draw one mesh a picture.

    Args:
        config: Settings of the run.
        kind: What the pictures are.
    """

    def __init__(self, config: PoseInvariantConfig, kind: PictureKind) -> None:
        self.size = config.render.size or kind.size
        self._half_angle_deg = kind.half_angle_deg
        self._near = near_of(kind.half_angle_deg)
        self._style = SilhouetteStyle(config.render.gradient, config.render.supersample, near=self._near)

    def draw(
        self, vertices: Float[Tensor, "n vertices 3"], faces: Int64[Tensor, "faces 3"], poses: Float[Tensor, "n 3 4"]
    ) -> Float[Tensor, "n size size"]:
        """Return the coverage of each pixel."""
        screen = project_to(vertices, poses, self._half_angle_deg, self.size)
        return silhouette(screen, faces, self.size, self._style)

    def inside_out(
        self, vertices: Float[Tensor, "n vertices 3"], faces: Int64[Tensor, "faces 3"], poses: Float[Tensor, "n 3 4"]
    ) -> Float[Tensor, ""]:
        """Return how much of the pictures shows the inside of the meshes."""
        screen = project_to(vertices, poses, self._half_angle_deg, self.size)
        return inside_out_loss(screen, faces, rasterize(screen, faces, self.size, near=self._near).face_id)

    def redrawn(
        self,
        vertices: Float[Tensor, "n vertices 3"],
        faces: Int64[Tensor, "faces 3"],
        poses: Float[Tensor, "n 3 4"],
        pictures: Float[Tensor, "n 4 size size"],
    ) -> Float[Tensor, "n 4 size size"]:
        """Return pictures of the meshes for an encoder, without gradients: shaded, each as bright as another picture.

        Args:
            vertices: One mesh a picture.
            faces: Of all meshes.
            poses: From where they are drawn.
            pictures: Colours times mask, and the mask: the mean colour of each is that of its mesh.
        """
        size, samples = pictures.shape[-1], self._style.supersample
        screen = project_to(vertices, poses, self._half_angle_deg, size)
        face_id = rasterize(screen, faces, size, samples, self._near).face_id.flatten(1).long()
        corners = vertices[:, faces]
        normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        light = lambert_light(normals, normals.new_tensor(LIGHT))[..., 0]
        # What is nowhere is the last face, of no light.
        padded = torch.cat([light, torch.zeros_like(light[:, :1])], dim=1)
        shades = padded.gather(1, torch.where(face_id < 0, light.shape[1], face_id))
        covered = (face_id >= 0).to(shades.dtype)
        drawn = torch.stack([shades, covered], dim=1).unflatten(2, (size * samples, size * samples))
        shade, mask = avg_pool2d(drawn, samples).unbind(1)
        colours = pictures[:, :3].sum((2, 3)) / pictures[:, 3:].sum((2, 3)).clamp(min=1)
        brightness = shade.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
        colours = colours / brightness.clamp(min=_LEAST_LIGHT)[:, None]
        rgb = (colours[:, :, None, None] * shade[:, None]).clamp(max=1)
        return torch.cat([rgb, mask[:, None]], dim=1)

    def paint(
        self,
        vertices: Float[Tensor, "n vertices 3"],
        faces: Int64[Tensor, "faces 3"],
        poses: Float[Tensor, "n 3 4"],
        skin: Skin,
        texture: Float[Tensor, "n 3 rows columns"],
    ) -> Float[Tensor, "n 4 size size"]:
        """Return the colours times coverage, and the coverage, with the Neural Mesh Renderer's gradient."""
        screen = project_to(vertices, poses, self._half_angle_deg, self.size)
        fragments = rasterize(screen, faces, self.size, self._style.supersample, self._near)
        uv = interpolate_corners(fragments, screen.detach(), skin.coordinates, skin.corners)
        colors, covered = draw_with_nmr_gradient(sample_texture(texture, uv), screen, fragments)
        return torch.cat([colors.movedim(-1, 1), covered[:, None]], dim=1)
