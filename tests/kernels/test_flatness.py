"""Flatness in one pass: the value and the derivative of the definition, whatever the threads, shapes and slivers."""

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh_edges import edge_table
from shapewright.kernels.backends import backend
from shapewright.kernels.mesh_ops import flatness
from shapewright.kernels.reference.flatness import flatness as defined


def bumpy(images, dtype, generator, subdivisions=2):
    mesh = icosphere(subdivisions, dtype)
    noise = torch.randn(images, *mesh.vertices.shape, dtype=dtype, generator=generator)
    return (mesh.vertices / 2 + 0.02 * noise).requires_grad_(), edge_table(mesh.faces)


def value_and_gradient(function, vertices, edges):
    value = function(vertices, edges)
    weights = torch.linspace(1, 2, len(value), dtype=value.dtype, device=value.device)
    return value, *torch.autograd.grad((weights * value).sum(), vertices)


@pytest.mark.parametrize("images", [1, 15, 16, 33])
def test_value_and_derivative_are_those_of_the_definition(device, generator, images):
    vertices, edges = bumpy(images, torch.float64, generator)
    vertices = vertices.detach().to(device).requires_grad_()
    found = value_and_gradient(flatness, vertices, edges.to(device))
    for ours, theirs in zip(found, value_and_gradient(defined, vertices, edges.to(device)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_single_precision_is_as_good_as_the_definition(device, generator):
    exact_input, edges = bumpy(5, torch.float64, generator)
    exact = value_and_gradient(defined, exact_input, edges)
    rough = exact_input.detach().float().to(device).requires_grad_()
    for ours, theirs in zip(value_and_gradient(flatness, rough, edges.to(device)), exact, strict=True):
        assert (ours.cpu().double() - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_the_derivative_passes_a_check_by_differences(device, generator):
    vertices, edges = bumpy(2, torch.float64, generator, subdivisions=0)
    vertices = vertices.detach().to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: flatness(v, edges.to(device)), vertices)


def test_slivers_and_points_stay_finite(generator):
    edges = edge_table(torch.tensor([[0, 1, 2], [2, 1, 3]]))
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    vertices = torch.stack([line, 0 * line, 1e-20 * line, 1e4 * line]).requires_grad_()
    for name in ("cpu", "reference"):
        with backend(name):
            for found in value_and_gradient(flatness, vertices, edges):
                assert bool(found.isfinite().all())


def test_the_number_of_threads_changes_no_bit(generator):
    vertices, edges = bumpy(70, torch.float32, generator)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(value_and_gradient(flatness, vertices, edges))
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_strides_no_mesh_and_open_edges_are_taken(generator):
    vertices, edges = bumpy(3, torch.float64, generator)
    flipped = vertices.flip(2).transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.allclose(flatness(flipped, edges), defined(flipped, edges))
    assert flatness(vertices[:0], edges).shape == (0,)
    border = edges.clone()
    border[:, 3] = -1
    assert not bool(flatness(vertices, border).any())


def test_an_edge_of_a_missing_vertex_is_refused():
    with pytest.raises(ValueError, match="edges must name vertices 0 to 2, got 0 to 3"):
        flatness(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2, 3]]))
    with pytest.raises(ValueError, match="edges must have shape"):
        flatness(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]))
