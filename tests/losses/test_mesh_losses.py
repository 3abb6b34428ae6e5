"""Losses on meshes and silhouettes: published values, closed forms, empty input."""

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh_edges import edge_table
from shapewright.losses.flatness import dihedral_loss, flatness_loss
from shapewright.losses.laplacian import edge_length_loss, laplacian_loss
from shapewright.losses.silhouette_pictures import iou_loss, pyramid_loss

DOUBLE = torch.float64
NO_EDGES = torch.zeros(0, 4, dtype=torch.int64)


def sphere(radius=1.0, images=1):
    mesh = icosphere(3, DOUBLE)
    return (radius * mesh.vertices).expand(images, -1, -1), edge_table(mesh.faces)


@pytest.mark.parametrize(("radius", "expected"), [(1.0, 0.034114), (0.5, 0.042121)])
def test_flatness_of_the_template_is_as_published(radius, expected):
    vertices, edges = sphere(radius, images=3)
    assert float(flatness_loss(vertices, edges)) == pytest.approx(expected, abs=1e-6)
    assert float(dihedral_loss(vertices, edges)) == pytest.approx(0.031637, abs=1e-6)


def test_a_plane_is_flat_and_a_fold_is_not():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]], dtype=DOUBLE)
    edges = edge_table(torch.tensor([[0, 1, 2], [2, 1, 3]]))
    for loss in (flatness_loss, dihedral_loss):
        assert float(loss(vertices, edges)) == pytest.approx(0, abs=1e-4)
    folded = vertices.clone()
    folded[0, 3] = torch.tensor([0.5, 0.5, 2**-0.5])
    for loss in (flatness_loss, dihedral_loss):
        assert float(loss(folded, edges)) == pytest.approx(1, abs=1e-3)
        assert torch.autograd.gradcheck(lambda v, loss=loss: loss(v, edges), folded.clone().requires_grad_())


def test_neighbours_pull_a_vertex_to_their_mean():
    vertices = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [9, 9, 9]]], dtype=DOUBLE)
    edges = edge_table(torch.tensor([[0, 1, 2]]))
    # Each is off the middle of the other two: |(1, 1)|^2 + |(2, -1)|^2 + |(-1, 2)|^2; the last has no neighbour.
    assert float(laplacian_loss(vertices, edges)) == pytest.approx(2 + 5 + 5)
    lengths = torch.tensor([2.0, 2.0, 8**0.5])
    expected = float((lengths - lengths.mean()).square().sum())
    assert float(edge_length_loss(vertices, edges)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [flatness_loss, dihedral_loss, laplacian_loss, edge_length_loss])
def test_meshes_without_edges_cost_nothing(loss):
    vertices = torch.rand(2, 3, 3, requires_grad=True)
    value = loss(vertices, NO_EDGES)
    value.backward()
    assert value.item() == 0
    assert not bool(vertices.grad.any())


def test_equal_silhouettes_cost_nothing_and_disjoint_ones_everything():
    mask = torch.zeros(2, 32, 32)
    mask[0, 4:12, 4:12] = 1
    mask[1, 20:30, 3:5] = 1
    assert float(iou_loss(mask, mask)) == pytest.approx(0, abs=1e-6)
    assert float(iou_loss(mask, mask.flip(2))) == pytest.approx(1, abs=1e-6)
    assert float(pyramid_loss(mask, mask)) == pytest.approx(0, abs=1e-9)
    # Disjoint on the finest level: each unit vector costs 1.
    assert float(pyramid_loss(mask, mask.flip(2), levels=1)) == pytest.approx(2, abs=1e-4)
    half = mask.clone()
    half[0, 4:8] = 0
    half[1, 20:25] = 0
    assert float(iou_loss(half, mask)) == pytest.approx(0.5, abs=1e-6)


def test_empty_pictures_have_finite_losses_and_gradients():
    for loss in (iou_loss, pyramid_loss):
        for target in (torch.zeros(1, 16, 16), torch.ones(1, 16, 16)):
            picture = torch.zeros(1, 16, 16, requires_grad=True)
            value = loss(picture, target)
            value.backward()
            assert bool(value.isfinite())
            assert bool(picture.grad.isfinite().all())
    assert float(iou_loss(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))) == 0
