"""Reading of depth pictures: 16-bit grey PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from shapewright.errors import UserError


def read_depth_image(path: Path) -> Int64[np.ndarray, "h w"]:
    """Return the steps of a grey picture with 16 (or 32) bits, as they stand in the file.

    Raises:
        UserError: if the file is missing, damaged, or holds 8 bits or colours.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except FileNotFoundError:
        raise UserError(f"The depth picture {path} does not exist.", "Check the path.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise UserError(
            f"The depth picture {path} cannot be read: {problem}.", "Export it again as a 16-bit grey PNG."
        ) from None
    if not mode.startswith("I"):
        raise UserError(
            f"The depth picture {path} has mode {mode}, not 16-bit grey.",
            "Export the depths themselves, not a coloured picture of them.",
        )
    return pixels.astype(np.int64)
