import math

import pytest
import torch

from shapewright.data.picture_sets import PictureViews, project_to
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.methods.pose_invariant.pose_search import OrbitRig, search_pose
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

SPHERE = icosphere(2)
# A shape that looks the same from no two sides.
BODY = SPHERE.vertices * torch.tensor([0.5, 0.18, 0.22])
BODY = (
    BODY
    + torch.tensor([0.0, 0.25, 0.1]) * torch.exp(-30 * (BODY - torch.tensor([0.3, 0.1, 0.0])).square().sum(1))[:, None]
)


def mask_from(rig, azimuth, elevation, size=64):
    pose = rig.poses([azimuth], [elevation])
    screen = project_to(BODY[None], pose, rig.half_angle_deg, size)
    near = None if rig.half_angle_deg is None else 0.1
    return silhouette(screen, SPHERE.faces, size, SilhouetteStyle(near=near))[0]


@pytest.mark.parametrize(
    "rig", [OrbitRig(), OrbitRig(1.0, None), OrbitRig(2.4, 14.93)], ids=["kato", "parallel", "lsm"]
)
def test_the_pose_of_a_mask_on_the_grid_is_found(rig):
    # From level, in parallel, the other side has the mirrored outline only.
    for azimuth, elevation in ((0, 30), (75, 15), (255, 30), (345, 45), (120, -15)):
        found = search_pose(BODY, SPHERE.faces, mask_from(rig, azimuth, elevation), rig)
        assert (found.azimuth_deg, found.elevation_deg) == (azimuth, elevation)
        assert found.iou == 1.0
        assert torch.allclose(found.world_from_camera, rig.poses([azimuth], [elevation])[0].float())


def test_a_pose_between_the_grid_is_found_nearby():
    found = search_pose(BODY, SPHERE.faces, mask_from(OrbitRig(), 80, 25), OrbitRig())
    assert abs(found.azimuth_deg - 80) <= 15
    assert found.elevation_deg in (15, 30)
    assert 0.9 < found.iou < 1


def test_a_mesh_beside_the_picture_has_no_overlap():
    found = search_pose(BODY + torch.tensor([0.0, 50.0, 0.0]), SPHERE.faces, mask_from(OrbitRig(), 0, 0))
    assert found.iou == 0


def test_the_ring_of_kato_is_the_default_rig():
    views = PictureViews(kato_ring().world_from_camera[None], 15.0)
    assert OrbitRig.of(views).distance == pytest.approx(2.732)
    poses = OrbitRig().poses([15.0 * k for k in range(24)], [30.0] * 24)
    assert torch.allclose(poses, kato_ring().world_from_camera)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="mask is empty"):
        search_pose(BODY, SPHERE.faces, torch.zeros(16, 16))
    with pytest.raises(ValueError, match="mask must have shape"):
        search_pose(BODY, SPHERE.faces, torch.ones(16, 17))
    with pytest.raises(ValueError, match="elevations"):
        search_pose(BODY, SPHERE.faces, torch.ones(16, 16), elevations_deg=())
    for distance, angle in ((0.0, 15.0), (1.0, 95.0), (math.nan, None)):
        with pytest.raises(ValueError, match="must lie"):
            OrbitRig(distance, angle)
