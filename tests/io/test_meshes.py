import json
import random
import struct

import numpy as np
import pytest
import torch
import trimesh

from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh, vertex_normals
from shapewright.io.meshes import WRITE_SUFFIXES, linear_from_srgb, read_mesh, srgb_from_linear, write_mesh

CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
COLORS = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.2, 0.5, 0.8], [10 / 255, 20 / 255, 30 / 255]])
TRIANGLE_PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 {z}
1 0 0
0 1 0
3 0 1 {last}
"""


def tetrahedron(colors=COLORS):
    mesh = Mesh(CORNERS, FACES)
    return Mesh(CORNERS, FACES, colors, vertex_normals(mesh))


@pytest.mark.parametrize("suffix", WRITE_SUFFIXES)
def test_a_mesh_comes_back_as_it_was(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, tetrahedron())
    back = read_mesh(path)
    assert torch.equal(back.vertices, CORNERS)
    assert torch.equal(back.faces, FACES)
    assert torch.allclose(back.vertex_colors, COLORS, atol=0.6 / 255)


@pytest.mark.parametrize("suffix", WRITE_SUFFIXES)
def test_another_program_reads_positions_and_faces(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, tetrahedron())
    other = trimesh.load(path, force="mesh", process=False)
    assert other.is_watertight
    assert other.volume == pytest.approx(1 / 6)


@pytest.mark.parametrize("suffix", WRITE_SUFFIXES)
def test_a_mesh_without_colours_and_normals_is_written(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, Mesh(CORNERS.double(), FACES))
    assert torch.equal(read_mesh(path).vertices, CORNERS)


def glb_parts(path):
    data = path.read_bytes()
    magic, version, length, json_length, kind = struct.unpack("<IIIII", data[:20])
    assert (magic, version, length, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    document = json.loads(data[20 : 20 + json_length])
    return document, data[28 + json_length :]


def test_glb_keeps_the_rules_of_gltf(tmp_path):
    write_mesh(tmp_path / "mesh.glb", tetrahedron())
    document, blob = glb_parts(tmp_path / "mesh.glb")
    assert document["asset"]["version"] == "2.0"
    assert document["buffers"][0]["byteLength"] == len(blob)
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
    primitive = document["meshes"][0]["primitives"][0]
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    assert (position["min"], position["max"]) == ([0, 0, 0], [1, 1, 1])
    assert document["accessors"][primitive["indices"]]["count"] == 12
    assert document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}


def test_glb_and_ply_store_the_normals(tmp_path):
    expected = vertex_normals(tetrahedron()).numpy().astype("<f4")
    write_mesh(tmp_path / "mesh.glb", tetrahedron())
    write_mesh(tmp_path / "mesh.ply", tetrahedron())
    assert expected.tobytes() in (tmp_path / "mesh.glb").read_bytes()
    assert expected[3].tobytes() in (tmp_path / "mesh.ply").read_bytes()


def test_glb_stores_linear_light(tmp_path):
    write_mesh(tmp_path / "mesh.glb", tetrahedron(torch.full((4, 3), 0.5)))
    document, blob = glb_parts(tmp_path / "mesh.glb")
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    values = np.frombuffer(blob[start : start + 8], "<u2") / 65535
    assert values.tolist() == pytest.approx([0.21404, 0.21404, 0.21404, 1.0], abs=1e-4)


def test_srgb_and_linear_light_are_inverse():
    values = np.linspace(0, 1, 256)
    assert np.allclose(srgb_from_linear(linear_from_srgb(values)), values, atol=1e-12)


def test_ply_stores_bytes(tmp_path):
    write_mesh(tmp_path / "mesh.ply", tetrahedron())
    header, body = (tmp_path / "mesh.ply").read_bytes().split(b"end_header\n")
    assert b"property uchar red" in header
    assert b"element face 4" in header
    assert len(body) == 4 * (6 * 4 + 3) + 4 * 13
    assert list(body[27 * 2 + 24 : 27 * 3]) == [51, 128, 204]


def test_obj_has_colours_behind_positions(tmp_path):
    write_mesh(tmp_path / "mesh.obj", tetrahedron(torch.full((4, 3), 0.25)))
    lines = (tmp_path / "mesh.obj").read_text().splitlines()
    assert "v 1 0 0 0.25 0.25 0.25" in lines
    assert "f 1//1 3//3 2//2" in lines


def test_parts_of_a_scene_are_placed_and_joined(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    box.visual.vertex_colors = [255, 0, 0, 255]
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(trimesh.creation.box())
    scene.export(tmp_path / "scene.glb")
    mesh = read_mesh(tmp_path / "scene.glb")
    assert mesh.num_faces == 24
    assert mesh.bounds.tolist() == [[-0.5, -0.5, -0.5], [5.5, 0.5, 0.5]]
    assert mesh.volume == pytest.approx(2.0)
    right = mesh.vertices[:, 0] > 2
    assert torch.allclose(mesh.vertex_colors[right], torch.tensor([1.0, 0.0, 0.0]))


def test_a_mirrored_part_keeps_its_outside_outside(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box(), transform=np.diag([-1.0, 1, 1, 1]))
    scene.export(tmp_path / "mirrored.glb")
    assert read_mesh(tmp_path / "mirrored.glb").volume == pytest.approx(1.0)


def test_models_with_textures_get_colours_at_their_vertices(shared_data):
    car = read_mesh(next(iter(sorted((shared_data / "models/car").glob("torcs*.glb")))))
    assert car.vertex_colors.shape == car.vertices.shape
    assert 0 <= float(car.vertex_colors.min()) < float(car.vertex_colors.max()) <= 1


def test_an_obj_with_comments_in_any_encoding_is_read(tmp_path):
    path = tmp_path / "mesh.obj"
    path.write_bytes("# Größe\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n".encode("latin-1"))
    assert read_mesh(path).num_faces == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "a.obj"),
        ("b.ply", TRIANGLE_PLY.format(z="0", last=7), "face 0 names vertex 7, but there are only 3"),
        ("b.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "b.off"),
        ("c.ply", TRIANGLE_PLY.format(z="nan", last=2), r"vertex 0 \(and 0 more\) is not finite"),
        ("d.obj", "v 0 0 0\nv 1 0 0\n", "holds no triangle"),
        ("e.ply", "", "cannot be read as PLY"),
        ("f.glb", "not a mesh at all", "cannot be read as GLB"),
        ("g.fbx", "", "'.fbx' is no known mesh format"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_mesh(tmp_path / name)
    assert name in caught.value.message
    assert caught.value.hint


def test_an_stl_without_triangles_is_refused(tmp_path):
    (tmp_path / "empty.stl").write_bytes(b"\0" * 84)
    with pytest.raises(UserError, match=r"empty\.stl"):
        read_mesh(tmp_path / "empty.stl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*nothing\.ply"):
        read_mesh(tmp_path / "nothing.ply")


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_no_truncation_passes_for_a_mesh(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, tetrahedron())
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_mesh(path)


@pytest.mark.parametrize("suffix", WRITE_SUFFIXES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_raise_nothing_but_user_errors(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, tetrahedron())
    whole, dice = path.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            mesh = read_mesh(path)
        except UserError:
            continue
        assert mesh.vertices.isfinite().all()


def test_an_unknown_suffix_or_an_empty_mesh_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written as '\.stl'"):
        write_mesh(tmp_path / "mesh.stl", tetrahedron())
    with pytest.raises(UserError, match="no triangle to write"):
        write_mesh(tmp_path / "mesh.ply", Mesh(CORNERS, FACES[:0]))
    assert list(tmp_path.iterdir()) == []


def test_writing_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(UserError, match=r"Cannot write .*missing"):
        write_mesh(tmp_path / "missing" / "mesh.glb", tetrahedron())
