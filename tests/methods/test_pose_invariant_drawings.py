import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data.picture_sets import project_to
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.orbit import kato_ring
from shapewright.methods.pose_invariant.drawings import (
    SIDES,
    ComparedObject,
    draw_clay,
    draw_strip,
    draw_views,
    on_white,
    overlay,
    side_by_side,
    six_sides,
    training_grids,
    turntable_frames,
    write_turntable,
)
from shapewright.methods.pose_invariant.pose_search import OrbitRig
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

SPHERE = icosphere(3)
RING = kato_ring().world_from_camera


def ellipsoid(*radii):
    return Mesh(SPHERE.vertices * torch.tensor(radii), SPHERE.faces)


def picture(color=(200, 40, 40), size=64):
    """Return a disc of one colour, RGB times mask."""
    place = np.arange(size) + 0.5 - size / 2
    mask = ((place**2)[:, None] + place**2 < (size / 4) ** 2)[None]
    return (mask * np.array([*color, 255])[:, None, None]).astype(np.uint8)


def drawn_box(image):
    """Return width and height of what is not white."""
    used = (image < 255).any(-1)
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    return columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1


@pytest.mark.parametrize("half_angle_deg", [15.0, None])
def test_a_shaded_mesh_covers_its_silhouette(half_angle_deg):
    vertices = torch.stack([ellipsoid(0.5, 0.2, 0.3).vertices, ellipsoid(0.2, 0.4, 0.2).vertices, SPHERE.vertices / 3])
    poses = RING[[1, 7, 20]]
    images = draw_clay(vertices, SPHERE.faces, poses, half_angle_deg, 48)
    assert [image.shape for image in images] == [(48, 48, 3)] * 3
    near = None if half_angle_deg is None else 0.1
    screen = project_to(vertices, poses, half_angle_deg, 48)
    covered = silhouette(screen, SPHERE.faces, 48, SilhouetteStyle(supersample=3, near=near))
    for image, share in zip(images, covered, strict=True):
        assert ((image < 255).any(-1) == (share > 0).numpy()).all()


def test_a_sphere_is_bright_where_the_light_comes_from():
    image = draw_clay(SPHERE.vertices[None] / 2, SPHERE.faces, RING[:1], 15.0, 96)[0].astype(int).sum(-1)
    middle = 48
    assert image[middle - 18, middle - 12] > image[middle, middle] > image[middle + 18, middle + 12]
    # The light goes with the camera: from other sides it looks the same.
    other = draw_clay(SPHERE.vertices[None] / 2, SPHERE.faces, RING[12:13], 15.0, 96)[0].astype(int).sum(-1)
    assert np.abs(image - other)[8:-8, 8:-8].mean() < 1


def test_shading_is_smooth_across_triangles():
    image = draw_clay(SPHERE.vertices[None] / 2, SPHERE.faces, RING[3:4], 15.0, 128)[0].astype(int)
    inner = image[50:78, 50:78, 0]
    assert np.abs(np.diff(inner, axis=0)).max() <= 4


def test_a_mesh_turned_inside_out_is_dark():
    right = draw_clay(SPHERE.vertices[None] / 2, SPHERE.faces, RING[:1], 15.0, 32)[0]
    turned = draw_clay(SPHERE.vertices[None] / 2, SPHERE.faces.flip(1), RING[:1], 15.0, 32)[0]
    assert turned[16, 16].max() < 0.75 * right[16, 16].min()


def test_vertices_that_are_not_finite_are_left_out():
    vertices = SPHERE.vertices[None] / 2
    vertices[0, 0] = torch.nan
    whole, holed = (draw_clay(v, SPHERE.faces, RING[:1], 15.0, 32)[0] for v in (SPHERE.vertices[None] / 2, vertices))
    assert (np.abs(whole.astype(int) - holed) > 8).any(-1).mean() < 0.05


def test_the_background_of_pictures_becomes_white():
    shown = on_white(picture())
    assert tuple(shown[32, 32]) == (200, 40, 40)
    assert tuple(shown[0, 0]) == (255, 255, 255)
    assert (on_white(torch.from_numpy(picture()).float() / 255) == shown).all()
    assert tuple(on_white(picture()[:3])[0, 0]) == (0, 0, 0)


def test_training_grids_hold_25_cells_each():
    vertices = torch.stack([ellipsoid(0.1 + 0.01 * i, 0.2, 0.2).vertices for i in range(25)])
    pictures = torch.from_numpy(np.stack([picture(size=32)] * 25)).float() / 255
    poses, masks = RING[torch.arange(25) % 24], pictures[:, 3]
    made, given, wanted = training_grids(vertices, SPHERE.faces, poses, 15.0, pictures, masks)
    assert made.shape == given.shape == wanted.shape
    assert ((wanted == 0).all(2) | (wanted == 255).all(2)).all()
    assert (wanted[:, :, 0] == 0).any()
    cell = made.shape[0] // 5
    for image in (made, given):
        for row in range(5):
            for column in range(5):
                part = image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
                assert (part < 255).any()


def test_six_sides_show_length_and_width():
    mesh = ellipsoid(0.5, 0.1, 0.25)
    sheet = six_sides(picture(), mesh, size=100)
    height, width = sheet.shape[:2]
    assert width == 7 * 108 + 8
    heads = 40
    boxes = [drawn_box(sheet[heads:, 8 + 108 * k : 108 * (k + 1)]) for k in range(1, 7)]
    shapes = dict(zip(SIDES, boxes, strict=True))
    for side, ratio in (("front", 2.5), ("right", 5), ("back", 2.5), ("left", 5), ("above", 2), ("below", 2)):
        columns, rows = shapes[side]
        assert columns / rows == pytest.approx(ratio, rel=0.15)
    assert shapes["right"][0] > 90
    assert height < 120


def test_the_front_is_plus_x_and_the_right_hand_side_plus_z():
    vertices = ellipsoid(0.5, 0.15, 0.2).vertices
    nosed = Mesh(torch.where(vertices[:, :1] > 0.3, vertices * torch.tensor([1.0, 1.9, 1.0]), vertices), SPHERE.faces)
    sheet = six_sides(picture(), nosed, size=100)
    right = (sheet[40:, 8 + 216 : 8 + 316] < 255).any(-1)
    left = (sheet[40:, 8 + 432 : 8 + 532] < 255).any(-1)
    assert right[:, 75:].sum() > 1.2 * right[:, :25].sum()
    assert left[:, :25].sum() > 1.2 * left[:, 75:].sum()


def test_methods_stand_below_each_other():
    meshes = {"plain": ellipsoid(0.5, 0.2, 0.1), "pose invariant": ellipsoid(0.25, 0.2, 0.2)}
    known = ComparedObject(picture(), meshes, RING[4])
    sheet = side_by_side([known, ComparedObject(picture((20, 90, 200)), meshes)], size=64)
    assert sheet.shape[1] == 9 * 72 + 8
    rows = sheet[40:].shape[0] // 4
    blocks = [sheet[40 + k * rows : 40 + (k + 1) * rows] for k in range(4)]
    assert [bool((block[:, :72] < 250).any()) for block in blocks] == [True, False, True, False]
    views = [bool((block[:, 8 + 144 : 8 + 208] < 255).any()) for block in blocks]
    assert views == [True, True, False, False]
    # One scale for both methods: the second is half as long.
    lengths = [drawn_box(block[:, 8 + 4 * 72 : 8 + 4 * 72 + 64])[0] for block in blocks[:2]]
    assert lengths[1] / lengths[0] == pytest.approx(0.5, abs=0.06)
    without = side_by_side([ComparedObject(picture(), meshes)], size=64)
    assert without.shape[1] == 8 * 72 + 8
    with pytest.raises(ValueError, match="at least one picture"):
        side_by_side([])


def test_a_turntable_goes_around():
    frames = turntable_frames(ellipsoid(0.5, 0.1, 0.1), size=64, elevation_deg=0)
    assert len(frames) == 24
    widths = [drawn_box(frame)[0] for frame in frames]
    assert widths[0] < 20
    assert widths[6] > 58
    assert widths[12] == pytest.approx(widths[0], abs=1)
    assert widths[3] == pytest.approx(widths[9], abs=1)


def test_a_sheet_has_24_views_with_their_azimuths():
    sheet = draw_views(ellipsoid(0.5, 0.2, 0.1), size=48)
    assert sheet.shape[1] == 6 * 56 + 8
    assert (sheet < 255).any()


def test_turntable_files_are_written(tmp_path):
    paths = write_turntable(tmp_path, ellipsoid(0.5, 0.2, 0.1))
    assert [path.name for path in paths] == ["turntable.png", "turntable.gif"]
    with Image.open(paths[1]) as movie:
        assert movie.n_frames == 24
        assert movie.size == (192, 192)


def test_a_strip_keeps_one_scale():
    meshes = [ellipsoid(0.2 + 0.06 * i, 0.2, 0.2) for i in range(6)]
    strip, frames = draw_strip(meshes, size=80)
    assert len(frames) == 6
    assert strip.shape[1] == 6 * 88 + 8
    widths = [drawn_box(frame)[0] for frame in frames]
    assert widths == sorted(widths)
    heights = [drawn_box(frame)[1] for frame in frames]
    assert max(heights) < 1.6 * min(heights)
    with pytest.raises(ValueError, match="meshes"):
        draw_strip([])


def test_an_overlay_tints_what_the_mesh_covers():
    mesh = ellipsoid(0.05, 0.3, 0.05)
    pose = OrbitRig().poses([0.0], [0.0])[0]
    shown = overlay(torch.from_numpy(picture()).float() / 255, mesh, pose, size=128)
    plain = overlay(torch.from_numpy(picture()).float() / 255, Mesh(mesh.vertices + 9, mesh.faces), pose, size=128)
    changed = (shown != plain).any(-1)
    assert changed[64, 64]
    assert not changed[64, 30]
    assert tuple(plain[0, 0]) == (255, 255, 255)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="world_from_camera must have shape"):
        draw_clay(SPHERE.vertices[None], SPHERE.faces, RING[:2], 15.0, 16)
