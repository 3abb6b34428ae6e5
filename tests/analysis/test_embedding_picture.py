import base64
import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from shapewright.analysis.embedding_picture import (
    DOT_PX,
    PALETTE,
    EmbeddingPlot,
    draw_embedding,
    embedding_svg,
    write_embedding,
)
from shapewright.errors import UserError

SQUARE = np.array([[0.0, 0], [2, 0], [0, 1], [2, 1]])
SVG = "{http://www.w3.org/2000/svg}"


def tile(color, side=40):
    picture = np.full((side, side, 3), 255, dtype=np.uint8)
    picture[10:-10, 10:-10] = color
    return picture


def shows(picture, color):
    return (picture == np.array(color, dtype=np.uint8)).all(-1)


def test_places_keep_their_proportions_with_y_upwards():
    places = EmbeddingPlot(SQUARE, size_px=400).places_px()
    across, up = places[1] - places[0], places[2] - places[0]
    assert across[0] == pytest.approx(-2 * up[1])
    assert across[0] > 300
    assert up[1] < 0
    assert across[1] == pytest.approx(0)
    assert places.mean(0) == pytest.approx([200, 200])


def test_dots_have_the_colours_of_their_labels_and_a_legend():
    plot = EmbeddingPlot(SQUARE, labels=["b", "a", "a", "a"], size_px=200)
    picture = draw_embedding(plot)
    assert picture.shape == (plot.height_px(), 200, 3)
    disc = math.pi * DOT_PX**2
    assert shows(picture[:200], PALETTE[0]).sum() == pytest.approx(3 * disc, rel=0.25)
    assert shows(picture[:200], PALETTE[1]).sum() == pytest.approx(disc, rel=0.25)
    assert shows(picture[200:], PALETTE[0]).sum() == pytest.approx(disc, rel=0.25)
    for (x, y), color in zip(plot.places_px(), (1, 0, 0, 0), strict=True):
        assert tuple(picture[round(y), round(x)]) == PALETTE[color]


def test_many_labels_get_colours_of_their_own():
    plot = EmbeddingPlot(np.zeros((20, 2)), labels=[f"class {i}" for i in range(20)])
    assert len(set(plot.colors.values())) == 20


def test_thumbnails_make_way_for_each_other():
    thumbnails = [tile((40 * i, 0, 0)) for i in range(6)]
    plot = EmbeddingPlot(np.zeros((6, 2)), thumbnails=thumbnails, size_px=300)
    picture = draw_embedding(plot)
    for i in range(6):
        assert shows(picture, (40 * i, 0, 0)).sum() == 400
    gaps = np.abs(plot.places_px()[:, None] - plot.places_px()[None]).max(-1) + 100 * np.eye(6)
    assert gaps.min() > 0.75 * 0.8 * 40


def test_the_white_of_a_thumbnail_hides_nothing():
    near = np.array([[0.0, 0.0], [1.0, 0.0], [0.02, 0.0]])
    crowded = [tile((0, 0, 200), 60), tile((0, 0, 0), 60), tile((200, 0, 0), 60)]
    picture = draw_embedding(EmbeddingPlot(near, thumbnails=crowded, size_px=240))
    assert shows(picture, (0, 0, 200)).sum() == shows(picture, (200, 0, 0)).sum() == 1600


def test_svg_is_whole_and_names_what_it_shows():
    thumbnails = [tile((0, 90, 0)) for _ in range(4)]
    plot = EmbeddingPlot(SQUARE, ["one", "<two>", "three", "four"], ["a & b"] * 4, thumbnails, size_px=300)
    root = ET.fromstring(embedding_svg(plot))
    images = root.findall(f"{SVG}image")
    assert [image.find(f"{SVG}title").text for image in images] == ["one", "<two>", "three", "four"]
    data = base64.b64decode(images[0].get("href").removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(data))) == thumbnails[0]).all()
    assert len(root.findall(f"{SVG}circle")) == 4 + 1
    assert root.find(f"{SVG}text").text == "a & b"
    plain = ET.fromstring(embedding_svg(EmbeddingPlot(SQUARE, ["one", "two", "three", "four"])))
    assert [dot.find(f"{SVG}title").text for dot in plain.findall(f"{SVG}circle")] == ["one", "two", "three", "four"]


def test_files_are_written_by_their_suffix(tmp_path):
    plot = EmbeddingPlot(SQUARE, size_px=100)
    write_embedding(tmp_path / "map.png", plot)
    write_embedding(tmp_path / "map.svg", plot)
    assert (np.asarray(Image.open(tmp_path / "map.png")) == draw_embedding(plot)).all()
    assert (tmp_path / "map.svg").read_text() == embedding_svg(plot)
    with pytest.raises(UserError, match=r"'\.gif'"):
        write_embedding(tmp_path / "map.gif", plot)
    with pytest.raises(UserError, match=r"map\.png"):
        write_embedding(tmp_path / "missing" / "map.png", plot)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="positions must have shape"):
        EmbeddingPlot(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="must be finite"):
        EmbeddingPlot(np.full((1, 2), np.nan))
    for name in ("names", "labels", "thumbnails"):
        with pytest.raises(ValueError, match=f"{name} must be 4 or none, got 1"):
            EmbeddingPlot(SQUARE, **{name: ["x"]})
