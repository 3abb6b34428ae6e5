"""Options of the volume renderer of ``surface``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Describe the hash grid and the two networks on it.

    Attributes:
        num_levels: Levels of the grid; each has two features.
        log2_table_size: Base-2 logarithm of the rows of a hashed level.
        base_resolution: Cells of the coarsest level along the box around the object.
        max_resolution: Cells of the finest level.
        start_levels: Levels that are active at the start; the others join evenly.
        all_levels_by: Share of the run after which every level is active.
        hidden: Width of the two hidden layers of the SDF network.
        features: Numbers that the SDF network hands to the radiance network.
        color_hidden: Width of the two hidden layers of the radiance network.
    """

    num_levels: int = 10
    log2_table_size: int = 18
    base_resolution: int = 16
    max_resolution: int = 512
    start_levels: int = 4
    all_levels_by: float = 0.3
    hidden: int = 32
    features: int = 15
    color_hidden: int = 64


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Describe where samples are taken. Lengths are in normalised units (the object fills the unit sphere).

    Attributes:
        samples: Samples a step; the number of rays follows from it.
        eikonal_points: Points a step, uniform in the hull, that only the eikonal term sees.
        step_widths: Distance between two samples on a ray, in widths of the logistic density (1 / sharpness).
        least_step: Shortest distance between two samples on a ray.
        greatest_step: Longest, before stretching at grazing rays.
        longest_skip: Longest jump through space that the cache calls empty.
        sharpness_start: Inverse width of the logistic density at the start.
        sharpness_end: Inverse width at the end.
        sharpest_by: Share of the run after which the sharpness is constant.
        cache_resolution: Cells of the cached SDF along the box.
        cache_every: Steps between refreshes of the cache.
        mask_margin_px: Pixels around the masks that rays are drawn from, and by which the hull is widened.
    """

    samples: int = 8192
    eikonal_points: int = 1024
    step_widths: float = 1.5
    least_step: float = 0.003
    greatest_step: float = 0.03
    longest_skip: float = 0.04
    sharpness_start: float = 40.0
    sharpness_end: float = 700.0
    sharpest_by: float = 0.8
    cache_resolution: int = 128
    cache_every: int = 100
    mask_margin_px: int = 6


@dataclass(frozen=True, kw_only=True)
class VolumeLossConfig:
    """Weigh the losses of the volume renderer.

    Attributes:
        photometric: Weight of the mean error of a colour channel.
        charbonnier: Error below which the photometric loss turns from linear to quadratic.
        clipped_from: Photo values from here on count as clipped: only darker predictions cost. Above 1: off.
        eikonal: Weight of ``(|gradient| - 1)^2``.
        mask: Weight of the cross-entropy between opacity and mask.
        smoothness: Weight of the squared second difference of unit normals along the surface.
        smoothness_clipped: What is added to it times the squared share of clipped channels of the photo.
        smoothness_distance: Standard deviation of the step of that difference, in normalised units.
    """

    photometric: float = 1.0
    charbonnier: float = 0.03
    clipped_from: float = 0.98
    eikonal: float = 0.1
    mask: float = 0.1
    smoothness: float = 0.0003
    smoothness_clipped: float = 0.05
    smoothness_distance: float = 0.015


@dataclass(frozen=True, kw_only=True)
class VolumeOptimConfig:
    """Describe Adam (arXiv:1412.6980) and its schedule.

    Attributes:
        table_rate: Learning rate of the hash table.
        network_rate: Learning rate of the two networks.
        exposure_rate: Learning rate of the exposure of each picture; 0 keeps all exposures equal.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of squares.
        eps: Added to the root of the mean of squares.
        warm_up_steps: Steps of linear warm-up.
        decay_from: Share of the run after which the rate falls exponentially.
        final_share: Share of the rate that is left at the end.
        table_decay: Decoupled weight decay of the coarsest level of the table, per unit of rate.
        table_decay_fine: The same of the finest level; the ones between are interpolated geometrically.
    """

    table_rate: float = 1e-2
    network_rate: float = 2e-3
    exposure_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-15
    warm_up_steps: int = 20
    decay_from: float = 0.3
    final_share: float = 0.05
    table_decay: float = 0.0
    table_decay_fine: float = 0.0


@dataclass(frozen=True, kw_only=True)
class VolumeConfig:
    """Gather the options of the volume renderer.

    Attributes:
        grid: The field.
        sampling: Where it is evaluated.
        loss: What it is trained for.
        optim: How.
        hull_fit_steps: Steps of fitting the field to the visual hull before training.
        shards: Parts of a batch that run in parallel. Part of the result: sums are taken over the parts in order.
    """

    grid: GridConfig = field(default_factory=GridConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loss: VolumeLossConfig = field(default_factory=VolumeLossConfig)
    optim: VolumeOptimConfig = field(default_factory=VolumeOptimConfig)
    hull_fit_steps: int = 150
    shards: int = 2
