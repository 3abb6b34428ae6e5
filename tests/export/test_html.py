import base64
import io
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.errors import UserError
from shapewright.export.html import Curve, Panel, Report, Table, metrics_table, write_report
from shapewright.export.packing import pack_columns, pack_mesh
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh

VOID = {"meta", "link", "img", "br", "line", "polyline"}


def ball(resolution=32):
    mesh = extract_isosurface(
        lambda x: x.norm(dim=-1) - 0.7, torch.full((3,), -1.0), torch.full((3,), 1.0), resolution
    ).mesh
    return Mesh(mesh.vertices, mesh.faces, mesh.vertices / 2 + 0.5)


def full_report():
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return Report(
        title="Skull <1>",
        command="shapewright reconstruct photos --out 'a & b'",
        summary=[("PSNR", "26.5 dB")],
        mesh=ball(),
        other_meshes=[("True shape", ball(24))],
        panels=[Panel("000008", [("Photo", photo), ("Render", photo)], note="26 dB")],
        curves=[Curve("Colour loss", [0, 1, 2], [0.3, 0.2, 0.1])],
        tables=[
            metrics_table("Held-out", {"psnr_misses_black": 26.53, "silhouette_iou_least": 0.97, "my_own_metric": 1.0}),
            Table("Timings", ("stage", "seconds"), [("training", 571.25), ("mesh", 9.0)], note="wall clock"),
        ],
        settings={"sdf": {"width": 32}, "safe": True, "steps": None},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, full_report())
    return path.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Collects what a page refers to and its text, and checks that elements close in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "poster")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.text.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.stack == []
    return parser


def test_the_page_is_well_formed_and_needs_no_network(page):
    assert all(address.startswith("data:") for address in outline(page).addresses)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|import\(", page)


def test_everything_given_is_on_the_page(page):
    text = " ".join(outline(page).text)
    for words in ("Skull <1>", "26.5 dB", "000008", "Render", "Colour loss", "PSNR on the object", "26.53 dB",
                  "Outline overlap, worst view",
                  "higher is better", "my own metric", "571.2", "wall clock", "'a & b'", "sdf.width"):  # fmt: skip
        assert words in text, words


def test_pictures_survive(page):
    addresses = re.findall(r"data:image/jpeg;base64,([^\"]*)", page)
    assert len(addresses) == 2
    with Image.open(io.BytesIO(base64.b64decode(addresses[0]))) as image:
        difference = np.asarray(image, float) - full_report().panels[0].images[0][1]
    assert np.abs(difference).mean() < 8


def test_huge_pictures_are_made_smaller(tmp_path):
    photo = np.zeros((900, 2400, 3), np.uint8)
    write_report(tmp_path / "report.html", Report("big", panels=[Panel("a", [("Photo", photo)])]))
    data = re.search(r"jpeg;base64,([^\"]*)", (tmp_path / "report.html").read_text()).group(1)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (1200, 450)


def unpacked(text, rows, columns, dtype):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    values = np.ascontiguousarray(planes.reshape(-1, columns, rows).transpose(2, 1, 0)).view(dtype)
    return np.cumsum(values.reshape(rows, columns), axis=0, dtype=dtype)


def test_the_mesh_comes_back_from_the_page(page):
    scene = json.loads(re.search(r'id="meshes">(.*?)</script>', page).group(1))
    assert [shape["name"] for shape in scene["shapes"]] == ["Reconstruction", "True shape"]
    packed, mesh = scene["shapes"][0], ball()
    lattice = unpacked(packed["positions"], mesh.num_vertices, 3, np.uint16)
    positions = lattice / 65535 * packed["size"] + packed["lower"]
    assert np.abs(positions - mesh.vertices.numpy()).max() < 1.4 / 65535
    assert np.array_equal(unpacked(packed["indices"], mesh.num_faces, 3, np.uint32), mesh.faces.numpy())
    colors = unpacked(packed["colors"], mesh.num_vertices, 3, np.uint8)
    assert np.abs(colors / 255 - mesh.vertex_colors.numpy()).max() < 0.51 / 255
    assert scene["radius"] == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_packing_keeps_every_value(dtype):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (57, 3), dtype=dtype, endpoint=True)
    assert np.array_equal(unpacked(pack_columns(values), 57, 3, dtype), values)


def test_a_large_mesh_stays_small_on_the_page():
    mesh = ball(160)
    packed = pack_mesh("ball", mesh)
    assert mesh.num_faces > 100_000
    assert len(json.dumps(packed)) < 15 * mesh.num_faces


def test_text_cannot_break_out_of_the_page(tmp_path):
    evil = "</script><script>alert(1)</script>"
    report = Report(
        title=evil, command=evil, summary=[(evil, evil)], mesh=ball(12), other_meshes=[(evil, ball(12))],
        tables=[Table(evil, (evil,), [(evil,)])], settings={evil: evil}, curves=[Curve(evil, [0, 1], [1, 2], evil)],
        panels=[Panel(evil, [(evil, np.zeros((4, 4, 3), np.uint8))], evil)],
    )  # fmt: skip
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    assert "alert(1)</script>" not in page
    assert page.count("<script") == 2


def test_an_empty_report_is_a_page(tmp_path):
    write_report(tmp_path / "report.html", Report(title="nothing"))
    page = (tmp_path / "report.html").read_text()
    assert "nothing" in "".join(outline(page).text)
    assert "<section" not in page
    assert 'id="viewer"' not in page


def test_a_mesh_without_triangles_is_left_out(tmp_path):
    empty = Mesh(torch.rand(3, 3), torch.empty(0, 3, dtype=torch.int64))
    write_report(tmp_path / "report.html", Report(title="nothing", mesh=empty))
    assert 'id="viewer"' not in (tmp_path / "report.html").read_text()


def test_numbers_of_a_column_share_their_decimals(tmp_path):
    table = Table("t", ("count", "value", "mixed"), [(1000, 26.5, None), (2, 3.25, 1.0)])
    write_report(tmp_path / "report.html", Report(title="t", tables=[table]))
    page = (tmp_path / "report.html").read_text()
    cells = re.findall(r"<td( class=number)?>([^<]*)</td>", page)
    assert [text for _, text in cells] == ["1,000", "26.50", "–", "2", "3.25", "1"]
    assert [bool(number) for number, _ in cells] == [True, True, False] * 2


def test_metrics_in_the_head_of_a_table_are_put_into_words(tmp_path):
    table = Table("views", ("id", "psnr_hit", "ssim"), [("000008", 25.0, 0.9)])
    write_report(tmp_path / "report.html", Report(title="t", tables=[table]))
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", (tmp_path / "report.html").read_text())
    assert heads == ["id", "PSNR where hit (dB)", "SSIM"]


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="Cannot write"):
        write_report(tmp_path / "missing" / "report.html", Report(title="t"))
