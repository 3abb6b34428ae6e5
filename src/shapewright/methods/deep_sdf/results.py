"""Files of fitted codes and reconstructed meshes in a run folder.

``codes/<name>.npz`` holds ``code`` [L], the loss, the iterations and the seed; a fit of the last layers adds their
weights. ``meshes/<name>.glb`` is the shape, in the units of its input where they are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.errors import UserError
from shapewright.io.arrays import read_npz, write_npz
from shapewright.io.files import make_folder


@dataclass(frozen=True)
class StoredCode:
    """Hold the code of a shape and how it was found.

    Args:
        code: The code.
        loss: Data loss at the end.
        iterations: Steps made.
        seed: Start of all random numbers.
        start_losses: Data losses of the starts; their spread tells how sure the fit is.
        positive_share: Share of predictions above zero: 0 or 1 means a collapse.
        checkpoint: Step of the decoder.
        refined: Weights of the last layers that were fitted to the shape, by layer and name.
    """

    code: Float[Tensor, " code"]
    loss: float
    iterations: int
    seed: int
    start_losses: tuple[float, ...] = ()
    positive_share: float = float("nan")
    checkpoint: int = 0
    refined: Mapping[str, Tensor] = field(default_factory=dict)


def write_code(path: Path, stored: StoredCode) -> None:
    """Write a code.

    Raises:
        UserError: if the file cannot be written.
    """
    arrays: dict[str, Any] = {
        "code": stored.code.numpy(),
        "loss": np.float32(stored.loss),
        "iterations": np.int64(stored.iterations),
        "seed": np.int64(stored.seed),
        "start_losses": np.array(stored.start_losses, dtype=np.float32),
        "positive_share": np.float32(stored.positive_share),
        "checkpoint": np.int64(stored.checkpoint),
        **{f"refined.{name}": value.numpy() for name, value in stored.refined.items()},
    }
    make_folder(path.parent)
    write_npz(path, arrays)


def read_code(path: Path, length: int) -> StoredCode:
    """Return a code.

    Args:
        path: What ``write_code`` wrote.
        length: Numbers that the decoder wants.

    Raises:
        UserError: if the file is missing or damaged, or the code has another length.
    """
    arrays = read_npz(path)
    if "code" not in arrays or arrays["code"].shape != (length,):
        have = f"shape {list(arrays['code'].shape)}" if "code" in arrays else f"only {', '.join(arrays)}"
        raise UserError(f"{path} holds no code of {length} numbers: {have}.", "It was fitted with another run.")
    refined = {
        name.removeprefix("refined."): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("refined.")
    }
    return StoredCode(
        code=torch.from_numpy(arrays["code"]).float(),
        loss=float(arrays.get("loss", np.nan)),
        iterations=int(arrays.get("iterations", 0)),
        seed=int(arrays.get("seed", 0)),
        start_losses=tuple(arrays.get("start_losses", np.empty(0)).tolist()),
        positive_share=float(arrays.get("positive_share", np.nan)),
        checkpoint=int(arrays.get("checkpoint", 0)),
        refined=refined,
    )
