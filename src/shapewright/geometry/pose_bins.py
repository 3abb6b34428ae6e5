"""Bins of camera poses: the domains among which codes should not differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_range, check_shape

# The elevations of the LSM pictures, in degrees.
LSM_ELEVATIONS_DEG = (-20.0, 40.0)
EULER_BIN_DEG = 45.0
UNSEEN = -1


@dataclass(frozen=True, kw_only=True)
class BinTable:
    """Say what the bins of a data set are numbered by; that of its training pictures belongs to a run, for all others.

    Args:
        elevations_deg: Least and greatest elevation of bins by angle.
        euler_bins: Those of ``euler_bins`` that occur in training, in increasing order, if bins are their places here.
    """

    elevations_deg: tuple[float, float] | None = None
    euler_bins: tuple[int, ...] | None = None

    def as_in(self, other: BinTable | None) -> BinTable:
        """Return a table of the same kind that says what another one says, where that is of this kind."""
        if other is None:
            return self
        return BinTable(
            elevations_deg=self.elevations_deg and (other.elevations_deg or self.elevations_deg),
            euler_bins=self.euler_bins and (other.euler_bins or self.euler_bins),
        )


def count_view_bins(
    azimuth_bin_deg: float, elevation_bin_deg: float, elevations_deg: tuple[float, float] = LSM_ELEVATIONS_DEG
) -> tuple[int, int]:
    """Return how many bins there are around and up: ``ceil(360 / azimuth_bin)`` and the same for the elevations.

    Args:
        azimuth_bin_deg: Width of a bin, above 0 and at most 360.
        elevation_bin_deg: Height of a bin, above 0 and at most 180.
        elevations_deg: The least and the greatest elevation.

    Raises:
        ValueError: if a width is out of range.
    """
    check_range("azimuth_bin_deg", azimuth_bin_deg, 0.1, 360)
    check_range("elevation_bin_deg", elevation_bin_deg, 0.1, 180)
    return math.ceil(360 / azimuth_bin_deg), math.ceil((elevations_deg[1] - elevations_deg[0]) / elevation_bin_deg)


def view_bins(
    azimuth_deg: Float[Tensor, "*n"],
    elevation_deg: Float[Tensor, "*n"],
    azimuth_bin_deg: float = 15.0,
    elevation_bin_deg: float = 20.0,
    elevations_deg: tuple[float, float] = LSM_ELEVATIONS_DEG,
) -> Int64[Tensor, "*n"]:
    """Return ``floor((azimuth + 180) / width) * rows + floor((elevation - lowest) / height)``.

    An azimuth of 180 is in the last bin, and so is the greatest elevation.

    Args:
        azimuth_deg: In [-180, 180]; beyond it is counted around the circle.
        elevation_deg: In the range of elevations; beyond it counts as its end.
        azimuth_bin_deg: Width of a bin.
        elevation_bin_deg: Height of a bin.
        elevations_deg: The least and the greatest elevation.
    """
    columns, rows = count_view_bins(azimuth_bin_deg, elevation_bin_deg, elevations_deg)
    is_on_circle = azimuth_deg.abs() <= 180
    turned = torch.where(is_on_circle, azimuth_deg + 180, (azimuth_deg + 180).remainder(360))
    column = (turned / azimuth_bin_deg).floor().long().clamp(0, columns - 1)
    row = ((elevation_deg - elevations_deg[0]) / elevation_bin_deg).floor().long().clamp(0, rows - 1)
    return column * rows + row


def euler_angles_yzx(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Return a, b and c in degrees with ``R = Rx(c) Rz(b) Ry(a)``: extrinsic angles about y, then z, then x.

    Where b is 90 or -90, a and c turn about the same axis, and c is 0.

    Args:
        rotation: Proper rotations.
    """
    check_shape("rotation", rotation.reshape(-1, *rotation.shape[-2:]), (None, 3, 3))
    R = rotation
    is_locked = R[..., 0, 1].abs() > 1 - 1e-12
    b = torch.asin(-R[..., 0, 1].clamp(-1, 1))
    a = torch.where(is_locked, torch.atan2(-R[..., 2, 0], R[..., 2, 2]), torch.atan2(R[..., 0, 2], R[..., 0, 0]))
    c = torch.where(is_locked, torch.zeros_like(b), torch.atan2(R[..., 2, 1], R[..., 1, 1]))
    return torch.stack([a, b, c], dim=-1).rad2deg()


def euler_bins(rotation: Float[Tensor, "*n 3 3"]) -> Int64[Tensor, "*n"]:
    """Return ``floor((a + 180) / 45) * 64 + floor((b + 180) / 45) * 8 + floor((c + 180) / 45)`` of rotations.

    As b is within 90 degrees, at most 256 of the 512 bins occur. A turn of 180 degrees is one of -180.

    Args:
        rotation: From object to camera.
    """
    angles = euler_angles_yzx(rotation)
    # Cosines of right angles are not quite none: a turn by a multiple of 45 degrees belongs to the bin it begins.
    index = ((angles + 180) / EULER_BIN_DEG + 1e-9).floor().long()
    return (index[..., 0] % 8) * 64 + index[..., 1].clamp(2, 5) * 8 + index[..., 2] % 8


def flipped_rotation(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3 3"]:
    """Return ``diag(-1, 1, 1) R diag(1, 1, -1)``: how an object symmetric in z is turned in the flipped picture.

    Args:
        rotation: From object to camera.
    """
    return rotation.new_tensor([-1.0, 1.0, 1.0])[:, None] * rotation * rotation.new_tensor([1.0, 1.0, -1.0])


def bin_table(bins: Int64[Tensor, "*n"]) -> Int64[Tensor, " bins"]:
    """Return the bins that occur, in increasing order: the place in this table is the new number of a bin."""
    return bins.unique()


def renumbered(bins: Int64[Tensor, "*n"], table: Int64[Tensor, " bins"]) -> Int64[Tensor, "*n"]:
    """Return the places of bins in a table; ``UNSEEN`` for those that are not in it.

    Args:
        bins: Of any split.
        table: Of the training split, by ``bin_table``; not empty.
    """
    place = torch.searchsorted(table, bins).clamp(max=len(table) - 1)
    return torch.where(table[place] == bins, place, UNSEEN)
