"""The encoding ``hash``: features interpolated in grids of growing resolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.checks import check_range
from shapewright.fields.config import EncodingConfig
from shapewright.fields.encodings.base import Encoding
from shapewright.kernels import ops

INITIAL_SCALE = 1e-4


class HashEncoding(Encoding):
    """Return ``[x, features of level 0, .., features of level L - 1]``.

    Each level stores features at the vertices of a grid over the cube
    ``[-bound, bound]^3``, in a table that fine levels share by hashing
    (Instant NGP, arXiv:2201.05989, eq. 3 and 4); points outside are clamped.
    Levels beyond the active ones return 0.

    Args:
        config: Sizes of the grid.
        generator: Draws the table, uniform in +-1e-4.

    Raises:
        ValueError: if ``start_levels`` is not between 1 and the number of levels.
    """

    def __init__(self, config: EncodingConfig, generator: torch.Generator | None = None) -> None:
        check_range("start_levels", config.start_levels, 1, config.num_levels)
        super().__init__(3, 3 + config.num_levels * config.features_per_level)
        self.config = config
        self.levels = ops.hash_levels(
            config.num_levels,
            config.log2_table_size,
            config.base_resolution,
            config.max_resolution,
            features=config.features_per_level,
        )
        table = torch.empty(self.levels.rows, config.features_per_level)
        self.table = nn.Parameter(table.uniform_(-INITIAL_SCALE, INITIAL_SCALE, generator=generator))
        self.active_levels = config.num_levels

    def set_progress(self, progress: float) -> None:
        """Activate levels evenly, from ``start_levels`` to all at ``all_levels_at``."""
        start, end = self.config.start_levels, self.config.num_levels
        share = progress / self.config.all_levels_at if self.config.all_levels_at > 0 else 1.0
        self.active_levels = min(end, start + int(share * (end - start)))

    def forward(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n dim_out"]:
        """Return the features of the points."""
        features = ops.encode(
            self._unit(points),
            self.table,
            self.levels,
            active=self.active_levels,
            smoothstep=self.config.smoothstep,
        )
        return torch.cat([points, features.view(*points.shape[:-1], self.dim_out - 3)], dim=-1)

    def pull(self, points: Float[Tensor, "*n 3"], gradient: Float[Tensor, "*n dim_out"]) -> Float[Tensor, "*n 3"]:
        """Return ``J^T gradient`` without touching the table's gradient."""
        direct, features = gradient.split([3, self.dim_out - 3], dim=-1)
        pulled = ops.pull(
            self._unit(points),
            self.table,
            features.reshape(-1, self.dim_out - 3),
            self.levels,
            active=self.active_levels,
            smoothstep=self.config.smoothstep,
        )
        return direct + pulled.view_as(points) / (2.0 * self.config.bound)

    def _unit(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "m 3"]:
        """Return the points as a list in the unit cube."""
        return (points.reshape(-1, 3) + self.config.bound) / (2.0 * self.config.bound)
