import math

import numpy as np
import pytest
import torch

from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.ray_casting import RayCaster
from shapewright.rendering import mesh_pictures
from shapewright.rendering.mesh_pictures import MeshStyle, MeshView, PointLayer, draw_grid, draw_mesh, turntable
from shapewright.rendering.sky_visibility import sky_visibility
from tests.geometry.test_corner_normals import cube

PLAIN = MeshStyle(sky_rays=0, supersampling=1)
NOTHING = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))


@pytest.fixture(scope="module")
def ball():
    lower, upper = torch.full((3,), -1.0), torch.full((3,), 1.0)
    return extract_isosurface(lambda x: x.norm(dim=-1) - 0.5, lower, upper, 64).mesh


def whole_view(**options):
    return MeshView(center=(0.0, 0.0, 0.0), radius=1.0, **options)


def covered(picture):
    return (picture != 255).any(-1)


def box_at(x, y, z, side=0.1):
    mesh = cube()
    return Mesh(mesh.vertices * side + torch.tensor([x, y, z]), mesh.faces)


def middle_of(picture):
    rows, columns = np.nonzero(covered(picture))
    return rows.mean() + 0.5, columns.mean() + 0.5


@pytest.mark.parametrize("field_of_view_deg", [0.0, 20.0, 60.0])
def test_a_ball_covers_the_disc_that_the_lens_gives(ball, field_of_view_deg):
    view = whole_view(size_px=256, field_of_view_deg=field_of_view_deg)
    half = math.radians(field_of_view_deg) / 2
    # The tangent cone of a ball of radius 1/2 at distance 1 / sin(half).
    radius = math.tan(math.asin(0.5 * math.sin(half))) / math.tan(half) if half else 0.5
    radius_px = radius * (1 - PLAIN.margin) * 128
    area = covered(draw_mesh(ball, view, style=PLAIN)).sum()
    assert area == pytest.approx(math.pi * radius_px**2, rel=0.006)


@pytest.mark.parametrize("azimuth_deg", [0.0, 77.0])
@pytest.mark.parametrize("field_of_view_deg", [0.0, 35.0])
def test_the_fitted_ball_touches_the_margin(ball, azimuth_deg, field_of_view_deg):
    view = MeshView(azimuth_deg=azimuth_deg, field_of_view_deg=field_of_view_deg, size_px=200)
    rows, columns = np.nonzero(covered(draw_mesh(ball, view, style=PLAIN)))
    for ends in (rows, columns):
        assert ends.min() == pytest.approx(3, abs=1)
        assert ends.max() == pytest.approx(196, abs=1)


def test_position_and_scale_of_a_mesh_do_not_matter(ball):
    mesh = Mesh(ball.vertices.double(), ball.faces)
    far = mesh.transformed(1e6, torch.tensor([3e6, -2e6, 5e6], dtype=torch.float64))
    difference = draw_mesh(far).astype(int) - draw_mesh(mesh)
    assert np.abs(difference).mean() < 0.05


def test_each_face_of_a_cube_has_one_shade_and_the_top_is_brightest():
    view = whole_view(azimuth_deg=30, elevation_deg=30, size_px=200, field_of_view_deg=0.0)
    picture = draw_mesh(Mesh(0.5 * cube().vertices, cube().faces), view, style=PLAIN)
    shades, counts = np.unique(picture[covered(picture)], axis=0, return_counts=True)
    shades, counts = shades[counts > 20], counts[counts > 20]
    assert len(shades) == 3
    top, front, side = (picture[row, column].mean() for row, column in ((60, 100), (120, 80), (120, 145)))
    assert sorted(shades.mean(-1)) == [side, front, top]
    assert min(top - front, front - side) > 15
    # Areas of the faces: the cosines to the line of sight.
    cosines = np.array([math.sin(math.radians(30)), *(math.cos(math.radians(30)) * c for c in (math.sqrt(0.75), 0.5))])
    expected = np.sort(cosines) * (0.97 * 100) ** 2
    assert np.sort(counts) == pytest.approx(expected, rel=0.02)


def test_faces_seen_from_behind_are_dark_and_cover_the_same_pixels(ball):
    whole = draw_mesh(ball, whole_view(), style=PLAIN)
    turned = draw_mesh(Mesh(ball.vertices, ball.faces.flip(1)), whole_view(), style=PLAIN)
    assert (covered(whole) == covered(turned)).all()
    linear = [(picture[covered(whole)] / 255.0) ** 2.2 for picture in (whole, turned)]
    assert (linear[1] / linear[0]).mean() == pytest.approx(mesh_pictures.BACK_FACE, rel=0.03)


def test_a_sheet_stored_once_for_each_side_has_no_dark_side(ball):
    reversed_faces = ball.faces.flip(1)
    doubled = Mesh(ball.vertices, torch.cat([ball.faces, reversed_faces]))
    turned_first = Mesh(ball.vertices, torch.cat([reversed_faces, ball.faces]))
    for options in ({}, {"field_of_view_deg": 0.0}):
        whole = draw_mesh(ball, whole_view(**options), style=PLAIN).astype(int)
        for mesh in (doubled, turned_first):
            assert np.abs(draw_mesh(mesh, whole_view(**options), style=PLAIN) - whole).max() <= 1


def test_the_inside_shows_dark_through_a_hole(ball):
    centers = ball.vertices[ball.faces].mean(1)
    opened = Mesh(ball.vertices, ball.faces[centers[:, 2] < 0.3])
    front = whole_view(azimuth_deg=0, elevation_deg=0)
    assert draw_mesh(opened, front)[128, 128].mean() < 0.6 * draw_mesh(ball, front)[128, 128].mean()


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "position", "expected"),
    [
        (0, 0, (0.5, 0, 0), (0.5, 0.75)),
        (0, 0, (0, 0.5, 0), (0.25, 0.5)),
        (0, 0, (0, 0, 0.5), (0.5, 0.5)),
        (90, 0, (0, 0, -0.5), (0.5, 0.75)),
        (180, 0, (0.5, 0, 0), (0.5, 0.25)),
        (0, 90, (0, 0, 0.5), (0.75, 0.5)),
        (0, -90, (0, 0, 0.5), (0.25, 0.5)),
    ],
)
def test_azimuth_goes_round_the_vertical_from_the_front(azimuth_deg, elevation_deg, position, expected):
    view = whole_view(azimuth_deg=azimuth_deg, elevation_deg=elevation_deg, field_of_view_deg=0.0, size_px=200)
    middle = middle_of(draw_mesh(box_at(*position), view, style=MeshStyle(margin=0.0, sky_rays=0)))
    assert np.array(middle) / 200 == pytest.approx(expected, abs=0.01)


def test_z_up_is_the_same_picture_of_a_turned_mesh():
    mesh = Mesh(cube().vertices * torch.tensor([1.0, 0.5, 0.2]), cube().faces)
    stood = Mesh(torch.stack([mesh.vertices[:, 0], -mesh.vertices[:, 2], mesh.vertices[:, 1]], -1), mesh.faces)
    difference = draw_mesh(stood, MeshView(up="z")).astype(int) - draw_mesh(mesh, MeshView())
    assert np.abs(difference).mean() < 0.05


def test_vertex_colours_are_drawn_when_asked_for(ball):
    is_left = ball.vertices[:, :1] < 0
    colored = Mesh(ball.vertices, ball.faces, vertex_colors=torch.where(is_left, torch.eye(3)[:1], torch.eye(3)[1:2]))
    picture = draw_mesh(colored, whole_view(azimuth_deg=0), color="vertices").astype(int)
    left, right = picture[128, 90], picture[128, 165]
    assert left[0] > left[1] + 50
    assert right[1] > right[0] + 50
    grey = draw_mesh(colored, whole_view(azimuth_deg=0)).astype(int)[128, 90]
    assert np.ptp(grey) < 30
    with pytest.raises(ValueError, match="no vertex colours"):
        draw_mesh(ball, color="vertices")


def test_points_in_front_are_drawn_and_points_behind_are_hidden(ball):
    view = whole_view(azimuth_deg=0, elevation_deg=0, size_px=100)
    positions = torch.tensor([[-0.2, 0.0, 0.7], [0.2, 0.0, -0.7], [0.0, 0.2, 0.3]])
    picture = draw_mesh(ball, view, points=PointLayer(positions, color=(1.0, 0.0, 0.0), radius_px=3)).astype(int)
    is_red = (picture[..., 0] > picture[..., 1] + 100) & covered(picture)
    rows, columns = np.nonzero(is_red)
    assert columns.max() < 50
    assert len(rows) == pytest.approx(math.pi * 9, rel=0.25)


def test_points_alone_make_a_picture_and_the_near_one_covers_the_far_one():
    view = whole_view(azimuth_deg=0, elevation_deg=0, size_px=50)
    picture = draw_mesh(NOTHING, view, points=PointLayer(torch.zeros(1, 3), radius_px=2))
    assert np.array(middle_of(picture)) == pytest.approx([25, 25], abs=0.8)
    assert covered(draw_mesh(NOTHING, points=PointLayer(torch.rand(50, 3)))).sum() > 100


def test_points_are_shaded_by_their_normals_or_paler_with_distance(ball):
    view = whole_view(azimuth_deg=0, elevation_deg=0, size_px=100)
    normals = torch.nn.functional.normalize(ball.vertices, dim=-1)
    cloud = PointLayer(ball.vertices, mesh_pictures.CLAY, 2.0, normals)
    difference = np.abs(draw_mesh(NOTHING, view, points=cloud).astype(int) - draw_mesh(ball, view, style=PLAIN))
    assert difference[covered(draw_mesh(ball, view, style=PLAIN))].mean() < 6
    turned = draw_mesh(NOTHING, view, points=PointLayer(ball.vertices, mesh_pictures.CLAY, 2.0, -normals))
    assert np.abs(turned.astype(int) - draw_mesh(NOTHING, view, points=cloud)).max() <= 1
    two = torch.tensor([[-0.5, 0, 0.5], [0.5, 0, -0.5]])
    picture = draw_mesh(NOTHING, view, points=PointLayer(two, (0.0, 0.0, 0.0), 3.0))
    assert picture[50, :50].min() < picture[50, 50:].min() - 40


def test_a_turntable_returns_to_its_start():
    frames = turntable(cube(), 8, MeshView(size_px=64), style=PLAIN)
    assert len(frames) == 8
    assert (frames[0] == draw_mesh(cube(), MeshView(size_px=64), style=PLAIN)).all()
    quarter = np.abs(frames[2].astype(int) - frames[0]).mean()
    eighth = np.abs(frames[1].astype(int) - frames[0]).mean()
    assert quarter < 0.5 < eighth


def test_a_convex_shape_sees_all_of_its_sky(ball):
    with_shadows = draw_mesh(ball, style=MeshStyle(sky_rays=4)).astype(int)
    assert np.abs(with_shadows - draw_mesh(ball, style=MeshStyle(sky_rays=0))).max() <= 1


def test_a_point_at_the_foot_of_a_wall_sees_half_of_the_sky():
    wall = Mesh(torch.tensor([[0.0, 0, -1e3], [0, 0, 1e3], [0, 1e3, 0]]), torch.tensor([[0, 1, 2]]))
    rows, columns = np.mgrid[0:16, 0:16]
    pixels = np.stack([rows.reshape(-1), columns.reshape(-1)], -1)
    positions = np.stack([0.01 + pixels[:, 1] * 1e-3, 0 * pixels[:, 0], pixels[:, 0] * 1e-3], -1).astype(np.float32)
    up = np.broadcast_to(np.float32([0, 1, 0]), positions.shape)
    seen = sky_visibility(RayCaster(wall), positions, np.ascontiguousarray(up), pixels, num_rays=8)
    assert seen.mean() == pytest.approx(0.5, abs=0.02)
    assert seen.std() < 0.03
    free = sky_visibility(RayCaster(wall), positions, -np.ascontiguousarray(up), pixels, num_rays=1)
    assert free.min() == 1.0


def test_a_grid_places_pictures_and_writes_captions():
    red, blue = (np.zeros((40, 60, 3), dtype=np.uint8) + np.uint8(color) for color in ([255, 0, 0], [0, 0, 255]))
    plain = draw_grid([[red, blue], [blue]])
    assert (plain == [255, 0, 0]).all(-1).sum() == 40 * 60
    assert (plain == [0, 0, 255]).all(-1).sum() == 2 * 40 * 60
    is_blue = np.nonzero((plain == [0, 0, 255]).all(-1))
    assert is_blue[1].min() < 60 < is_blue[1].max()
    heads = draw_grid([[red, blue], [blue]], ["one", "two"])
    below = draw_grid([[red, blue], [blue]], [["one", "two"], ["three"]], ["first", "second"])
    assert plain.shape[0] < heads.shape[0] < below.shape[0]
    for picture in (heads, below):
        assert (picture.max(-1) < 120).sum() > 20
        assert (picture == [255, 0, 0]).all(-1).sum() == 40 * 60


def test_long_captions_stay_within_their_column():
    cell = np.full((30, 60, 3), 255, dtype=np.uint8)
    sheet = draw_grid([[cell, cell]], [["a name that is far too long for its cell", ""]])
    assert np.nonzero((sheet < 200).any(-1))[1].max() < 8 + 60 + 3


def test_what_cannot_be_arranged_is_refused():
    cell = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="at least one picture"):
        draw_grid([[]])
    with pytest.raises(ValueError, match="captions must hold 2"):
        draw_grid([[cell, cell]], ["one"])
    with pytest.raises(ValueError, match="captions must hold"):
        draw_grid([[cell, cell]], [["one", "two"], ["three"]])
    with pytest.raises(ValueError, match="row_captions must hold 1"):
        draw_grid([[cell]], row_captions=["a", "b"])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_mesh(NOTHING)
    assert not covered(draw_mesh(NOTHING, whole_view(size_px=8))).any()
    single = Mesh(torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64))
    assert not covered(draw_mesh(single, MeshView(size_px=8))).any()
    with pytest.raises(ValueError, match="normals must have shape"):
        PointLayer(torch.zeros(2, 3), normals=torch.zeros(1, 3))
    for options in ({"size_px": 0}, {"elevation_deg": 91.0}, {"field_of_view_deg": 150.0}, {"radius": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            MeshView(**options)
    with pytest.raises(ValueError, match="frames"):
        turntable(cube(), 0)
    with pytest.raises(ValueError, match="supersampling"):
        MeshStyle(supersampling=0)


def test_what_lies_outside_the_picture_or_behind_the_eye_does_no_harm(ball):
    close = MeshView(center=(0.0, 0.0, 0.0), radius=0.01, field_of_view_deg=60.0, size_px=32)
    assert draw_mesh(ball, close, points=PointLayer(torch.randn(100, 3))).shape == (32, 32, 3)
    aside = MeshView(center=(50.0, 0.0, 0.0), radius=1.0, azimuth_deg=0, size_px=32)
    assert not covered(draw_mesh(ball, aside)).any()
