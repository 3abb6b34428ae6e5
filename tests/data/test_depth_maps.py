import json

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data.depth_maps import DepthMap, read_depth_map, scan_from_depth_map
from shapewright.errors import UserError
from shapewright.geometry.free_space import FREE, HIDDEN, observe

SIZE = 48
K = np.array([[60.0, 0.0, 24.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
POSE = np.array([[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, -0.2], [0.0, 0.0, 1.0, -3.0]])
NORMAL = np.array([0.3, -0.1, -1.0]) / np.linalg.norm([0.3, -0.1, -1.0])


def tilted_square():
    """Return the depths of the plane NORMAL . x = 0 seen in the middle of the picture, and where that is."""
    v, u = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
    rays = np.stack([(u - 24.0) / 60.0, (v - 24.0) / 60.0, np.ones_like(u)], axis=-1)
    depth = -(POSE[:, 3] @ NORMAL) / (rays @ NORMAL)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[10:40, 12:36] = True
    return np.where(mask, depth, 0.0), mask


def write_png(path, depth, camera):
    Image.fromarray(np.round(depth * 10_000).astype(np.uint16)).save(path)
    path.with_suffix(".json").write_text(json.dumps(camera))


def camera_fields(**more):
    return {"K": K.tolist(), "world_from_camera": POSE.tolist(), "depth_scale": 1e-4, **more}


def test_points_and_normals_of_a_plane_are_exact():
    depth, mask = tilted_square()
    scan = scan_from_depth_map(DepthMap(depth, K, POSE, mask))
    assert scan.num_points == mask.sum()
    normal = torch.from_numpy(NORMAL).float()
    assert (scan.points @ normal).abs().max() < 1e-5
    assert torch.allclose(scan.normals, normal.expand_as(scan.normals), atol=1e-3)
    assert torch.allclose(scan.camera_center, torch.from_numpy(POSE[:, 3]).float())


def test_outside_the_mask_is_free_and_without_a_mask_unknown():
    depth, mask = tilted_square()
    beside = torch.tensor([[1.0, 0.0, 0.0]])
    assert observe(scan_from_depth_map(DepthMap(depth, K, POSE, mask)).view, beside)[0].item() == FREE
    assert observe(scan_from_depth_map(DepthMap(depth, K, POSE)).view, beside)[0].item() == HIDDEN


def test_normals_do_not_reach_over_a_jump():
    depth, mask = tilted_square()
    near = mask.copy()
    near[:, 24:] = False
    scan = scan_from_depth_map(DepthMap(np.where(near, depth - 0.7, depth), K, POSE, mask))
    assert scan.num_points == mask.sum()
    cosine = scan.normals @ torch.from_numpy(NORMAL).float()
    assert cosine.min() > 0.85  # bent by the shift along the axis alone; a normal across the jump would be near 0


def test_points_are_thinned_to_the_limit():
    depth, mask = tilted_square()
    scan = scan_from_depth_map(DepthMap(depth, K, POSE, mask), max_points=100)
    assert scan.num_points == 100
    assert scan.view.lengths.isfinite().sum() == mask.sum()


def test_archives_and_pictures_give_the_same_scan(tmp_path):
    depth, mask = tilted_square()
    np.savez(tmp_path / "a.npz", depth=depth, K=K, world_from_camera=np.vstack([POSE, [0, 0, 0, 1]]), mask=mask)
    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "m.png")
    write_png(tmp_path / "b.png", depth, camera_fields(mask="m.png"))
    first, second = (scan_from_depth_map(read_depth_map(tmp_path / name)) for name in ("a.npz", "b.png"))
    assert torch.allclose(first.points, second.points, atol=1e-4)
    assert torch.equal(first.view.lengths.isinf(), second.view.lengths.isinf())


def test_not_finite_depths_are_unknown(tmp_path):
    depth, _ = tilted_square()
    np.savez(tmp_path / "a.npz", depth=np.where(depth > 0, depth, np.nan), K=K, world_from_camera=POSE)
    assert (read_depth_map(tmp_path / "a.npz").depth == depth).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": None}, "has no K"),
        ({"K": np.eye(2)}, "have the shapes"),
        ({"K": np.diag([0.0, 1.0, 1.0])}, "focal length not positive"),
        ({"world_from_camera": 2 * POSE}, "skewed, scaled or mirrored"),
        ({"depth": np.zeros((SIZE, SIZE))}, "no pixel of the object"),
        ({"mask": np.ones((3, 3), dtype=bool)}, "the mask has shape"),
        ({"K": np.array([["a"] * 3] * 3)}, "does not hold rows of numbers"),
    ],
)
def test_wrong_archives_are_named(tmp_path, change, message):
    depth, mask = tilted_square()
    fields = {"depth": depth, "K": K, "world_from_camera": POSE, "mask": mask, **change}
    np.savez(tmp_path / "a.npz", **{name: value for name, value in fields.items() if value is not None})
    with pytest.raises(UserError, match=message):
        read_depth_map(tmp_path / "a.npz")


def test_wrong_pictures_are_named(tmp_path):
    depth, _ = tilted_square()
    path = tmp_path / "d.png"
    with pytest.raises(UserError, match="does not exist"):
        read_depth_map(path)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match="mode RGB"):
        read_depth_map(path)
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be read"):
        read_depth_map(path)
    write_png(path, depth, camera_fields(depth_scale=-1))
    with pytest.raises(UserError, match="depth_scale is -1"):
        read_depth_map(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"no camera d\.json"):
        read_depth_map(path)
    with pytest.raises(UserError, match="is no depth map"):
        read_depth_map(tmp_path / "d.txt")


def test_a_map_of_lone_pixels_is_named():
    depth = np.zeros((SIZE, SIZE))
    depth[::3, ::3] = 2.0
    with pytest.raises(UserError, match="too sparse"):
        scan_from_depth_map(DepthMap(depth, K, POSE))
