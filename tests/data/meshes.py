"""Small mesh files for the tests of sampling."""

import torch

from shapewright.geometry.mesh import Mesh
from shapewright.io.meshes import write_mesh
from tests.geometry.messy import box, grid, ring

BAD_PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face {faces}
property list uchar int vertex_indices
end_header
0 0 {z}
1 0 0
0 1 0
"""


def write(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mesh(path, Mesh(mesh.vertices.float(), mesh.faces))
    return path


def bad_files(folder):
    """Write one file of each kind that cannot be sampled; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.ply").write_bytes(b"")
    (folder / "nan.ply").write_text(BAD_PLY.format(faces=1, z="nan") + "3 0 1 2\n")
    (folder / "no_faces.ply").write_text(BAD_PLY.format(faces=0, z="0"))
    (folder / "point.ply").write_text(BAD_PLY.format(faces=1, z="0") + "3 1 1 1\n")
    (folder / "text.ply").write_text("not a mesh")
    return ["empty", "nan", "no_faces", "point", "text"]


def category(folder):
    """Write two good meshes, one of them a million times as large, and an open sheet."""
    write(folder / "box.ply", box())
    write(folder / "big_ring.ply", ring(20).transformed(1e6, torch.full((3,), 3e6)))
    write(folder / "sheet.ply", grid())
    return folder
