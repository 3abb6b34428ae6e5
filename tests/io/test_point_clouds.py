import struct

import numpy as np
import pytest
import torch

from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.point_cloud import PointCloud
from shapewright.io.meshes import write_mesh
from shapewright.io.point_clouds import read_point_cloud, scan_kind, write_point_cloud

POINTS = torch.tensor([[0.0, 0.5, -1.0], [2.0, 3.0, 4.0], [-1.5, 0.25, 8.0], [1.0, 1.0, 1.0]])
NORMALS = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -0.6, 0.8], [0.0, 1.0, 0.0]])
BYTES = torch.tensor([[255, 0, 0], [0, 128, 0], [10, 20, 30], [255, 255, 255]])
COLORS = BYTES / 255.0
CLOUD = PointCloud(POINTS, NORMALS, COLORS)


def ply(order, body, extra=""):
    names = [f"property float {n}" for n in ("x", "y", "z", "nx", "ny", "nz")]
    names += [f"property uchar {n}" for n in ("red", "green", "blue")]
    head = ["ply", f"format {order} 1.0", "comment a scan", f"element vertex {len(POINTS)}", *names]
    return "\n".join([*head, *([extra] if extra else []), "end_header", ""]).encode() + body


def ply_body(sign):
    rows = zip(POINTS.tolist(), NORMALS.tolist(), BYTES.tolist(), strict=True)
    return b"".join(struct.pack(f"{sign}6f3B", *p, *n, *c) for p, n, c in rows)


def ascii_rows(separator=" "):
    table = torch.cat([POINTS, NORMALS, BYTES.float()], dim=1)
    return "".join(separator.join(f"{x:g}" for x in row) + "\n" for row in table.tolist())


def assert_same(cloud, normals=True, colors=True):
    torch.testing.assert_close(cloud.points, POINTS)
    for own, other, there in ((cloud.normals, NORMALS, normals), (cloud.colors, COLORS, colors)):
        if there:
            torch.testing.assert_close(own, other, atol=1e-6, rtol=0)
        else:
            assert own is None


@pytest.mark.parametrize(
    ("order", "body"),
    [
        ("ascii", ascii_rows().encode()),
        ("binary_little_endian", ply_body("<")),
        ("binary_big_endian", ply_body(">")),
    ],
)
def test_every_kind_of_ply_is_read(tmp_path, order, body):
    path = tmp_path / "scan.ply"
    path.write_bytes(ply(order, body))
    assert scan_kind(path) == "cloud"
    assert_same(read_point_cloud(path))


def test_a_written_cloud_comes_back(tmp_path):
    write_point_cloud(tmp_path / "a.ply", CLOUD)
    assert_same(read_point_cloud(tmp_path / "a.ply"))
    write_point_cloud(tmp_path / "b.ply", PointCloud(POINTS))
    assert_same(read_point_cloud(tmp_path / "b.ply"), normals=False, colors=False)


def test_other_elements_around_the_vertices_are_skipped(tmp_path):
    body = struct.pack("<2f", 7, 7) + ply_body("<") + struct.pack("<B3i", 3, 0, 1, 2)
    text = ply("binary_little_endian", b"", "element face 0\nproperty list uchar int vertex_indices").decode()
    text = text.replace("element vertex", "element camera 1\nproperty float a\nproperty float b\nelement vertex")
    (tmp_path / "scan.ply").write_bytes(text.encode() + body)
    assert_same(read_point_cloud(tmp_path / "scan.ply"))


@pytest.mark.parametrize("name", ["a.xyz", "a.txt", "a.csv", "a.pts"])
def test_text_is_read(tmp_path, name):
    text = ascii_rows("," if name == "a.csv" else " ")
    head = {"a.csv": "x,y,z,nx,ny,nz,r,g,b\n", "a.pts": "4\n", "a.txt": "# a comment\n\n"}.get(name, "")
    (tmp_path / name).write_text(head + text)
    assert_same(read_point_cloud(tmp_path / name))


def test_six_columns_are_normals_or_colours_by_their_length(tmp_path):
    np.save(tmp_path / "n.npy", torch.cat([POINTS, NORMALS], 1).numpy())
    np.save(tmp_path / "c.npy", torch.cat([POINTS, BYTES.float()], 1).numpy())
    np.save(tmp_path / "p.npy", POINTS.numpy())
    assert_same(read_point_cloud(tmp_path / "n.npy"), colors=False)
    assert_same(read_point_cloud(tmp_path / "c.npy"), normals=False)
    assert_same(read_point_cloud(tmp_path / "p.npy"), normals=False, colors=False)


def test_archives_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", points=POINTS, normals=NORMALS, colors=BYTES.byte())
    assert scan_kind(tmp_path / "a.npz") == "cloud"
    assert_same(read_point_cloud(tmp_path / "a.npz"))


@pytest.mark.parametrize("form", ["ascii", "binary"])
def test_pcd_is_read_and_pixels_without_depth_are_left_out(tmp_path, form):
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z normal_x normal_y normal_z rgb\nSIZE 4 4 4 4 4 4 4\n"
        "TYPE F F F F F F U\nCOUNT 1 1 1 1 1 1 1\nWIDTH 5\nHEIGHT 1\nPOINTS 5\nDATA "
    )
    packed = [(r << 16) | (g << 8) | b for r, g, b in BYTES.tolist()]
    rows = [(*p, *n, c) for p, n, c in zip(POINTS.tolist(), NORMALS.tolist(), packed, strict=True)]
    rows.insert(1, (float("nan"),) * 3 + (0.0, 0.0, 1.0, 0))
    if form == "ascii":
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
    else:
        body = b"".join(struct.pack("<6fI", *row) for row in rows)
    (tmp_path / "a.pcd").write_bytes(head.encode() + form.encode() + b"\n" + body)
    assert_same(read_point_cloud(tmp_path / "a.pcd"))


def test_zero_and_infinite_normals_become_zero_and_others_get_length_one(tmp_path):
    normals = NORMALS.clone() * 5.0
    normals[0], normals[1] = 0.0, float("inf")
    np.savez(tmp_path / "a.npz", points=POINTS, normals=normals)
    found = read_point_cloud(tmp_path / "a.npz").normals
    assert not found[:2].any()
    torch.testing.assert_close(found[2:], NORMALS[2:])


def test_large_coordinates_keep_their_digits(tmp_path):
    points = POINTS.double() + 4_500_000.0
    np.savez(tmp_path / "a.npz", points=points)
    assert torch.equal(read_point_cloud(tmp_path / "a.npz").points, points)


def test_a_ply_with_faces_and_other_meshes_are_meshes(tmp_path):
    mesh = Mesh(POINTS, torch.tensor([[0, 1, 2]]))
    for name in ("a.ply", "a.obj", "a.glb"):
        write_mesh(tmp_path / name, mesh)
        assert scan_kind(tmp_path / name) == "mesh"
    torch.testing.assert_close(read_point_cloud(tmp_path / "a.ply").points, POINTS)


def test_signed_distances_are_recognised(tmp_path):
    np.savez(tmp_path / "a.npz", pos=np.ones((2, 4)), neg=-np.ones((2, 4)))
    assert scan_kind(tmp_path / "a.npz") == "samples"


def bad_files():
    good = ply("binary_little_endian", ply_body("<"))
    return {
        "empty.ply": (b"", "not a PLY"),
        "cut.ply": (good[:-5], "cut off"),
        "half_header.ply": (good[:60], "not a PLY"),
        "type.ply": (good.replace(b"float x", b"quad x"), "damaged"),
        "count.ply": (good.replace(b"vertex 4", b"vertex -4"), "damaged"),
        "lists.ply": (
            b"ply\nformat ascii 1.0\nelement strip 1\nproperty list uchar int i\nelement vertex 1\n"
            b"property float x\nproperty float y\nproperty float z\nend_header\n1 0\n0 0 0\n",
            "lists",
        ),
        "word.ply": (ply("ascii", ascii_rows().replace("0.5", "half").encode()), "not 9 numbers"),
        "few.ply": (ply("ascii", b"0 0 0 0 0 1 0 0 0\n"), "cut off"),
        "no_points.ply": (b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n", "no points"),
        "nan.xyz": (b"0 0 0\n1 nan 2\n", "point 1"),
        "ragged.xyz": (b"0 0 0\n1 2\n", "line 2"),
        "word.xyz": (b"0 0 0\n1 2 three\n", "line 2"),
        "empty.xyz": (b"", "no points"),
        "two.xyz": (b"0 0\n1 1\n", "shape"),
        "empty.npy": (b"", "NumPy"),
        "empty.npz": (b"", "NumPy"),
        "empty.pcd": (b"", "no line DATA"),
        "packed.pcd": (
            b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA binary_compressed\nabc", "binary_compressed",
        ),
        "cut.pcd": (b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9\nDATA binary\nabc", "cut off"),
        "fields.pcd": (b"FIELDS x y z\nSIZE 4 4\nTYPE F F F\nPOINTS 9\nDATA ascii\n1 2 3\n", "damaged"),
        "scan.las": (b"LASF", "format"),
    }  # fmt: skip


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_file_is_named_with_its_fault(tmp_path, name):
    data, fault = bad_files()[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=fault) as caught:
        read_point_cloud(tmp_path / name)
    assert name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "arrays", [{"xyz": POINTS}, {"points": POINTS[:, :2]}, {"points": POINTS, "normals": NORMALS[:2]}]
)
def test_an_archive_without_usable_points_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"a\.npz"):
        read_point_cloud(tmp_path / "a.npz")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for read in (read_point_cloud, scan_kind):
        with pytest.raises(UserError, match="does not exist"):
            read(tmp_path / "none.ply")
    with pytest.raises(UserError, match="folder"):
        scan_kind(tmp_path)
    (tmp_path / "a.las").touch()
    with pytest.raises(UserError, match="no known format"):
        scan_kind(tmp_path / "a.las")


def test_only_ply_and_only_points_are_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_point_cloud(tmp_path / "a.xyz", CLOUD)
    with pytest.raises(UserError, match="no point"):
        write_point_cloud(tmp_path / "a.ply", PointCloud(torch.zeros(0, 3)))
