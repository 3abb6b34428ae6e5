"""Rendering of data sets: the files of published layouts, what their pictures show, and nothing half-written."""

import csv
import errno
import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat

from shapewright.cli.main import main
from shapewright.data import render_views as job_module
from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.data.prepared_pictures import changed_files
from shapewright.data.render_files import ArraySpool
from shapewright.data.render_object import FREE, KATO, LSM, normalised, read_source, render_object, turns_to_back
from shapewright.data.render_pictures import LIGHT, draw_pictures
from shapewright.data.render_sources import RenderSource
from shapewright.data.render_views import RenderJob, render_views
from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.orbit import cameras_around, kato_ring
from shapewright.geometry.solid_voxels import stored_axes, world_axes
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.kernels.backends import backend
from shapewright.kernels.voxel_ops import kato_voxels
from tests.data.meshes import bad_files
from tests.geometry.messy import box

ALL = (1.0, 0.0, 0.0)


def ball(radius=0.5, center=(0.0, 0.0, 0.0), colors=None):
    sphere = icosphere(3)
    return Mesh(radius * sphere.vertices + torch.tensor(center), sphere.faces, colors)


def joined(*meshes):
    starts = [sum(mesh.num_vertices for mesh in meshes[:i]) for i in range(len(meshes))]
    faces = torch.cat([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)])
    return Mesh(torch.cat([mesh.vertices.float() for mesh in meshes]), faces)


def chair():
    """Return a seat with a back at -z and one arm at +x: no two sides are alike."""
    seat, back = _block([-0.5, 0.0, -0.5], [0.5, 0.2, 0.5]), _block([-0.5, 0.0, -0.5], [0.5, 1.0, -0.3])
    return joined(seat, back, _block([0.4, 0.0, -0.5], [0.5, 0.4, 0.3]))


def _block(low, high):
    mesh = box()
    lower, upper = mesh.bounds
    share = (mesh.vertices - lower) / (upper - lower)
    low, high = torch.tensor(low), torch.tensor(high)
    return Mesh((low + share * (high - low)).float(), mesh.faces)


@pytest.fixture
def meshes(tmp_path):
    folder = tmp_path / "shapes"
    folder.mkdir()
    write_mesh(folder / "chair.ply", chair())
    write_mesh(folder / "egg.obj", Mesh(ball().vertices * torch.tensor([3.0, 2.0, 1.0]) + 7, icosphere(3).faces))
    return folder


def job(meshes, out, **changes):
    return RenderJob(meshes=[str(meshes)], out=out, **{"shares": ALL, **changes})


def arrays(folder, name):
    with np.load(folder / name) as archive:
        assert archive.files == ["arr_0"]
        return archive["arr_0"]


def test_katos_files_are_as_published(meshes, tmp_path):
    out = tmp_path / "data"
    result = render_views(job(meshes, out, shares=(0.5, 0.0, 0.5)))
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["dataset.json"]
        + [f"shapes_{kind}_{what}.npz" for kind in ("train", "test") for what in ("images", "voxels", "points")]
    )
    images, voxels = arrays(out, "shapes_train_images.npz"), arrays(out, "shapes_train_voxels.npz")
    assert (images.dtype, images.shape) == (np.uint8, (1, 24, 4, 64, 64))
    assert (voxels.dtype, voxels.shape) == (np.bool_, (1, 32, 32, 32))
    assert arrays(out, "shapes_train_points.npz").shape == (1, 10_000, 3)
    assert bool((images[:, :, :3] <= images[:, :, 3:].astype(int) + 1).all())
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["objects"] == {"shapes": result.objects["shapes"]}
    assert manifest["half_angle_deg"] == 15.0
    assert manifest["distances"] == [2.732]
    assert (manifest["protocol"], manifest["voxel_rule"], manifest["voxel_axes"]) == ("kato", "kato32", "Y -Z X")
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.npz")}
    assert manifest["files"] == hashes


def test_voxels_and_points_are_those_of_the_normalised_mesh(meshes, tmp_path):
    render_views(job(meshes, tmp_path / "data"))
    voxels, points = (arrays(tmp_path / "data", f"shapes_train_{what}.npz") for what in ("voxels", "points"))
    mesh = normalised(read_mesh(meshes / "chair.ply"), "box")
    assert np.array_equal(voxels[0], stored_axes(kato_voxels(mesh).numpy(), "kato"))
    assert np.abs(np.abs(points).max(1) - [[0.5, 0.5, 0.5], [0.5, 1 / 3, 1 / 6]]).max() < 0.01
    assert np.abs((points[1] / [0.5, 1 / 3, 1 / 6]) ** 2 @ [1, 1, 1] - 1).max() < 0.03


@pytest.mark.parametrize("view", [0, 2, 6])
def test_points_appear_at_their_published_pixels(view):
    place = {0: (26.965601, 30.831764), 2: (35.203150, 31.075330), 6: (46.075479, 26.219432)}[view]
    images = draw_pictures(ball(0.06, (0.3, 0.2, 0.1)), kato_ring()).images
    weights = images[view, 3].astype(float)
    centers = np.arange(64) + 0.5
    found = (weights.sum(0) @ centers / weights.sum(), weights.sum(1) @ centers / weights.sum())
    assert np.abs(np.subtract(found, place)).max() < 0.05


def test_a_mask_is_the_covered_share_of_each_pixel():
    images = draw_pictures(ball(0.4), kato_ring()).images
    radius = 119.425626 * math.tan(math.asin(0.4 / 2.732))
    assert np.abs(images[:, 3].sum((1, 2)) / 255 / (math.pi * radius**2) - 1).max() < 0.01
    # Of 4 x 4 samples: 17 levels.
    levels = set(np.unique(images[:, 3]).tolist())
    assert levels <= {round(255 * level / 16) for level in range(17)}
    assert len(levels) > 12


def sheet(normal, colors=None):
    """Return a large square through the origin, with its vertices' colours."""
    normal = torch.nn.functional.normalize(torch.tensor(normal), dim=0)
    across = torch.nn.functional.normalize(torch.linalg.cross(normal, torch.tensor([0.3, 0.1, 0.9])), dim=0)
    up = torch.linalg.cross(normal, across)
    corners = torch.stack([across + up, -across + up, -across - up, across - up])
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), colors)


def test_light_falls_on_both_sides_of_a_face():
    red = torch.tensor([[0.8, 0.4, 0.2]]).expand(4, 3)
    lit, dark = sheet(LIGHT, red), sheet([0.0, 0.45, -0.8], red)
    eyes = torch.tensor([LIGHT, [-value for value in LIGHT]]) * 3
    images = draw_pictures(lit, cameras_around(eyes.double(), 16, 10.0)).images
    assert np.array_equal(images[0, :, 8, 8], [204, 102, 51, 255])
    assert np.array_equal(images[1, :, 8, 8], [204, 102, 51, 255])
    normal = torch.tensor([[0.0, 0.45, -0.8]]) * 3
    edge_on = draw_pictures(dark, cameras_around(normal.double(), 16, 10.0)).images
    assert np.array_equal(edge_on[0, :, 8, 8], [102, 51, 26, 255])


def test_colours_are_mixed_between_vertices_in_perspective():
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    mesh = sheet([0.2, 0.9, 0.5], colors)
    cameras = cameras_around(torch.tensor([[0.5, 2.5, 0.3], [2.0, 1.5, 2.0]], dtype=torch.float64), 24, 12.0)
    fast = draw_pictures(mesh, cameras, with_depth=True)
    with backend("reference"):
        plain = draw_pictures(mesh, cameras, with_depth=True)
    assert np.abs(fast.images.astype(int) - plain.images).max() <= 1
    assert np.array_equal(fast.depth, plain.depth)
    assert len(np.unique(fast.images[0, :3].reshape(3, -1), axis=1).T) > 100


def test_meshes_without_colours_are_grey(meshes):
    images = render_object(RenderSource("shapes", "chair", meshes / "chair.ply"), KATO, 0).pictures.images
    assert np.array_equal(images[:, 0], images[:, 1])
    assert np.array_equal(images[:, 0], images[:, 2])
    assert 0.4 * 255 < images[:, 0].max() < 0.75 * 255


@pytest.mark.parametrize("protocol", ["kato", "lsm", "free"])
def test_the_same_seed_gives_the_same_bytes(protocol, meshes, tmp_path):
    small = {"kato": KATO, "lsm": LSM, "free": FREE}[protocol]
    small = type(small)(**{**small.__dict__, "views": 2, "size": 32})
    if protocol == "free":
        small = type(small)(**{**small.__dict__, "viewpoints": "sphere"})
    runs = [render_views(job(meshes, tmp_path / name, protocol=small, seed=7)) for name in "ab"]
    assert runs[0] == runs[1]
    files = [(tmp_path / name / "dataset.json").read_text() for name in "ab"]
    assert files[0] == files[1]


def test_lsms_files_are_as_published(meshes, tmp_path):
    out = tmp_path / "data"
    render_views(job(meshes / "chair.ply", out, protocol=LSM))
    folder = out / "renders" / "shapes" / "chair"
    assert len(list(folder.iterdir())) == 61
    views = np.loadtxt(folder / "view.txt")
    assert views.shape == (20, 4)
    assert (views[:, 0].min(), views[:, 0].max()) >= (-180, -180)
    assert -20 <= views[:, 1].min() < 0 < views[:, 1].max() < 40
    assert set(views[:, 3]) == {2.4}
    picture = np.asarray(Image.open(folder / "render_3.png"))
    assert picture.shape == (224, 224, 4)
    depth = np.asarray(Image.open(folder / "depth_3.png"))
    assert depth.max() == 65535
    assert np.array_equal(depth // 256 < 250, picture[..., 3] >= 127.5)
    nearest = depth.min() / 65535 * 10
    assert 2.4 - 0.87 < nearest < 2.4
    stored = loadmat(out / "voxels" / "modelVoxels32" / "shapes" / "chair.mat")["Volume"]
    mesh = normalised(read_mesh(meshes / "chair.ply"), "box")
    assert np.array_equal(world_axes(stored, "lsm") > 0, kato_voxels(mesh).numpy())
    split = json.loads((out / "splits.json").read_text())
    assert split == {"shapes": {"name": "shapes", "train": ["chair"], "val": [], "test": []}}


def test_lsms_angles_and_cameras_say_where_the_eye_is(meshes, tmp_path):
    out = tmp_path / "data"
    few = type(LSM)(**{**LSM.__dict__, "views": 6})
    render_views(job(meshes / "chair.ply", out, protocol=few))
    folder = out / "renders" / "shapes" / "chair"
    azimuth, elevation = np.radians(np.loadtxt(folder / "view.txt")[5, :2])
    eye = 2.4 * np.array([math.cos(elevation) * math.cos(azimuth), math.sin(elevation), 0])
    eye[2] = -2.4 * math.cos(elevation) * math.sin(azimuth)
    camera = loadmat(folder / "camera_5.mat")
    assert np.abs(camera["extrinsic"] @ [*eye, 1] - [0, 0, 0, 1]).max() < 1e-5
    assert camera["K"][0, 0] == pytest.approx(420)
    w, x, y, z = camera["quat"].ravel()
    assert camera["extrinsic"][2, 2] == pytest.approx(1 - 2 * (x * x + y * y), abs=1e-6)
    assert camera["extrinsic"][1, 0] == pytest.approx(2 * (x * y + w * z), abs=1e-6)


def test_free_views_have_their_cameras_beside_them(meshes, tmp_path):
    out = tmp_path / "data"
    words = "--protocol free --views 3 --size 40 --viewpoints cap --distance 4 --half-angle 12 --normalise sphere"
    assert main(["data", "render", str(meshes), "--out", str(out), *words.split()]) == 0
    cameras = json.loads((out / "cameras.json").read_text())
    assert cameras["size"] == [40, 40]
    assert cameras["K"][0] == pytest.approx([20 / math.tan(math.radians(12)), 0, 20])
    poses = np.array([cameras["objects"][name]["world_from_camera"] for name in ("chair", "egg")])
    assert poses.shape == (2, 3, 4, 4)
    assert np.abs(np.linalg.norm(poses[..., :3, 3], axis=-1) - 4).max() < 1e-6
    assert poses[..., 1, 3].min() >= 0
    assert not np.allclose(poses[0], poses[1])
    assert arrays(out, "voxels.npz").shape == (2, 32, 32, 32)
    assert np.asarray(Image.open(out / "images" / "egg_2.png")).shape == (40, 40, 4)
    mesh = normalised(read_mesh(meshes / "egg.obj"), "sphere")
    assert float(mesh.vertices.norm(dim=1).max()) == pytest.approx(0.5)


def test_pictures_in_files_are_not_multiplied_with_their_mask_twice(meshes, tmp_path):
    render_views(job(meshes / "chair.ply", tmp_path / "data", protocol=FREE))
    rgba = np.asarray(Image.open(tmp_path / "data" / "images" / "chair_1.png")).astype(float)
    expected = render_object(RenderSource("shapes", "chair", meshes / "chair.ply"), FREE, 0).pictures.images[1]
    assert np.abs(rgba[..., :3] * rgba[..., 3:] / 255 - expected[:3].transpose(1, 2, 0)).max() <= 1
    assert np.array_equal(rgba[..., 3], expected[3])


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_the_back_of_a_chair_comes_to_lie_at_minus_x(quarter_turns, tmp_path):
    mesh = chair()
    x, y, z = mesh.vertices.unbind(1)
    for _ in range(quarter_turns):
        x, z = z, -x
    path = tmp_path / "chair.ply"
    write_mesh(path, Mesh(torch.stack([x, y, z], dim=1), mesh.faces))
    source = RenderSource("chair", "chair", path)
    rendered = render_object(source, KATO, 0, align_yaw="back")
    upper = rendered.voxels[:, 20:]
    assert np.argwhere(upper)[:, 0].max() < 8
    assert rendered.quarter_turns == (1 - quarter_turns) % 4
    # The arm follows: at +x of a back at -z, it is at -z of a back at -x.
    assert np.argwhere(rendered.voxels[16:, 9:12])[:, 2].max() < 8
    plain = render_object(source, KATO, 0)
    assert plain.quarter_turns == 0


def test_what_has_no_back_is_not_turned():
    assert turns_to_back(np.ones((32, 32, 32), bool)) == 0
    assert turns_to_back(np.zeros((32, 32, 32), bool)) == 0


def test_real_chairs_lie_as_measured(shared_data):
    folder = shared_data / "models" / "chair"
    if not folder.is_dir():
        pytest.skip(f"no chairs at {folder}")
    sources = [RenderSource("chair", path.stem, path) for path in sorted(folder.glob("*.glb"))[::3]]
    turns = [turns_to_back(kato_voxels(normalised(read_source(one), "box")).numpy()) for one in sources]
    assert np.bincount(turns, minlength=4)[1] > len(turns) / 2


def test_bad_meshes_are_left_out_and_listed(meshes, tmp_path, capsys):
    bad = bad_files(meshes)
    out = tmp_path / "data"
    with pytest.raises(SystemExit) as stop:
        main(["data", "render", str(meshes), "--protocol", "kato", "--out", str(out), "--split", "1,0,0"])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert all(f"shapes/{name}  left out" in printed for name in bad)
    manifest = json.loads((out / "dataset.json").read_text())
    assert sorted(manifest["refused"]) == [f"shapes/{name}" for name in bad]
    assert manifest["objects"]["shapes"]["train"] == ["chair", "egg"]
    assert len(arrays(out, "shapes_train_images.npz")) == 2


def test_nothing_is_written_if_every_mesh_is_bad(tmp_path):
    bad_files(tmp_path / "shapes")
    with pytest.raises(UserError, match="None of 5 meshes can be rendered"):
        render_views(job(tmp_path / "shapes", tmp_path / "data"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_nothing_behind(error, meshes, tmp_path, monkeypatch):
    calls = []

    def stop(source, *settings):
        calls.append(source)
        if len(calls) == 2:
            raise error
        return render_object(source, *settings)

    monkeypatch.setattr(job_module, "render_object", stop)
    with pytest.raises(error):
        render_views(job(meshes, tmp_path / "data"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes"]


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(meshes, tmp_path, monkeypatch):
    out = tmp_path / "data"
    tiny = type(KATO)(**{**KATO.__dict__, "views": 1})
    render_views(job(meshes, out, protocol=tiny))
    with pytest.raises(UserError, match="is there already"):
        render_views(job(meshes, out, protocol=tiny))
    before = (out / "dataset.json").read_bytes()
    monkeypatch.setattr(job_module, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        render_views(job(meshes, out, protocol=tiny, seed=1, overwrite=True))
    assert (out / "dataset.json").read_bytes() == before
    monkeypatch.undo()
    render_views(job(meshes, out, protocol=tiny, seed=1, overwrite=True))
    assert json.loads((out / "dataset.json").read_text())["seed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "shapes"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="did not write"):
        render_views(job(meshes, tmp_path / "notes", protocol=tiny, overwrite=True))
    with pytest.raises(UserError, match="did not write"):
        render_views(job(meshes, tmp_path / "notes" / "diary.txt", protocol=tiny, overwrite=True))
    assert (tmp_path / "notes" / "diary.txt").read_text() == "mine"


def test_what_lies_beside_the_data_is_not_removed_with_it(meshes, tmp_path):
    out = tmp_path / "data"
    render_views(job(meshes, out))
    (out / "pictures").mkdir()
    (out / "pictures" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt is something that `data render` did not write"):
        render_views(job(meshes, out, overwrite=True))
    assert (out / "pictures" / "mine.txt").read_text() == "mine"
    shutil.rmtree(out / "pictures")
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(UserError, match="link is something"):
        render_views(job(meshes, tmp_path / "link", overwrite=True))
    prepared = tmp_path / "prepared"
    prepare_pictures(PrepareJob(source=out, out=prepared, source_format="kato"))
    with pytest.raises(UserError, match="did not write"):
        render_views(job(meshes, prepared, overwrite=True))
    assert changed_files(prepared) == []


@pytest.mark.parametrize("name", ["../evil", "..", "a/b", "a\nb"])
def test_categories_that_are_no_names_of_files_are_refused(name, meshes, tmp_path):
    with (meshes / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("category", "key"), (name, "chair"), (name, "egg")])
    with pytest.raises(UserError, match="cannot be a part of a file name"):
        render_views(job(meshes, tmp_path / "data"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes"]


def test_brackets_in_a_category_stand_for_themselves(meshes, tmp_path):
    with (meshes / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("category", "key"), ("c[1]", "chair"), ("c[1]", "egg")])
    out = tmp_path / "data"
    render_views(job(meshes, out))
    assert not list(out.glob("*_test_*"))
    assert open_pictures(out, "train", PictureOptions()).categories == ("c[1]", "c[1]")
    prepare_pictures(PrepareJob(source=out, out=tmp_path / "prepared", source_format="kato"))
    assert open_pictures(tmp_path / "prepared", "train", PictureOptions()).categories == ("c[1]", "c[1]")


def test_a_full_disk_is_said_and_leaves_nothing(meshes, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArraySpool, "add", fail)
    with pytest.raises(UserError, match="The disk is full"):
        render_views(job(meshes, tmp_path / "data"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "kato", "--views", "3"], "--views cannot be changed with --protocol kato"),
        (["--protocol", "lsm", "--half-angle", "20"], "--half-angle cannot be changed"),
        (["--protocol", "free", "--distance", "0.2"], "--distance must be from 1"),
        (["--protocol", "free", "--size", "0"], "--size must be from 8"),
        (["--protocol", "kato", "--split", ".5,.5"], "--split .5,.5 is no division"),
        (["--protocol", "kato", "--workers", "0"], "--workers must be at least 1"),
        (["--protocol", "kato", "--seed", "-1"], "--seed is -1, but must be 0 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, meshes, tmp_path, capsys):
    assert main(["data", "render", str(meshes), "--out", str(tmp_path / "data"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_free_views_of_two_objects_of_one_name_are_refused(meshes, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for copy in ("one", "two"):
            write_mesh(tmp_path / "all" / name / f"{copy}.ply", ball())
    with pytest.raises(UserError, match="have an object one"):
        render_views(job(tmp_path / "all", tmp_path / "data", protocol=FREE))


def test_made_up_objects_need_no_files(tmp_path):
    tiny = type(KATO)(**{**KATO.__dict__, "views": 1})
    result = render_views(RenderJob(meshes=["procedural:2"], out=tmp_path / "d", protocol=tiny, shares=ALL))
    assert result.objects == {"creature": {"train": ["creature_00000", "creature_00001"], "val": [], "test": []}}
    for word in ("procedural:", "procedural:0", "procedural:many"):
        with pytest.raises(UserError, match="no number of made-up objects"):
            render_views(RenderJob(meshes=[word], out=tmp_path / "e"))
