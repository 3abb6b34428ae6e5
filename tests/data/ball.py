"""A small coloured ball, photographed by cameras around it, and the files of every format."""

import json
import struct

import numpy as np
import torch
from PIL import Image

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.rays import intersect_sphere

CENTER = torch.tensor([0.3, -0.2, 5.0], dtype=torch.float64)
RADIUS = 0.5
DISTANCE = 2.0
SCALE_MAT = np.diag([0.7, 0.7, 0.7, 1.0])
SCALE_MAT[:3, 3] = CENTER.numpy()


def ball_cameras(count, width=80, height=60, fov_deg=50.0):
    """Return cameras on a Fibonacci sphere around the ball, in world units."""
    index = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * index + 1) / count
    turn = torch.pi * (3 - 5**0.5) * index
    ring = (1 - z * z).sqrt()
    eyes = CENTER + DISTANCE * torch.stack([ring * turn.cos(), ring * turn.sin(), z], -1)
    up = torch.tensor([0.03, 0.02, 1.0], dtype=torch.float64)
    return Cameras.from_look_at(eyes, CENTER, up, fov_deg, torch.tensor([[width, height]]).repeat(count, 1))


def ball_picture(cameras, view):
    """Return colours (from the normal, black around the ball) and mask of one view."""
    width, height = cameras.sizes[view].tolist()
    origins, directions = cameras.image_rays(view)
    near, _, hits = intersect_sphere(origins - CENTER, directions, RADIUS)
    normal = (origins + near[:, None] * directions - CENTER) / RADIUS
    rgb = torch.where(hits[:, None], 127.5 + 127.0 * normal, torch.zeros(3, dtype=torch.float64))
    return (
        rgb.reshape(height, width, 3).round().to(torch.uint8).numpy(),
        hits.reshape(height, width).numpy(),
    )


def masks_of(cameras):
    """Return the masks of all views."""
    return [ball_picture(cameras, view)[1] for view in range(len(cameras))]


def save(path, pixels):
    """Write a picture, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_pictures(cameras, folder, masks, names=None):
    """Write pictures, and masks into a folder beside them."""
    for view in range(len(cameras)):
        rgb, mask = ball_picture(cameras, view)
        name = names[view] if names else f"{view:03d}.png"
        save(folder / name, rgb)
        save(masks / name, mask.astype(np.uint8) * 255)


def world_mats(cameras):
    """Return 4x4 projection matrices for integer pixel centres, as IDR stores them."""
    shift = torch.tensor([[1.0, 0, -0.5], [0, 1, -0.5], [0, 0, 1]], dtype=torch.float64)
    P = (shift @ cameras.projections()).numpy()
    return np.concatenate([P, np.tile([[[0.0, 0, 0, 1]]], (len(cameras), 1, 1))], axis=1)


def write_idr(cameras, folder, with_scale=True):
    """Write the scene in IDR's layout."""
    write_pictures(cameras, folder / "image", folder / "mask")
    arrays = {f"world_mat_{i}": matrix for i, matrix in enumerate(world_mats(cameras))}
    if with_scale:
        arrays |= {f"scale_mat_{i}": SCALE_MAT for i in range(len(cameras))}
    np.savez(folder / "cameras.npz", **arrays)
    return folder


def opengl_poses(cameras):
    """Return 4x4 camera-to-world matrices with OpenGL axes."""
    poses = cameras.world_from_camera.clone()
    poses[:, :, 1:3] *= -1
    bottom = torch.tensor([[[0.0, 0, 0, 1]]], dtype=torch.float64).expand(len(cameras), 1, 4)
    return torch.cat([poses, bottom], dim=1)


def write_nerf(cameras, folder, fov_deg=50.0):
    """Write the scene as NeRF has it: one file, RGBA, paths without suffix."""
    for view in range(len(cameras)):
        rgb, mask = ball_picture(cameras, view)
        save(folder / "train" / f"r_{view}.png", np.dstack([rgb, mask.astype(np.uint8) * 255]))
    frames = [
        {"file_path": f"./train/r_{view}", "transform_matrix": pose.tolist()}
        for view, pose in enumerate(opengl_poses(cameras))
    ]
    content = {"camera_angle_x": float(np.radians(fov_deg)), "frames": frames}
    (folder / "transforms_train.json").write_text(json.dumps(content))
    return folder


def write_ngp(cameras, folder, extra=None):
    """Write the scene as instant-ngp has it: intrinsics, float sizes, masks by name."""
    write_pictures(cameras, folder / "images", folder / "masks")
    K, (width, height) = cameras.intrinsics[0], cameras.sizes[0].tolist()
    frames = [
        {"file_path": f"images/{view:03d}.png", "transform_matrix": pose.tolist()}
        for view, pose in enumerate(opengl_poses(cameras))
    ]
    content = {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])}
    content |= {"w": float(width), "h": float(height), "aabb_scale": 4, "frames": frames} | (extra or {})
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def colmap_rows(cameras):
    """Return camera-from-world quaternions and translations."""
    from shapewright.geometry.rotations import quaternion_from_matrix

    R = cameras.world_from_camera[:, :, :3].transpose(1, 2).contiguous()
    t = -(R @ cameras.centers[:, :, None])[..., 0]
    return quaternion_from_matrix(R).tolist(), t.tolist()


def lens_parameters(cameras, view, model):
    """Return COLMAP's parameters of one view in a lens model, without distortion."""
    K = cameras.intrinsics[view]
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return {
        "SIMPLE_PINHOLE": [fx, cx, cy],
        "PINHOLE": [fx, fy, cx, cy],
        "SIMPLE_RADIAL": [fx, cx, cy, 0.0],
        "RADIAL": [fx, cx, cy, 0.0, 0.0],
        "OPENCV": [fx, fy, cx, cy, 0.0, 0.0, 0.0, 0.0],
        "FOV": [fx, fy, cx, cy, 0.0],
    }[model]


def write_colmap_text(cameras, folder, model="PINHOLE"):
    """Write the scene as a COLMAP text model; the image lists are in reverse and have observations."""
    write_pictures(cameras, folder / "images", folder / "masks")
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    width, height = cameras.sizes[0].tolist()
    quaternions, translations = colmap_rows(cameras)
    lenses, images = ["# comment"], ["# comment"]
    for view in reversed(range(len(cameras))):
        values = " ".join(map(repr, lens_parameters(cameras, view, model)))
        lenses.append(f"{view + 1} {model} {width} {height} {values}")
        pose = " ".join(map(repr, quaternions[view] + translations[view]))
        images += [f"{view + 1} {pose} {view + 1} {view:03d}.png", "1.5 2.5 -1 3.5 4.5 7" if view % 2 else ""]
    (sparse / "cameras.txt").write_text("\n".join(lenses) + "\n")
    (sparse / "images.txt").write_text("\n".join(images) + "\n")
    (sparse / "points3D.txt").write_text("# comment\n1 0.3 -0.2 5.4 10 20 30 0.5 1 2\n2 0.3 -0.2 4.6 1 2 3 0.5\n")
    return folder


MODEL_NUMBERS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "FOV": 7}


def write_colmap_binary(cameras, folder, model="PINHOLE"):
    """Write the scene as a COLMAP binary model."""
    write_pictures(cameras, folder / "images", folder / "masks")
    sparse = folder / "sparse"
    sparse.mkdir(parents=True)
    width, height = cameras.sizes[0].tolist()
    quaternions, translations = colmap_rows(cameras)
    lenses = images = struct.pack("<Q", len(cameras))
    for view in range(len(cameras)):
        values = lens_parameters(cameras, view, model)
        lenses += struct.pack(f"<IiQQ{len(values)}d", view + 1, MODEL_NUMBERS[model], width, height, *values)
        images += struct.pack("<I7dI", view + 1, *quaternions[view], *translations[view], view + 1)
        images += f"{view:03d}.png".encode() + b"\0" + struct.pack("<Qddq", 1, 1.5, 2.5, -1)
    (sparse / "cameras.bin").write_bytes(lenses)
    (sparse / "images.bin").write_bytes(images)
    points = struct.pack("<Q", 2)
    for position in ((0.3, -0.2, 5.4), (0.3, -0.2, 4.6)):
        points += struct.pack("<Q3d3Bd", 1, *position, 10, 20, 30, 0.5) + struct.pack("<QII", 1, 1, 0)
    (sparse / "points3D.bin").write_bytes(points)
    return folder


def write_middlebury(cameras, folder):
    """Write the scene as Middlebury has it, with one listed picture that does not exist."""
    write_pictures(cameras, folder, folder / "mask")
    lines = [str(len(cameras) + 1), "absent.png " + " ".join(["1 0 0 0 1 0 0 0 1"] * 2) + " 0 0 1"]
    shift = torch.tensor([[1.0, 0, -0.5], [0, 1, -0.5], [0, 0, 1]], dtype=torch.float64)
    R = cameras.world_from_camera[:, :, :3].transpose(1, 2)
    t = -(R @ cameras.centers[:, :, None])[..., 0]
    for view in range(len(cameras)):
        numbers = [
            *(shift @ cameras.intrinsics[view]).flatten().tolist(),
            *R[view].flatten().tolist(),
            *t[view].tolist(),
        ]
        lines.append(f"{view:03d}.png " + " ".join(map(repr, numbers)))
    (folder / "ball_par.txt").write_text("\n".join(lines) + "\n")
    return folder


WRITERS = {
    "idr": write_idr,
    "nerf": write_nerf,
    "ngp": write_ngp,
    "colmap text": write_colmap_text,
    "colmap binary": write_colmap_binary,
    "middlebury": write_middlebury,
}
