"""Triangles cut at the near plane."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.near_clipping import clip_near

DOUBLE = torch.float64
ONE_FACE = torch.tensor([[0, 1, 2]])


def area_of(vertices, faces):
    a, b, c = vertices[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a) / 2


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize(
    ("depths", "parts", "share"), [((2, 2, 2), 1, 1.0), ((0, 2, 2), 2, 0.75), ((0, 0, 2), 1, 0.25), ((0, 0, 0), 0, 0)]
)
def test_a_triangle_leaves_what_lies_beyond_the_plane(depths, parts, share, shift):
    corners = torch.tensor([[0.0, 0, depths[0]], [4, 0, depths[1]], [0, 4, depths[2]]], dtype=DOUBLE).roll(shift, 0)
    clipped = clip_near(corners, ONE_FACE, corners, near=1.0)
    assert len(clipped.faces) == parts
    assert clipped.source_face.tolist() == [0] * parts
    # The pieces lie in the plane of the triangle, wound as it is, and make up the share of its area.
    torch.testing.assert_close(area_of(clipped.vertices, clipped.faces).sum(0), share * area_of(corners, ONE_FACE)[0])
    assert bool((clipped.vertices[clipped.faces][..., 2] >= 1).all())
    torch.testing.assert_close(clipped.attributes, clipped.vertices)


def test_a_cut_sphere_has_one_smooth_rim():
    mesh = icosphere(3, DOUBLE)
    vertices = mesh.vertices + torch.tensor([0.0, 0, 1.3], dtype=DOUBLE)
    clipped = clip_near(vertices, mesh.faces, mesh.vertices, near=1.01)
    sides = torch.cat([clipped.faces[:, [k, (k + 1) % 3]] for k in range(3)])
    _, uses = torch.unique(sides.sort(dim=1).values, dim=0, return_counts=True)
    assert set(uses.tolist()) == {1, 2}
    rim = int((uses == 1).sum())
    assert rim == len(clipped.vertices) - mesh.num_vertices
    # A sphere's cap has the area 2 pi h; the facets lose a little.
    assert float(area_of(clipped.vertices, clipped.faces).norm(dim=1).sum()) == pytest.approx(
        2 * math.pi * (1.3 + 1 - 1.01), rel=0.01
    )
    torch.testing.assert_close(clipped.attributes, clipped.vertices - vertices.new_tensor([0, 0, 1.3]))


def test_nothing_changes_where_all_lies_beyond_the_plane():
    mesh = icosphere(1)
    vertices = mesh.vertices + 5
    clipped = clip_near(vertices, mesh.faces, torch.zeros(len(vertices), 0), near=0.1)
    assert torch.equal(clipped.vertices, vertices)
    assert torch.equal(clipped.faces, mesh.faces)
    empty = clip_near(vertices, mesh.faces[:0], vertices, near=0.1)
    assert empty.faces.shape == (0, 3)


@pytest.mark.parametrize("near", [0.1, 0.3, 0.7, 1.1])
def test_new_vertices_are_never_before_the_plane(near):
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(300, 3, generator=generator)
    clipped = clip_near(vertices, torch.arange(300).view(100, 3), vertices, near)
    assert len(clipped.vertices) > 310
    assert float(clipped.vertices[300:, 2].double().min()) >= near


def test_cuts_pass_the_check_of_finite_differences():
    corners = torch.tensor([[0.0, 0, 0.2], [4, 0, 2], [0, 4, 3], [5, 5, 0.1]], dtype=DOUBLE, requires_grad=True)
    colors = torch.rand(4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [0, 1, 3]])

    def cut(vertices, attributes):
        clipped = clip_near(vertices, faces, attributes, near=1.0)
        return clipped.vertices[:, :2], clipped.attributes

    assert torch.autograd.gradcheck(cut, (corners, colors))


def test_vertices_that_are_not_finite_stay_for_the_rasteriser_to_refuse():
    corners = torch.tensor([[0.0, 0, 0], [4, math.nan, 2], [0, 4, 2]])
    assert torch.equal(clip_near(corners, ONE_FACE, corners, near=1.0).faces, ONE_FACE)


def test_wrong_shapes_and_planes_are_refused():
    with pytest.raises(ValueError, match="attributes must have shape"):
        clip_near(torch.zeros(3, 3), ONE_FACE, torch.zeros(2, 1), near=1.0)
    with pytest.raises(ValueError, match="near must"):
        clip_near(torch.zeros(3, 3), ONE_FACE, torch.zeros(3, 1), near=0.0)
