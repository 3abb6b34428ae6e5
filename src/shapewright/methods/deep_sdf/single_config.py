"""Settings of the reconstruction of one shape, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shapewright.checks import check_range
from shapewright.engine.schedule import TrainConfig
from shapewright.fields.config import SdfConfig


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Describe how the input is read and made ready. Lengths are in the input's units.

    Attributes:
        kind: What the input is; ``auto`` asks the file.
        normals: Take normals from the file, estimate them, or do without; ``auto``: from the file where it has them.
        viewpoint: Where a scanner saw all points from; normals turn there and the space up to the points is free.
        neighbours: Points that a normal is estimated from; 0: chosen by the noise.
        voxel: Keep the mean of the points in each cube of this side; 0: keep all.
        max_points: Thin out larger clouds to about this many points.
        remove_outliers: Leave out points far from all others.
        samples: Signed distances that are computed for a mesh.
    """

    kind: Literal["auto", "cloud", "samples", "mesh"] = "auto"
    normals: Literal["auto", "file", "estimate", "none"] = "auto"
    viewpoint: tuple[float, float, float] | None = None
    neighbours: int = 0
    voxel: float = 0.0
    max_points: int = 1_000_000
    remove_outliers: bool = True
    samples: int = 400_000

    def __post_init__(self) -> None:
        """Check the counts."""
        check_range("voxel", self.voxel, 0.0)
        check_range("max_points", self.max_points, 100)
        check_range("samples", self.samples, 1000)
        if self.neighbours:
            check_range("neighbours", self.neighbours, 3)


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Describe what is known, beside a cloud's points, about the space around them.

    Attributes:
        guide: ``winding``: signs by the winding number of the oriented points and bounds by their distances;
            ``none``: nothing, as in the paper.
        near: Points around the surface that are drawn once.
        uniform: Points in the box that are drawn once.
        widths: Spreads of the points around the surface, in normalised units; equal shares.
        trust_spacings: The sign counts from this distance on, in spacings of the cloud.
    """

    guide: Literal["winding", "none"] = "winding"
    near: int = 90_000
    uniform: int = 60_000
    widths: tuple[float, ...] = (0.01, 0.03, 0.1)
    trust_spacings: float = 1.5

    def __post_init__(self) -> None:
        """Check the counts."""
        check_range("near", self.near, 0)
        check_range("uniform", self.uniform, 1)
        if not self.widths or min(self.widths) <= 0:
            raise ValueError(f"widths must be positive, got {self.widths}.")


@dataclass(frozen=True, kw_only=True)
class SingleGridConfig:
    """Describe the hash grid (arXiv:2201.05989) and the network on it.

    Attributes:
        num_levels: Levels of the grid; each has two features.
        log2_table_size: Base-2 logarithm of the rows of a hashed level.
        base_resolution: Cells of the coarsest level along the cube around the shape.
        max_resolution: Cells of the finest level.
        cells_per_spacing: Keep the finest cells at least this fraction of the points' spacing; 0: as they are.
        hidden: Width of the two hidden layers.
        start_levels: Levels that are active at the start; the others join evenly.
        all_levels_by: Share of the run after which every level is active.
    """

    num_levels: int = 8
    log2_table_size: int = 18
    base_resolution: int = 16
    max_resolution: int = 256
    cells_per_spacing: float = 1.0
    hidden: int = 32
    start_levels: int = 4
    all_levels_by: float = 0.3


@dataclass(frozen=True, kw_only=True)
class SingleLossConfig:
    """Weigh the losses (IGR, arXiv:2002.10099, eq. 2, and what is added).

    Attributes:
        point: Weight of ``|f|`` at the points.
        normal: Weight of ``|grad f - n|`` at the points.
        eikonal: Weight of ``(|grad f| - 1)^2``.
        distance: Weight of how far ``f`` lies outside its known bounds.
        relative: Divide that by the bound's size plus 0.01 (Instant NGP's MAPE).
        off_surface: Weight of ``exp(-sharpness |f|)`` away from the points, against ghosts (SIREN, arXiv:2006.09661).
        sharpness: The rate of its fall.
    """

    point: float = 10.0
    normal: float = 0.3
    eikonal: float = 0.1
    distance: float = 10.0
    relative: bool = False
    off_surface: float = 0.0
    sharpness: float = 50.0


@dataclass(frozen=True, kw_only=True)
class SingleOptimConfig:
    """Describe batches and Adam (arXiv:1412.6980).

    Attributes:
        surface_points: Points of the surface a step.
        space_points: Points of the space around it a step.
        table_rate: Learning rate of the hash table.
        network_rate: Learning rate of the network.
        beta2: Decay of the mean of squares.
        eps: Added to the root of the mean of squares.
        network_l2: Weight of the squared weights of the network.
        warm_up_steps: Steps of linear warm-up.
        decay_from: Share of the run after which the rates fall exponentially.
        final_share: Share of the rates that is left at the end.
        average: Decay of a running mean of the parameters that the mesh is drawn from; 0: the last ones.
        sphere_steps: Steps of fitting a sphere before training.
    """

    surface_points: int = 4096
    space_points: int = 4096
    table_rate: float = 1e-2
    network_rate: float = 5e-3
    beta2: float = 0.99
    eps: float = 1e-15
    network_l2: float = 0.0
    warm_up_steps: int = 20
    decay_from: float = 0.3
    final_share: float = 0.02
    average: float = 0.0
    sphere_steps: int = 80


@dataclass(frozen=True, kw_only=True)
class SingleMeshConfig:
    """Describe the mesh that a run ends with.

    Attributes:
        resolution: Lattice points along the longest side of the shape's box.
        components: Keep the connected parts near which there are input points, the largest one, or all.
        up: The axis that is vertical in the report's pictures.
    """

    resolution: int = 256
    components: Literal["supported", "largest", "all"] = "supported"
    up: Literal["y", "z"] = "y"


@dataclass(frozen=True, kw_only=True)
class SingleConfig:
    """Gather the settings of a reconstruction of one shape.

    Attributes:
        model: ``grid`` (hash grid, hand-written gradients) or ``network`` (the paper's, by torch).
        scan: Reading the input.
        space: What is known of the space around a cloud.
        grid: The hash grid.
        network: The paper's network.
        loss: Weights.
        optim: Batches and steps.
        mesh: The mesh at the end.
        train: Length and cadence.
    """

    model: Literal["grid", "network"] = "grid"
    scan: ScanConfig = field(default_factory=ScanConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    grid: SingleGridConfig = field(default_factory=SingleGridConfig)
    network: SdfConfig = field(
        default_factory=lambda: SdfConfig(
            width=512, num_layers=8, feature_size=0, skip_layer=4, sharpness=100.0, weight_norm=False,
            start="geometric", radius=0.5,
        )
    )  # fmt: skip
    loss: SingleLossConfig = field(default_factory=SingleLossConfig)
    optim: SingleOptimConfig = field(default_factory=SingleOptimConfig)
    mesh: SingleMeshConfig = field(default_factory=SingleMeshConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=2000))


DEFAULT_SINGLE_PRESET = "cpu"

SINGLE_PRESETS: dict[str, SingleConfig] = {
    # A laptop: about a minute of one core.
    "cpu": SingleConfig(),
    # Instant NGP's signed distances (arXiv:2201.05989, section 5.2): exact distances of a mesh, no derivative.
    "ngp": SingleConfig(
        grid=SingleGridConfig(
            num_levels=16, log2_table_size=19, max_resolution=2048, cells_per_spacing=0.0, hidden=64,
            start_levels=16, all_levels_by=0.0,
        ),
        scan=ScanConfig(samples=4_000_000),
        loss=SingleLossConfig(point=1.0, normal=0.0, eikonal=0.0, distance=1.0, relative=True),
        optim=SingleOptimConfig(
            surface_points=1 << 17, space_points=1 << 17, table_rate=1e-4, network_rate=1e-4, network_l2=1e-6,
            warm_up_steps=1, decay_from=0.5, final_share=0.11, average=0.95, sphere_steps=0,
        ),
        mesh=SingleMeshConfig(resolution=512),
        train=TrainConfig(steps=20_000, checkpoint_every_seconds=600.0),
    ),
    # IGR (arXiv:2002.10099, section 6): the points and their normals alone, eight layers of 512.
    "igr-paper": SingleConfig(
        model="network",
        space=SpaceConfig(guide="none"),
        loss=SingleLossConfig(point=1.0, normal=1.0, eikonal=0.1, distance=0.0),
        optim=SingleOptimConfig(
            surface_points=1 << 14, space_points=1 << 14, network_rate=5e-3, beta2=0.999, eps=1e-8,
            warm_up_steps=1, decay_from=0.0, final_share=1e-3, sphere_steps=0,
        ),
        mesh=SingleMeshConfig(resolution=512, components="largest"),
        train=TrainConfig(steps=100_000, checkpoint_every_seconds=600.0),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SingleOptions:
    """Turn one scan, one set of signed distances or one mesh into a clean mesh.

    Args:
        out: Folder to write; it must be new or empty.
        preset: Settings to start from; the options below change them one by one.
        truth: The true mesh, to measure against.
        minutes: Train for this long.
        steps: Train for this many steps.
        seed: Start of all random numbers.
        force: Replace an earlier run in the folder.
        config: All settings.
    """

    out: Path
    preset: str = DEFAULT_SINGLE_PRESET
    truth: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    force: bool = False
    config: SingleConfig = field(default_factory=SingleConfig)
