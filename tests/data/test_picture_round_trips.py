"""Meshes are rendered in every layout and read again: cameras, masks and voxels must agree with the mesh."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.cli.main import main
from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.meshes import write_mesh
from tests.geometry.messy import box

EXTENTS = torch.tensor([1.0, 0.5, 0.7], dtype=torch.float64)


def lopsided():
    """Return a box of three different sides."""
    mesh = box()
    return Mesh(mesh.vertices * EXTENTS, mesh.faces)


def wedge():
    """Return a tetrahedron that is not its own mirror image, and is heavy where all coordinates are small."""
    corners = torch.tensor([[-0.5, -0.25, -0.35], [0.5, -0.25, -0.2], [-0.3, 0.25, -0.35], [-0.4, -0.1, 0.35]])
    return Mesh(corners.double(), torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("meshes")
    (root / "car").mkdir()
    for name, mesh in (("plain", lopsided()), ("wedge", wedge())):
        write_mesh(root / "car" / f"{name}.ply", mesh)
    return root


def render(folder, tmp_path, protocol, *words):
    out = tmp_path / protocol
    command = ["data", "render", str(folder), "--out", str(out), "--protocol", protocol, "--split", "1,0,0", *words]
    assert main(command) == 0
    return out


@pytest.mark.parametrize(
    ("protocol", "words", "bins"),
    [
        ("kato", (), 24),
        ("lsm", (), 72),
        ("free", ("--views", "4", "--size", "64"), 4),
        ("free", ("--views", "5", "--size", "80", "--viewpoints", "sphere"), 216),
    ],
)
def test_projected_meshes_fill_their_masks_and_voxels(folder, tmp_path, protocol, words, bins, capsys):
    out = render(folder, tmp_path, protocol, *words)
    pictures = open_pictures(out, "train", PictureOptions())
    assert pictures.num_bins == bins
    assert pictures.pose_bins.max() < bins
    meshes = {"plain": lopsided(), "wedge": wedge()}
    names = [object_id.split("__")[-1] for object_id in pictures.ids]
    assert sorted(names) == ["plain", "wedge"]
    for number, name in enumerate(names):
        views = torch.arange(pictures.num_views)
        objects = torch.full_like(views, number)
        vertices = meshes[name].vertices.float().expand(len(views), -1, -1)
        screen = pictures.views.project(vertices, objects, views, 64)[..., :2]
        masks = pictures.masks(objects, views).numpy() > 0.1
        for view, mask in enumerate(masks):
            rows, columns = np.nonzero(mask)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            expected = [*screen[view].amin(0).tolist(), *screen[view].amax(0).tolist()]
            assert np.abs(np.array(found) - expected).max() < 1.6, (name, view)
        cells = np.argwhere(pictures.voxels[number])
        low, high = meshes[name].vertices.numpy().min(0), meshes[name].vertices.numpy().max(0)
        assert np.abs(cells.min(0) - (31 * low + 16)).max() < 1.6
        assert np.abs(cells.max(0) - (31 * high + 15)).max() < 1.6
        assert pictures.points.shape[0] == 2
    cells = np.argwhere(pictures.voxels[names.index("wedge")])
    assert (cells.mean(0) < (cells.min(0) + cells.max(0)) / 2 - 1).all()


def test_bins_of_free_views_are_the_same_in_all_sets(folder, tmp_path, capsys):
    out = tmp_path / "free"
    words = ["--out", str(out), "--protocol", "free", "--views", "3", "--size", "32", "--viewpoints", "cap"]
    assert main(["data", "render", str(folder), *words, "--split", ".5,.5,0"]) == 0
    sets = [open_pictures(out, split, PictureOptions()) for split in ("train", "val")]
    assert [len(pictures) for pictures in sets] == [1, 1]
    assert [pictures.num_bins for pictures in sets] == [216, 216]


@pytest.mark.parametrize("half_angle_deg", ["x", True, -3, 90, None])
def test_free_pictures_need_a_field_of_view(half_angle_deg, folder, tmp_path, capsys):
    out = render(folder, tmp_path, "free", "--views", "2", "--size", "32")
    cameras = json.loads((out / "cameras.json").read_text())
    (out / "cameras.json").write_text(json.dumps(cameras | {"half_angle_deg": half_angle_deg}))
    with pytest.raises(UserError, match="must lie between 0 and 90"):
        open_pictures(out, "train", PictureOptions())


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("voxels.npz", (2, 16, 16, 16), r"not \[objects, 32, 32, 32\]"),
        ("car_train_points.npz", (2, 3), r"not \[objects, points, 3\]"),
    ],
)
def test_voxels_and_points_of_free_pictures_have_their_shapes(name, shape, message, folder, tmp_path, capsys):
    out = render(folder, tmp_path, "free", "--views", "2", "--size", "32")
    np.savez_compressed(out / name, np.zeros(shape, np.float32))
    with pytest.raises(UserError, match=message):
        open_pictures(out, "train", PictureOptions())


def test_a_camera_at_the_origin_is_refused(folder, tmp_path, capsys):
    out = render(folder, tmp_path, "free", "--views", "2", "--size", "32")
    cameras = json.loads((out / "cameras.json").read_text())
    for entry in cameras["objects"].values():
        for row in range(3):
            entry["world_from_camera"][1][row][3] = 0
    (out / "cameras.json").write_text(json.dumps(cameras))
    with pytest.raises(UserError, match="a camera within the object"):
        open_pictures(out, "train", PictureOptions())


def test_free_pictures_need_alpha_and_cameras(folder, tmp_path, capsys):
    out = render(folder, tmp_path, "free", "--views", "2", "--size", "32")
    one = next((out / "images").glob("*_1.png"))
    Image.open(one).convert("RGB").save(one)
    with pytest.raises(UserError, match="has no alpha channel"):
        open_pictures(out, "train", PictureOptions())
    one.unlink()
    with pytest.raises(UserError, match="does not exist"):
        open_pictures(out, "train", PictureOptions())
    cameras = json.loads((out / "cameras.json").read_text())
    cameras["objects"].pop(next(iter(cameras["objects"])))
    (out / "cameras.json").write_text(json.dumps(cameras))
    with pytest.raises(UserError, match="has no cameras of"):
        open_pictures(out, "train", PictureOptions())
