"""Settings of the encodings and of the signed distance and radiance networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EncodingKind = Literal["none", "posenc", "hash"]
ViewEncodingKind = Literal["none", "posenc", "sh"]
RadianceMode = Literal["idr", "no_view_dir", "no_normal", "no_feature"]


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """Say how a position becomes features.

    Attributes:
        kind: ``none`` (the position alone), ``posenc`` (sines and cosines) or ``hash`` (multi-resolution grid).
        num_frequencies: Octaves of ``posenc``.
        num_levels: Levels of ``hash``.
        features_per_level: Numbers that each grid vertex stores.
        log2_table_size: Logarithm of the rows of a hashed level.
        base_resolution: Resolution of the coarsest level.
        max_resolution: Resolution of the finest level.
        smoothstep: Interpolate with a continuous first derivative.
        start_levels: Levels that are active when training starts.
        all_levels_at: Share of the run after which all levels are active; 0 for all at once.
        bound: Half the side of the cube that the grid covers, in normalised units.
    """

    kind: EncodingKind = "hash"
    num_frequencies: int = 6
    num_levels: int = 16
    features_per_level: int = 2
    log2_table_size: int = 19
    base_resolution: int = 16
    max_resolution: int = 2048
    smoothstep: bool = False
    start_levels: int = 4
    all_levels_at: float = 0.5
    bound: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ViewEncodingConfig:
    """Say how a viewing direction becomes features.

    Attributes:
        kind: ``none`` (the direction alone), ``posenc`` or ``sh`` (real spherical harmonics).
        num_frequencies: Octaves of ``posenc``.
        degree: Bands of ``sh``, 1 to 5; ``degree^2`` numbers.
    """

    kind: ViewEncodingKind = "sh"
    num_frequencies: int = 4
    degree: int = 4


@dataclass(frozen=True, kw_only=True)
class SdfConfig:
    """Describe the signed distance network.

    Attributes:
        width: Neurons of a hidden layer.
        num_layers: Hidden layers.
        feature_size: Numbers handed to the radiance network.
        skip_layer: Hidden layer that reads the encoding again; 0 for none.
        sharpness: ``beta`` of the softplus.
        weight_norm: Whether each weight row is stored as a direction and a length.
        start: ``geometric`` (initialisation alone) or ``fit`` (then fitted to the sphere).
        radius: Radius of the starting sphere, in normalised units.
        inside_out: Start with the object outside the sphere (rooms).
    """

    width: int = 64
    num_layers: int = 2
    feature_size: int = 15
    skip_layer: int = 0
    sharpness: float = 100.0
    weight_norm: bool = True
    start: Literal["geometric", "fit"] = "fit"
    radius: float = 0.6
    inside_out: bool = False


@dataclass(frozen=True, kw_only=True)
class RadianceConfig:
    """Describe the radiance network.

    Attributes:
        mode: Which inputs it sees beside the position: ``idr`` all of them.
        width: Neurons of a hidden layer.
        num_layers: Hidden layers.
        weight_norm: Whether each weight row is stored as a direction and a length.
        output: ``sigmoid``, or ``tanh`` shifted to [0, 1] as in the paper.
        normal: ``unit``, or the ``raw`` gradient as in the paper.
    """

    mode: RadianceMode = "idr"
    width: int = 64
    num_layers: int = 2
    weight_norm: bool = True
    output: Literal["sigmoid", "tanh"] = "sigmoid"
    normal: Literal["unit", "raw"] = "unit"
