import math
import sys

import numpy as np
import pytest
import torch

from shapewright.analysis.embed import embed_codes
from shapewright.errors import UserError


def clusters(per_cluster=12, length=16):
    generator = torch.Generator().manual_seed(0)
    middles = 8 * torch.randn(3, 1, length, generator=generator)
    codes = middles + torch.randn(3, per_cluster, length, generator=generator)
    return codes.reshape(-1, length), np.repeat(np.arange(3), per_cluster)


def nearest_share(places, labels):
    """Return the share of points whose nearest neighbour has their label."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return (labels[distances.argmin(1)] == labels).mean()


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_clusters_stay_together_and_shuffled_labels_do_not(method):
    codes, labels = clusters()
    places = embed_codes(codes, method)
    assert places.shape == (36, 2)
    assert nearest_share(places, labels) == 1.0
    assert nearest_share(places, np.random.default_rng(0).permutation(labels)) < 0.7


def test_the_same_seed_gives_the_same_map():
    codes, _ = clusters()
    assert np.array_equal(embed_codes(codes, seed=1), embed_codes(codes, seed=1))


def test_projection_keeps_the_distances_of_a_plane():
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))[0]
    places = torch.from_numpy(embed_codes(plane @ turn[:2] + 5, "pca"))
    assert torch.allclose(torch.cdist(places, places), torch.cdist(plane, plane), atol=1e-6)
    assert places[:, 0].var() > places[:, 1].var()


def test_few_and_short_and_equal_codes_have_a_place():
    assert embed_codes(torch.randn(1, 8), "pca").tolist() == [[0.0, 0.0]]
    line = embed_codes(torch.arange(6.0)[:, None], "pca")
    assert np.allclose(np.abs(np.diff(line[:, 0])), 1)
    assert not line[:, 1].any()
    for codes in (torch.arange(6.0)[:, None], torch.ones(6, 4), torch.randn(4, 4)):
        assert np.isfinite(embed_codes(codes)).all()


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"pip install shapewright\[analysis\]"):
        embed_codes(clusters()[0])
    assert embed_codes(clusters()[0], "pca").shape == (36, 2)


def test_what_has_no_map_is_refused():
    with pytest.raises(UserError, match="at least 4 codes, got 3"):
        embed_codes(torch.randn(3, 8))
    with pytest.raises(UserError, match="no code"):
        embed_codes(torch.randn(0, 8), "pca")
    with pytest.raises(ValueError, match="must be finite"):
        embed_codes(torch.full((5, 2), math.nan))
    with pytest.raises(ValueError, match="'umap'"):
        embed_codes(torch.randn(5, 2), "umap")
    with pytest.raises(ValueError, match="perplexity"):
        embed_codes(torch.randn(5, 2), perplexity=0.5)
