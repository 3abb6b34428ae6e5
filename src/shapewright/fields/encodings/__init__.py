"""Encodings: what a network reads instead of a bare position or direction."""

from __future__ import annotations

import torch

from shapewright.fields.config import EncodingConfig, ViewEncodingConfig
from shapewright.fields.encodings.base import Encoding
from shapewright.fields.encodings.frequency import FrequencyEncoding
from shapewright.fields.encodings.view import SphericalHarmonics


def build_encoding(config: EncodingConfig, generator: torch.Generator | None = None) -> Encoding:
    """Return the position encoding that ``config`` describes.

    Raises:
        ValueError: if its kind is unknown.
    """
    match config.kind:
        case "none":
            return FrequencyEncoding(0)
        case "posenc":
            return FrequencyEncoding(config.num_frequencies)
        case "hash":
            # The grid kernels load only when a grid is asked for.
            from shapewright.fields.encodings.hash_grid import HashEncoding

            return HashEncoding(config, generator)
    raise ValueError(f"encoding kind must be none, posenc or hash, got {config.kind!r}.")


def build_view_encoding(config: ViewEncodingConfig) -> Encoding:
    """Return the encoding of viewing directions that ``config`` describes.

    Raises:
        ValueError: if its kind is unknown.
    """
    match config.kind:
        case "none":
            return FrequencyEncoding(0)
        case "posenc":
            return FrequencyEncoding(config.num_frequencies)
        case "sh":
            return SphericalHarmonics(config.degree)
    raise ValueError(f"view encoding kind must be none, posenc or sh, got {config.kind!r}.")
