import pytest
import torch

from shapewright.geometry.alignment import Similarity, align_cameras, align_points, camera_errors, nearest_rotation
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.rotations import matrix_from_axis_angle

GENERATOR = torch.Generator().manual_seed(3)
TRUTH = Similarity(
    2.3,
    matrix_from_axis_angle(torch.tensor([0.5, -1.0, 0.8], dtype=torch.float64)),
    torch.tensor([4.0, -1.0, 0.3], dtype=torch.float64),
)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def cameras_at(rotations, centers):
    views = len(centers)
    pose = torch.cat([rotations, centers[:, :, None]], dim=2)
    return Cameras(pose, torch.eye(3, dtype=torch.float64).repeat(views, 1, 1), torch.tensor([[8, 8]] * views))


def assert_is_truth(found, tolerance):
    assert found.scale == pytest.approx(TRUTH.scale, rel=tolerance)
    assert torch.allclose(found.rotation, TRUTH.rotation, atol=tolerance)
    assert torch.allclose(found.translation, TRUTH.translation, atol=10 * tolerance)


@pytest.mark.parametrize("count", [3, 50])
def test_a_similarity_is_recovered_exactly(count):
    source = random(count, 3)
    assert_is_truth(align_points(source, TRUTH.apply(source)), 1e-9)


def test_a_similarity_is_recovered_with_a_fifth_of_outliers():
    source = random(50, 3)
    target = TRUTH.apply(source)
    target[:10] += 5 * random(10, 3)
    assert_is_truth(align_points(source, target), 1e-4)


def test_a_mirror_image_is_aligned_by_a_rotation():
    source = random(20, 3)
    found = align_points(source, source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    assert torch.linalg.det(found.rotation) == pytest.approx(1.0)


def test_the_nearest_rotation_of_a_rotation_is_itself():
    assert torch.allclose(nearest_rotation(3.0 * TRUTH.rotation), TRUTH.rotation)


def test_cameras_are_aligned_even_with_their_centres_on_a_line():
    R = matrix_from_axis_angle(random(8, 3))
    centers = torch.linspace(0, 1, 8, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, 3.0]).double()
    target = cameras_at(TRUTH.rotation @ R, TRUTH.apply(centers))
    assert_is_truth(align_cameras(cameras_at(R, centers), target), 1e-6)


def test_one_wrong_camera_is_the_only_one_with_an_error():
    R, centers = matrix_from_axis_angle(random(10, 3)), random(10, 3)
    truth = cameras_at(TRUTH.rotation @ R, TRUTH.apply(centers))
    R, centers = R.clone(), centers.clone()
    R[4] = R[4] @ matrix_from_axis_angle(torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64))
    centers[4] += 1.0
    rotation_deg, center = camera_errors(cameras_at(R, centers), truth)
    others = torch.arange(10) != 4
    assert rotation_deg[others].max() < 1e-3
    assert center[others].max() < 1e-4
    assert rotation_deg[4] == pytest.approx(17.19, abs=0.01)
    assert center[4] == pytest.approx(TRUTH.scale * 3**0.5, rel=1e-3)


def test_too_few_points_or_different_numbers_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        align_points(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="same 2 or more views"):
        align_cameras(
            cameras_at(TRUTH.rotation[None], torch.zeros(1, 3).double()),
            cameras_at(TRUTH.rotation[None], torch.zeros(1, 3).double()),
        )
