"""The networks of a run: encoder, decoder and discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from shapewright.data.picture_sets import PictureSet
from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.io.meshes import read_mesh
from shapewright.methods.pose_invariant.config import NetworkConfig
from shapewright.networks.bounded_decoder import BoundedMeshDecoder
from shapewright.networks.image_encoders import ConvEncoder
from shapewright.networks.mesh_decoders import MeshDecoder, SymmetricMeshDecoder
from shapewright.networks.residual_encoders import PreactivationEncoder, ResidualEncoder


@dataclass(frozen=True, kw_only=True)
class PictureKind:
    """Say what kind of pictures a run has learned from, as far as its networks must know.

    Args:
        size: Pixels along each side.
        num_bins: Bins of poses.
        classes: Categories, in the order of their places.
        half_angle_deg: Half the field of view; None: orthographic.
    """

    size: int
    num_bins: int
    classes: tuple[str, ...]
    half_angle_deg: float | None

    @staticmethod
    def of(pictures: PictureSet) -> PictureKind:
        """Return the kind of a set of pictures."""
        return PictureKind(
            size=pictures.size,
            num_bins=pictures.num_bins,
            classes=pictures.classes,
            half_angle_deg=pictures.views.half_angle_deg,
        )

    def places(self, categories: Sequence[str]) -> Int64[Tensor, " n"]:
        """Return the place of each category; one that was not learned counts as the first."""
        place = {name: number for number, name in enumerate(self.classes)}
        return torch.tensor([place.get(name, 0) for name in categories])

    def condition(self, poses: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n numbers"]:
        """Return what a discriminator is told of a camera: where it stands, or its rotation if it is parallel."""
        return poses[:, :, 3] if self.half_angle_deg is not None else poses[:, :, :3].flatten(1)


class Reconstructor(nn.Module):
    """Turn pictures into meshes.

    Args:
        config: Sizes.
        size: Pixels along each side of the pictures.
        num_classes: Categories; decoder and discriminator are told which, where the settings say so.
        dtype: Of the products of the encoder and the decoder.
    """

    def __init__(
        self, config: NetworkConfig, size: int, num_classes: int = 1, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.channels, self.dtype = config.channels, dtype
        self.num_told = num_classes if config.class_conditional == "both" else 0
        self.num_told_discriminator = num_classes if config.class_conditional != "none" else 0
        self.told_dim = config.code_dim + self.num_told
        self.encoder = _encoder(config, size)
        self.decoder = _decoder(config, self.told_dim)
        self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def faces(self) -> Int64[Tensor, "faces 3"]:
        """Return the faces of every mesh."""
        return self.decoder.get_buffer("faces")

    def encode(self, pictures: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n code"]:
        """Return the codes of pictures in [0, 1], colours first."""
        if not isinstance(self.encoder, PreactivationEncoder):
            pictures = pictures[:, : self.channels]
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pictures.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.encoder(pictures).float()

    def tell(self, codes: Float[Tensor, "n code"], classes: Int64[Tensor, " n"]) -> Float[Tensor, "n told"]:
        """Return the codes as the decoder gets them: with the category appended, where it is told it."""
        return _with_classes(codes, classes, self.num_told)

    def tell_discriminator(
        self, codes: Float[Tensor, "n code"], classes: Int64[Tensor, " n"]
    ) -> Float[Tensor, "n told"]:
        """Return the codes as a discriminator of codes gets them."""
        return _with_classes(codes, classes, self.num_told_discriminator)

    @torch.no_grad()
    def reconstruct(
        self, pictures: Float[Tensor, "n channels h w"], classes: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n code"], Float[Tensor, "n vertices 3"]]:
        """Return codes and vertices on the CPU, without gradients; pictures and classes may lie anywhere."""
        device = self.faces.device
        codes = self.encode(pictures.to(device))
        return codes.cpu(), self.decode(codes, classes.to(device)).cpu()

    def decode(self, codes: Float[Tensor, "n code"], classes: Int64[Tensor, " n"]) -> Float[Tensor, "n vertices 3"]:
        """Return the vertices of one mesh a code."""
        with torch.autocast(codes.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.decoder(self.tell(codes, classes)).float()


def template_of(config: NetworkConfig) -> Mesh:
    """Return the mesh whose vertices are moved.

    Raises:
        UserError: if it is a file that cannot be read as a mesh.
    """
    if config.template == "icosphere":
        return icosphere()
    if config.template == "cube_sphere":
        from shapewright.geometry.cube_sphere import cube_sphere

        return cube_sphere()
    path = Path(config.template)
    if not path.is_file():
        raise UserError(f"There is no template {config.template!r}.", "Use icosphere, cube_sphere or a mesh file.")
    return read_mesh(path)


def _with_classes(codes: Tensor, classes: Tensor, count: int) -> Tensor:
    return torch.cat([codes, one_hot(classes, count).to(codes)], dim=1) if count else codes


def _encoder(config: NetworkConfig, size: int) -> nn.Module:
    if config.encoder == "conv":
        try:
            return ConvEncoder(
                config.channels,
                size,
                config.encoder_widths,
                config.encoder_hidden,
                config.code_dim,
                config.rectified_code,
            )
        except ValueError as error:
            raise UserError(
                f"Pictures of {size} px do not fit {len(config.encoder_widths)} convolutions: {error}",
                "Set --data.image-size to 64 or 128, or --network.encoder resnet for 224.",
            ) from error
    if config.encoder == "resnet":
        return ResidualEncoder(config.channels, config.code_dim)
    return PreactivationEncoder(config.channels, size, config.code_dim)


def _decoder(config: NetworkConfig, told: int) -> nn.Module:
    if config.decoder.startswith("patches"):
        from shapewright.networks.patch_decoders import PatchDecoder

        return PatchDecoder(told, config.decoder == "patches", is_symmetric=config.symmetric)
    template = template_of(config)
    try:
        if config.decoder == "bounded":
            return BoundedMeshDecoder(told, config.decoder_hidden, template, config.symmetric)
        kind = SymmetricMeshDecoder if config.symmetric else MeshDecoder
        return kind(told, config.decoder_hidden, template)
    except ValueError as error:
        raise UserError(
            f"The template {config.template} has no mirror image at z = 0: {error}",
            "Use the icosphere, or leave --network.symmetric out.",
        ) from error
