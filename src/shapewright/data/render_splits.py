"""Which objects are learned from and which are kept back; near copies stay together."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from shapewright.data.render_sources import RenderSource
from shapewright.errors import UserError

SETS = ("train", "val", "test")


def parse_shares(text: str) -> tuple[float, float, float]:
    """Return the shares of train, val and test that a text such as ``.7,.1,.2`` says.

    Raises:
        UserError: if there are not three numbers from 0 to 1 whose sum is 1.
    """
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"--split {text} is no division into train, val and test.", "Write three shares that add up to 1: .7,.1,.2"
        )
    return shares[0], shares[1], shares[2]


def split_sources(
    sources: Sequence[RenderSource], shares: tuple[float, float, float], seed: int
) -> dict[str, dict[str, list[RenderSource]]]:
    """Return the objects of each class and set, in the order of their names.

    Classes are divided one by one. Clusters of near copies are drawn in a random order, and each goes as a whole to the
    set that lacks most objects; sets whose share is 0 stay empty.

    Args:
        sources: All objects.
        shares: Of train, val and test.
        seed: Decides the order.
    """
    classes = sorted({source.shape_class for source in sources})
    return {name: _split_class([one for one in sources if one.shape_class == name], shares, seed) for name in classes}


def _split_class(
    sources: list[RenderSource], shares: tuple[float, float, float], seed: int
) -> dict[str, list[RenderSource]]:
    clusters: dict[tuple[str, str], list[RenderSource]] = {}
    for source in sorted(sources, key=lambda source: source.name):
        key = ("object", source.name) if source.cluster is None else ("cluster", source.cluster)
        clusters.setdefault(key, []).append(source)
    names = sorted(clusters)
    rng = np.random.default_rng([seed, zlib.crc32(sources[0].shape_class.encode())])
    members: dict[str, list[RenderSource]] = {name: [] for name in SETS}
    open_sets = [(name, share * len(sources)) for name, share in zip(SETS, shares, strict=True) if share > 0]
    for index in rng.permutation(len(names)):
        # max takes the first of equals, so that the outcome depends on the seed alone.
        emptiest = max(open_sets, key=lambda one: one[1] - len(members[one[0]]))[0]
        members[emptiest] += clusters[names[index]]
    return {name: sorted(found, key=lambda source: source.name) for name, found in members.items()}
