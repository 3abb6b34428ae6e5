import math
import re
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.analysis.pose_map import (
    MOST_POINTS,
    PoseMap,
    cyclic_colors,
    draw_pose_map,
    map_poses,
    object_colors,
    picture_of,
    principal_components,
    write_pose_map,
)
from shapewright.analysis.vector_drawing import Disc, Drawing, Text, pdf_of
from shapewright.errors import UserError

AZIMUTHS = torch.arange(12) * 30.0


def pictures(leak, objects=10, length=60):
    """Return codes, azimuths and objects, one row a picture; the pose stands in the first two entries."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(objects, 1, length, generator=generator).repeat(1, 12, 1)
    codes += 0.2 * torch.randn(objects, 12, length, generator=generator)
    codes[..., :2] += leak * torch.stack([AZIMUTHS.deg2rad().cos(), AZIMUTHS.deg2rad().sin()], dim=-1)
    return codes.flatten(0, 1), AZIMUTHS.repeat(objects), torch.arange(objects).repeat_interleave(12)


def content_of(pdf):
    return zlib.decompress(re.search(rb"stream\n(.*)\nendstream", pdf, re.DOTALL).group(1)).decode("latin-1")


def neighbour_shares(plot):
    """Return how many nearest neighbours are of the same object, and how many within 45 degrees."""
    distances = np.linalg.norm(plot.positions[:, None] - plot.positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(1)
    turned = np.abs((plot.azimuths_deg[nearest] - plot.azimuths_deg + 180) % 360 - 180)
    return (plot.objects[nearest] == plot.objects).mean(), (turned <= 45).mean()


def test_places_lie_together_by_what_the_codes_tell():
    pytest.importorskip("sklearn")
    same_object, same_pose = neighbour_shares(map_poses(*pictures(0.0)))
    assert same_object > 0.95
    assert same_pose < 0.5
    assert neighbour_shares(map_poses(*pictures(40.0)))[1] > 0.95


def test_rows_stay_together_and_the_seed_repeats():
    codes, azimuths, objects = pictures(1.0)
    plot = map_poses(codes, azimuths, objects, "pca", seed=4)
    assert sorted(plot.pictures) == list(range(120))
    assert (plot.azimuths_deg == azimuths.numpy()[plot.pictures]).all()
    assert (plot.objects == objects.numpy()[plot.pictures]).all()
    again = map_poses(codes, azimuths, objects, "pca", seed=4)
    assert (again.positions == plot.positions).all()
    assert (map_poses(codes, azimuths, objects, "pca", seed=5).pictures != plot.pictures).any()


def test_of_too_many_codes_5000_are_drawn():
    codes = torch.randn(MOST_POINTS + 500, 3, generator=torch.Generator().manual_seed(0))
    plot = map_poses(codes, torch.zeros(len(codes)), torch.arange(len(codes)), "pca")
    assert len(plot.positions) == len(np.unique(plot.pictures)) == 5000
    centered = (codes - codes[plot.pictures].mean(0)).norm(dim=1).numpy()[plot.pictures]
    assert (np.linalg.norm(plot.positions, axis=1) <= centered + 1e-5).all()


def test_principal_components_keep_distances_that_lie_in_them():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64)).Q
    codes = low @ rotation[:4] + 7
    found = principal_components(codes, 4)
    assert torch.allclose((found[:, None] - found).norm(dim=-1), (low[:, None] - low).norm(dim=-1))
    variances = found.var(0)
    assert (variances.diff() <= 0).all()
    assert principal_components(codes, 20) is codes


def test_colours_go_around_and_differ():
    ring = cyclic_colors(np.arange(0, 361, 15.0)).astype(int)
    assert (ring[0] == ring[-1]).all()
    steps = np.abs(np.diff(ring, axis=0)).sum(1)
    assert steps.min() >= 8
    assert steps.max() <= 90
    assert (cyclic_colors(np.array([-90.0])) == cyclic_colors(np.array([270.0]))).all()
    several = object_colors(np.array([5, 9, 12, 70, 71, 72])).astype(int)
    apart = np.abs(several[:, None] - several[None]).sum(-1)
    assert apart[~np.eye(6, dtype=bool)].min() > 60
    assert (object_colors(np.array([3, 8, 3]))[0] == object_colors(np.array([3, 8, 3]))[2]).all()


def test_files_hold_the_picture_the_page_and_the_places(tmp_path):
    plot = map_poses(*pictures(1.0), "pca")
    paths = write_pose_map(tmp_path / "cars.v2", plot, "Cars (plain)", "MMD 0.64")
    assert [path.name for path in paths] == ["cars.v2.png", "cars.v2.pdf", "cars.v2.npz"]
    with Image.open(paths[0]) as image:
        width, height = image.size
    content = content_of(paths[1].read_bytes())
    assert f"/MediaBox [0 0 {width} {height}]".encode() in paths[1].read_bytes()
    for text in (r"Cars \(plain\)", "120 pictures of 10 objects. MMD 0.64", "Coloured by object", "90°"):
        assert f"({text}" in content or f"{text})" in content
    assert content.count(" l S") == 2 * 120 + 144
    with np.load(paths[2]) as arrays:
        assert (arrays["positions"] == plot.positions).all()
        assert set(arrays.files) == {"positions", "azimuths_deg", "objects", "pictures"}
    same = [path.read_bytes() for path in write_pose_map(tmp_path / "cars.v2", plot, "Cars (plain)", "MMD 0.64")]
    assert same == [path.read_bytes() for path in paths]


def test_both_panels_show_all_places_in_their_colours():
    plot = map_poses(*pictures(1.0), "pca")
    drawing = draw_pose_map(plot)
    left, right = drawing.discs[:120], drawing.discs[-120:]
    assert {round(b.x - a.x, 6) for a, b in zip(left, right, strict=True)} == {790.0}
    assert [disc.color for disc in left] == [tuple(c) for c in cyclic_colors(plot.azimuths_deg).tolist()]
    assert [disc.color for disc in right] == [tuple(c) for c in object_colors(plot.objects).tolist()]
    order = np.argsort(plot.positions[:, 1])
    assert (np.diff([left[i].y for i in order]) <= 1e-9).all()
    inside = [disc.radius <= disc.x <= drawing.width and disc.radius <= disc.y <= drawing.height for disc in left]
    assert all(inside)
    pixels = picture_of(drawing)
    last = left[-1]
    assert tuple(pixels[int(last.y), int(last.x)]) == last.color


def test_a_map_is_as_high_as_its_places_are():
    positions = np.random.default_rng(0).random((200, 2))
    heights = []
    for scale in ((1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (1.0, 0.01)):
        plot = PoseMap(positions * scale, np.zeros(200), np.zeros(200, np.int64), np.arange(200))
        drawing = draw_pose_map(plot)
        heights.append(drawing.height)
        assert all(disc.y - disc.radius >= 96 and disc.y + disc.radius <= drawing.height - 23 for disc in drawing.discs)
    half, square, tall, flat = heights
    assert square - half == pytest.approx(300, abs=12)
    assert abs(tall - square) <= 1
    assert 250 < flat < half


def test_one_place_for_all_can_be_drawn():
    plot = map_poses(torch.ones(5, 3), torch.zeros(5), torch.zeros(5, dtype=torch.long), "pca")
    assert all(math.isfinite(disc.x) for disc in draw_pose_map(plot).discs)


def test_a_pdf_has_a_table_of_its_objects_and_escapes_letters():
    drawing = Drawing(100, 50, (Disc(10, 20, 3, (255, 0, 0)),), (Text(5, 6, "a\\(b) 日", 10, (0, 0, 0)),))
    pdf = pdf_of(drawing)
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", pdf).group(1))
    assert pdf[start:].startswith(b"xref\n0 6\n")
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n", pdf), start=1):
        assert pdf[int(offset) :].startswith(b"%d 0 obj" % number)
    content = content_of(pdf)
    assert "1.000 0.000 0.000 RG 6.00 w" in content
    assert "10.00 30.00 m 10.00 30.00 l S" in content
    assert r"(a\\\(b\) ?) Tj" in content


def test_missing_scikit_learn_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match="scikit-learn"):
        map_poses(*pictures(0.0))


def test_wrong_arguments_are_refused():
    codes, azimuths, objects = pictures(0.0)
    with pytest.raises(ValueError, match="azimuths_deg must have shape"):
        map_poses(codes, azimuths[1:], objects)
    with pytest.raises(ValueError, match="codes must be finite"):
        map_poses(codes * math.nan, azimuths, objects)


def test_pixels_are_rgb():
    pixels = picture_of(Drawing(8, 6, (Disc(4, 3, 2, (10, 200, 30)),)))
    assert pixels.shape == (6, 8, 3)
    assert tuple(pixels[3, 4]) == (10, 200, 30)
    assert tuple(pixels[0, 0]) == (255, 255, 255)
