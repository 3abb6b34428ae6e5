import pytest
import torch

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import (
    component_labels,
    count_components,
    cull_by_masks,
    is_watertight,
    keep_components,
    keep_faces,
    largest_component,
)

CENTERS = torch.tensor([[-0.4, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.6, 0.0]])
RADII = torch.tensor([0.2, 0.3, 0.1])


@pytest.fixture(scope="module")
def three_spheres():
    def field(points):
        return (torch.cdist(points, CENTERS) - RADII).amin(dim=1)

    mesh = extract_isosurface(field, torch.full((3,), -1.0), torch.full((3,), 1.0), 64).mesh
    return Mesh(mesh.vertices, mesh.faces, vertex_colors=mesh.vertices * 0.5 + 0.5, vertex_normals=mesh.vertices)


def test_components_are_numbered_by_area(three_spheres):
    labels = component_labels(three_spheres)
    middles = [three_spheres.vertices[three_spheres.faces[labels == i]].mean((0, 1)) for i in range(3)]
    assert torch.allclose(torch.stack(middles), CENTERS[[1, 0, 2]], atol=0.01)
    assert count_components(three_spheres) == 3


def test_the_largest_component_is_one_sphere_with_its_colours(three_spheres):
    sphere = largest_component(three_spheres)
    assert float((sphere.vertices - CENTERS[1]).norm(dim=-1).max()) < 0.31
    assert torch.allclose(sphere.vertex_colors, sphere.vertices * 0.5 + 0.5)
    assert torch.equal(sphere.vertex_normals, sphere.vertices)
    assert is_watertight(sphere)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_as_many_components_as_asked_are_kept(three_spheres, count):
    assert count_components(keep_components(three_spheres, count)) == min(count, 3)


def test_area_counts_not_triangles():
    big = torch.tensor([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]])
    fan = torch.tensor([[9.0, 9, 9], [9.1, 9, 9], [9, 9.1, 9], [9, 9, 9.1]])
    mesh = Mesh(torch.cat([fan, big]), torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [4, 5, 6]]))
    assert torch.equal(largest_component(mesh).vertices, big)


def test_vertices_without_a_face_do_not_count():
    mesh = Mesh(torch.rand(6, 3), torch.tensor([[5, 1, 3]]))
    assert count_components(mesh) == 1
    assert largest_component(mesh).num_vertices == 3


def test_an_empty_mesh_stays_empty():
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
    assert largest_component(empty).num_faces == 0
    assert not is_watertight(empty)


def test_keeping_no_component_is_refused(three_spheres):
    with pytest.raises(ValueError, match="count"):
        keep_components(three_spheres, 0)


def test_a_missing_or_a_turned_triangle_is_no_longer_watertight(three_spheres):
    kept = torch.ones(three_spheres.num_faces, dtype=torch.bool)
    assert is_watertight(keep_faces(three_spheres, kept))
    kept[10] = False
    assert not is_watertight(keep_faces(three_spheres, kept))
    turned = three_spheres.faces.clone()
    turned[10] = turned[10].flip(0)
    assert not is_watertight(Mesh(three_spheres.vertices, turned))


def ring_of_cameras(size=96):
    """Four views along +-x and +-z of the ball of radius 1 around the origin."""
    eyes = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 0, 3], [0, 0, -3]])
    forward = -torch.nn.functional.normalize(eyes, dim=-1)
    down = torch.tensor([0.0, -1, 0]).expand_as(eyes)
    right = torch.linalg.cross(down, forward)
    pose = torch.stack([right, down, forward, eyes], dim=-1)
    intrinsics = torch.tensor([[size, 0.0, size / 2], [0, size, size / 2], [0, 0, 1]]).repeat(4, 1, 1)
    return Cameras(pose, intrinsics, torch.full((4, 2), size))


def masks_of(mesh, cameras, grow=1):
    masks = []
    for view in range(len(cameras)):
        uv, _ = cameras.project(mesh.vertices, view)
        mask = torch.zeros(96, 96, dtype=torch.bool)
        mask[uv[:, 1].long(), uv[:, 0].long()] = True
        masks.append(torch.nn.functional.max_pool2d(mask[None].float(), 5, 1, 2)[0] > 0)
    return masks


def test_what_lies_outside_most_silhouettes_goes(three_spheres):
    cameras = ring_of_cameras()
    wanted = keep_faces(three_spheres, component_labels(three_spheres) < 2)
    culled = cull_by_masks(three_spheres, cameras, masks_of(wanted, cameras), dilate_px=1)
    assert torch.equal(culled.vertices, wanted.vertices)
    assert torch.equal(culled.faces, wanted.faces)


def test_the_share_decides_how_strict_the_hull_is(three_spheres):
    cameras = ring_of_cameras()
    masks = masks_of(three_spheres, cameras)
    masks[0] = torch.zeros_like(masks[0])
    assert cull_by_masks(three_spheres, cameras, masks, min_inside_share=0.7).num_faces == three_spheres.num_faces
    assert cull_by_masks(three_spheres, cameras, masks, min_inside_share=0.8).num_faces == 0


def test_dilation_saves_what_is_just_outside(three_spheres):
    cameras = ring_of_cameras()
    tight = [torch.roll(mask, 3, dims=0) for mask in masks_of(three_spheres, cameras)]
    assert cull_by_masks(three_spheres, cameras, tight, dilate_px=0).num_faces < three_spheres.num_faces
    assert cull_by_masks(three_spheres, cameras, tight, dilate_px=4).num_faces == three_spheres.num_faces


def test_what_no_view_holds_stays(three_spheres):
    away = three_spheres.transformed(1.0, torch.tensor([0.0, 50.0, 0.0]))
    cameras = ring_of_cameras()
    masks = [torch.zeros(96, 96, dtype=torch.bool)] * 4
    assert cull_by_masks(away, cameras, masks).num_faces == away.num_faces


def test_a_missing_mask_is_refused(three_spheres):
    with pytest.raises(ValueError, match="4 cameras but 1 masks"):
        cull_by_masks(three_spheres, ring_of_cameras(), [torch.ones(96, 96, dtype=torch.bool)])
