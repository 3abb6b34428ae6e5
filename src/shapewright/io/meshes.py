"""Reading and writing of meshes: GLB, PLY and OBJ out, these and a few more in."""

from __future__ import annotations

import io
import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Shaped

from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import atomic_write

READ_SUFFIXES = (".glb", ".gltf", ".ply", ".obj", ".stl", ".off")
WRITE_SUFFIXES = (".glb", ".ply", ".obj")

GLB_MAGIC, GLB_JSON, GLB_BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
GLTF_FLOAT, GLTF_UINT16, GLTF_UINT32 = 5126, 5123, 5125
GLTF_VERTICES, GLTF_INDICES = 34962, 34963


def linear_from_srgb(color: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the light intensity that an sRGB value in [0, 1] stands for (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the sRGB value in [0, 1] of a light intensity (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh in the format that the file's suffix names, atomically.

    ``.glb`` (colours converted to linear light as glTF 2.0 asks, and marked as unlit, so that viewers show those of
    the photos), ``.ply`` (binary, 8 bits a colour) or ``.obj`` (``v x y z r g b``). Positions are float32.

    Raises:
        UserError: if the suffix is none of these, the mesh has no triangle, or the file cannot be written.
    """
    encoders = {".glb": _glb, ".ply": _ply, ".obj": _obj}
    encoder = encoders.get(path.suffix.lower())
    if encoder is None:
        raise UserError(
            f"{path}: meshes cannot be written as '{path.suffix}'.", f"Choose one of {', '.join(WRITE_SUFFIXES)}."
        )
    if not mesh.num_faces:
        raise UserError(f"{path}: there is no triangle to write.", "Look at the mesh's source: it is empty.")
    atomic_write(path, encoder(mesh.to("cpu")))


def read_mesh(path: Path) -> Mesh:
    """Return the mesh in a file; the parts of a scene are joined.

    Colours come back as sRGB: those at the vertices, or else the texture's or the material's there. Normals are not
    read.

    Raises:
        UserError: if the file is missing, damaged, or holds no triangle, if a face names a missing vertex, or a
            position is not finite.
    """
    suffix = path.suffix.lower()
    if suffix not in READ_SUFFIXES:
        raise UserError(f"{path}: '{path.suffix}' is no known mesh format.", f"Known: {', '.join(READ_SUFFIXES)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    parts = [_part(path, *part) for part in _parse(path, data)]
    if not sum(part.num_faces for part in parts):
        raise UserError(f"{path} holds no triangle.", "It may be a point cloud or an empty export; give a mesh.")
    return _joined(parts)


def _parse(path: Path, data: bytes) -> list[tuple[trimesh.Trimesh, Float[np.ndarray, "4 4"]]]:
    """Return the meshes that trimesh finds, each with its place in the scene."""
    logging.getLogger("trimesh").setLevel(logging.ERROR)
    suffix = path.suffix.lower()
    if suffix == ".obj":  # comments and names may be in any encoding
        data = data.decode("utf-8", errors="replace").encode()
    resolver = trimesh.resolvers.FilePathResolver(str(path.absolute()))
    try:
        scene = trimesh.load(
            io.BytesIO(data),
            file_type=suffix[1:],
            resolver=resolver if suffix in (".gltf", ".obj") else None,
            force="scene",
            process=False,
            maintain_order=True,
        )
        nodes = [scene.graph[name] for name in scene.graph.nodes_geometry]
        meshes = [(scene.geometry[name], matrix) for matrix, name in nodes]
    except Exception as error:  # a damaged file makes trimesh fail in any way
        cause = error.__context__ or error
        raise UserError(
            f"{path} cannot be read as {suffix[1:].upper()}: {type(cause).__name__}: {str(cause)[:200]}",
            "The file is damaged or of another format; export it again.",
        ) from error
    return [(mesh, matrix) for mesh, matrix in meshes if isinstance(mesh, trimesh.Trimesh)]


def _part(path: Path, part: trimesh.Trimesh, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
    """Return one mesh of a scene, checked."""
    positions = np.array(part.vertices, dtype=np.float64).reshape(-1, 3)
    faces = np.array(part.faces, dtype=np.int64).reshape(-1, 3)
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: vertex {bad[0]} (and {len(bad) - 1} more) is not finite.", "Export the mesh again without NaN."
        )
    bad = np.flatnonzero(((faces < 0) | (faces >= len(positions))).any(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: face {bad[0]} names vertex {faces[bad[0]].max()}, but there are only {len(positions)}.",
            "The file is damaged or cut off; export or download it again.",
        )
    positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]
    colors = _colors(part, path.suffix.lower() in (".glb", ".gltf"))
    return Mesh(
        torch.from_numpy(positions).float(),
        torch.from_numpy(faces.copy()),
        None if colors is None else torch.from_numpy(colors).float(),
    )


def _colors(part: trimesh.Trimesh, is_gltf: bool) -> Float[np.ndarray, "vertices 3"] | None:
    """Return the sRGB colours at the vertices, or None if the file has none."""
    visual: Any = part.visual
    linear = getattr(visual, "vertex_attributes", {}).get("color")
    if linear is not None:
        scale = 1.0 if linear.dtype.kind == "f" else np.iinfo(linear.dtype).max
        return srgb_from_linear(np.clip(linear[:, :3] / scale, 0, 1))
    if visual.kind is None:
        return None
    if visual.kind == "texture":
        rgba = visual.material.main_color if visual.uv is None else visual.to_color().vertex_colors
    else:
        rgba = visual.vertex_colors
    colors = np.atleast_2d(rgba)[:, :3].astype(np.float64) / 255
    if len(colors) not in (1, len(part.vertices)):
        return None
    colors = np.broadcast_to(colors, (len(part.vertices), 3)).copy()
    return srgb_from_linear(colors) if is_gltf and visual.kind == "vertex" else colors


def _joined(parts: list[Mesh]) -> Mesh:
    """Return several meshes as one; parts without colours become grey if another part has some."""
    starts = np.cumsum([0] + [part.num_vertices for part in parts[:-1]]).tolist()
    colors = [part.vertex_colors for part in parts]
    has_colors = any(values is not None for values in colors)
    grey = [torch.full_like(part.vertices, 0.5) for part in parts]
    filled = [other if own is None else own for own, other in zip(colors, grey, strict=True)]
    return Mesh(
        torch.cat([part.vertices for part in parts]),
        torch.cat([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        torch.cat(filled) if has_colors else None,
    )


def _ply(mesh: Mesh) -> bytes:
    """Return a binary little-endian PLY."""
    columns = [(f"float {name}", "<f4", mesh.vertices[:, i].numpy()) for i, name in enumerate("xyz")]
    if mesh.vertex_normals is not None:
        names = ("nx", "ny", "nz")
        columns += [(f"float {name}", "<f4", mesh.vertex_normals[:, i].numpy()) for i, name in enumerate(names)]
    if mesh.vertex_colors is not None:
        bytes_ = (mesh.vertex_colors.clamp(0, 1) * 255).round().numpy()
        columns += [(f"uchar {name}", "u1", bytes_[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    vertices = np.empty(mesh.num_vertices, [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    faces = np.empty(mesh.num_faces, [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces.numpy()
    header = ["ply", "format binary_little_endian 1.0", "comment shapewright", f"element vertex {mesh.num_vertices}"]
    header += [f"property {name}" for name, _, _ in columns]
    header += [f"element face {mesh.num_faces}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()


def _obj(mesh: Mesh) -> bytes:
    """Return a Wavefront OBJ, colours behind the positions."""
    values, normals = mesh.vertices, mesh.vertex_normals
    faces, corner = mesh.faces + 1, "%d"
    if mesh.vertex_colors is not None:
        values = torch.cat([values, mesh.vertex_colors.to(values)], dim=1)
    row = "v" + " %.7g" * values.shape[1] + "\n"
    text = ["# shapewright\n", *(row % tuple(v) for v in values.tolist())]
    if normals is not None:
        text += [f"vn {x:.5g} {y:.5g} {z:.5g}\n" for x, y, z in normals.tolist()]
        faces, corner = faces.repeat_interleave(2, dim=1), "%d//%d"
    row = f"f {corner} {corner} {corner}\n"
    text += [row % tuple(face) for face in faces.tolist()]
    return "".join(text).encode()


def _glb(mesh: Mesh) -> bytes:
    """Return a binary glTF 2.0 with one mesh."""
    parts = [("POSITION", mesh.vertices.numpy().astype("<f4"), GLTF_FLOAT)]
    if mesh.vertex_normals is not None:
        parts.append(("NORMAL", mesh.vertex_normals.numpy().astype("<f4"), GLTF_FLOAT))
    if mesh.vertex_colors is not None:
        light = np.ones((mesh.num_vertices, 4))
        light[:, :3] = linear_from_srgb(mesh.vertex_colors.double().clamp(0, 1).numpy())
        parts.append(("COLOR_0", (light * 65535).round().astype("<u2"), GLTF_UINT16))
    parts.append(("indices", mesh.faces.numpy().astype("<u4").reshape(-1, 1), GLTF_UINT32))
    blob = b"".join(array.tobytes() for _, array, _ in parts)
    document = _gltf_document(parts, unlit=mesh.vertex_colors is not None)
    return _glb_container(json.dumps(document, separators=(",", ":")).encode(), blob)


def _gltf_document(parts: list[tuple[str, Shaped[np.ndarray, "rows columns"], int]], unlit: bool) -> dict[str, Any]:
    """Return the JSON that describes the arrays of a GLB, which lie one after the other."""
    kinds = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for index, (name, array, component) in enumerate(parts):
        target = GLTF_INDICES if name == "indices" else GLTF_VERTICES
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        accessor = {"bufferView": index, "componentType": component, "count": len(array), "type": kinds[array.shape[1]]}
        if name == "POSITION":
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        if component == GLTF_UINT16:
            accessor["normalized"] = True
        accessors.append(accessor)
        offset += array.nbytes
    names = [name for name, _, _ in parts]
    attributes = {name: index for index, name in enumerate(names) if name != "indices"}
    material: dict[str, Any] = {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9},
        "doubleSided": True,
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "shape"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": names.index("indices"), "material": 0}]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    if unlit:
        material["extensions"] = {"KHR_materials_unlit": {}}
        document["extensionsUsed"] = ["KHR_materials_unlit"]
    return document


def _glb_container(document: bytes, blob: bytes) -> bytes:
    """Return the GLB file around a JSON document and its buffer (glTF 2.0, section 4.4)."""
    document += b" " * (-len(document) % 4)
    blob += b"\0" * (-len(blob) % 4)
    chunks = struct.pack("<II", len(document), GLB_JSON) + document + struct.pack("<II", len(blob), GLB_BIN) + blob
    return struct.pack("<III", GLB_MAGIC, 2, 12 + len(chunks)) + chunks
