"""The share of a picture that shows the inside of a mesh, and what closes it."""

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.losses.inside_out import inside_out_loss
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.rasterizer import rasterize


def judged(screen, faces, size=32):
    return inside_out_loss(screen, faces, rasterize(screen, faces, size, near=0.1).face_id)


def test_it_is_the_share_of_pixels_that_show_a_back():
    mesh = icosphere(1)
    screen = project_perspective(0.4 * mesh.vertices, kato_ring(32)[range(3)])
    assert judged(screen, mesh.faces) == 0
    # A face at the outline is drawn on more pixels than its area is worth, and counts by that.
    assert float(judged(screen, mesh.faces.flip(1))) == pytest.approx(1, abs=0.1)
    both = torch.cat([screen, screen + 1000])
    assert float(judged(both, mesh.faces.flip(1))) == pytest.approx(float(judged(screen, mesh.faces.flip(1))) / 2)


def test_the_gradient_is_that_of_the_area_of_what_is_seen_from_behind():
    # Two triangles side by side, of which the first shows its back.
    corners = [[4.0, 4.0, 2.0], [20.0, 4.0, 2.0], [4.0, 20.0, 2.0], [30.0, 4.0, 2.0], [30.0, 20.0, 2.0]]
    screen = torch.tensor([corners], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [1, 4, 3]])
    ids = rasterize(screen.detach(), faces, 32, near=0.1).face_id
    pixels, covered = int((ids == 0).sum()), int((ids >= 0).sum())
    loss = inside_out_loss(screen, faces, ids)
    area = 16 * 16 / 2
    assert float(loss.detach()) == pytest.approx(min(pixels, area) / covered)
    loss.backward()
    # By moving vertex 1 to the right by 1 the area grows by 8.
    factor = pixels / max(pixels, area) / covered
    assert float(screen.grad[0, 1, 0]) == pytest.approx(8 * factor)
    assert float(screen.grad[0, 2, 1]) == pytest.approx(8 * factor)
    assert not screen.grad[0, 3:].any()
    assert not screen.grad[..., 2].any()


def test_slivers_and_empty_pictures_have_finite_gradients():
    sliver = torch.tensor([[[4.0, 4.0, 2.0], [28.0, 4.5, 2.0], [28.0, 4.5 + 1e-6, 2.0]]], requires_grad=True)
    face_id = torch.full((1, 32, 32), -1, dtype=torch.int32)
    face_id[0, 4, 4:8] = 0
    inside_out_loss(sliver, torch.tensor([[0, 1, 2]]), face_id).backward()
    assert float(sliver.grad.abs().max()) < 10
    assert inside_out_loss(sliver, torch.tensor([[0, 1, 2]]), torch.full_like(face_id, -1)) == 0


def test_descent_turns_a_dented_sphere_right():
    mesh = icosphere(3)
    cameras = kato_ring(64)[range(1)]
    forward = cameras.world_from_camera[0, :3, 2].float()
    depth = mesh.vertices @ forward
    # The cap that looks at the camera is pulled through the back of the sphere.
    pulled = torch.where((depth < -0.6)[:, None], mesh.vertices + 2.5 * forward, mesh.vertices)
    vertices = (0.3 * pulled).requires_grad_(True)
    before = float(judged(project_perspective(vertices.detach(), cameras), mesh.faces, 64))
    assert before > 0.2
    adam = torch.optim.Adam([vertices], lr=0.01)
    for _ in range(120):
        adam.zero_grad()
        loss = judged(project_perspective(vertices, cameras), mesh.faces, 64)
        loss.backward()
        adam.step()
    assert float(loss.detach()) < before / 4
