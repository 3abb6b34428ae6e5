"""Maps of codes: points on a plane whose neighbours are neighbours among the codes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.errors import UserError

FEWEST_FOR_TSNE = 4


def embed_codes(
    codes: Float[Tensor, "shapes code"],
    method: Literal["tsne", "pca"] = "tsne",
    perplexity: float = 30.0,
    seed: int = 0,
) -> Float[np.ndarray, "shapes 2"]:
    """Return a place on the plane for every code.

    Args:
        codes: One row a shape.
        method: ``tsne`` keeps neighbours together (van der Maaten and Hinton, JMLR 2008) and needs scikit-learn;
            ``pca`` is the projection onto the two directions of largest variance, true to distances and always there.
        perplexity: Neighbours that t-SNE looks at, about; at most a third of the codes are.
        seed: Decides the details of t-SNE; it starts from the projection.

    Raises:
        ValueError: if a code is not finite, or ``method`` is unknown.
        UserError: if scikit-learn is missing, or there are fewer than 4 codes for t-SNE or none at all.
    """
    check_shape("codes", codes, (None, None))
    check_finite("codes", codes)
    check_range("perplexity", perplexity, 1.0)
    if method not in ("tsne", "pca"):
        raise ValueError(f"method must be 'tsne' or 'pca', got {method!r}.")
    if not len(codes):
        raise UserError("There is no code to draw.", "Train on at least one shape.")
    rows = codes.detach().cpu().double()
    plane = _principal_plane(rows)
    if method == "pca":
        return plane.numpy()
    if len(codes) < FEWEST_FOR_TSNE:
        raise UserError(f"t-SNE needs at least {FEWEST_FOR_TSNE} codes, got {len(codes)}.", "Choose the method 'pca'.")
    return _tsne(rows, plane, min(perplexity, (len(codes) - 1) / 3), seed)


def _principal_plane(rows: Float[Tensor, "shapes code"]) -> Float[Tensor, "shapes 2"]:
    """Return the coordinates along the first two principal directions; zero where there is no second."""
    centered = rows - rows.mean(dim=0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    # A direction and its opposite are equally good: take the one whose largest entry is positive.
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    plane = centered @ (directions * torch.where(largest < 0, -1.0, 1.0)).T
    return torch.nn.functional.pad(plane, (0, 2 - plane.shape[1]))


def _tsne(
    rows: Float[Tensor, "shapes code"], plane: Float[Tensor, "shapes 2"], perplexity: float, seed: int
) -> Float[np.ndarray, "shapes 2"]:
    """Return scikit-learn's t-SNE, started from the projection shrunk to a small spread as it recommends."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError(
            "t-SNE needs scikit-learn, which is not installed.",
            "Install it with 'pip install shapewright[analysis]', or choose the method 'pca'.",
        ) from error
    start = (plane / plane[:, 0].std().clamp(min=1e-12) * 1e-4).numpy()
    tsne = TSNE(n_components=2, perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    return tsne.fit_transform(rows.numpy()).astype(np.float64)
