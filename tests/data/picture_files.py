"""Small folders of pictures in the formats of the published data sets."""

import io
import json
import pickle

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.spatial.transform import Rotation


def disks(objects=3, views=24, size=64, seed=0):
    """Return pictures [objects, views, 4, size, size] of discs, each of its own colour and place."""
    random = np.random.default_rng(seed)
    grid = np.arange(size) + 0.5
    centre = random.uniform(0.4, 0.6, (objects, views, 2, 1, 1)) * size
    radius = random.uniform(0.15, 0.3, (objects, views, 1, 1)) * size
    mask = (grid - centre[:, :, 0]) ** 2 + (grid[:, None] - centre[:, :, 1]) ** 2 < radius**2
    colour = random.integers(50, 256, (objects, views, 3, 1, 1))
    return np.concatenate([colour * mask[:, :, None], 255 * mask[:, :, None]], axis=2).astype(np.uint8)


def grids(objects=3, seed=0):
    return np.random.default_rng(seed).random((objects, 32, 32, 32)) < 0.2


def write_kato(folder, name="02958343", split="train", objects=3, **changes):
    """Write the three files of a class as the download and the renderer have them; None leaves one out."""
    arrays = {
        "images": disks(objects, seed=len(name) + len(split)),
        "voxels": grids(objects),
        "points": np.random.default_rng(1).uniform(-0.5, 0.5, (objects, 50, 3)).astype(np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in {**arrays, **changes}.items():
        if array is not None:
            np.savez_compressed(folder / f"{name}_{split}_{kind}.npz", array)
    return arrays


def write_lsm(folder, name="02958343", sets=None, views=5, size=56, has_alpha=True, has_voxels=True):
    """Write ``renders``, ``voxels`` and ``splits.json``; return what each object is made of."""
    sets = sets or {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    random = np.random.default_rng(3)
    made = {}
    for object_id in [word for ids in sets.values() for word in ids]:
        where = folder / "renders" / name / object_id
        where.mkdir(parents=True)
        pictures = disks(1, views, size, seed=len(made))[0]
        angles = random.uniform((-180, -20), (180, 40), (views, 2))
        rows = [[azimuth, elevation, 0, 2.4] for azimuth, elevation in angles]
        np.savetxt(where / "view.txt", rows, fmt="%.6f")
        for view, picture in enumerate(pictures):
            rgba = picture.transpose(1, 2, 0)
            Image.fromarray(rgba if has_alpha else rgba[..., :3].copy()).save(where / f"render_{view}.png")
            depth = np.where(picture[3] > 0, 60 * 257, 65535).astype(np.uint16)
            Image.fromarray(depth).save(where / f"depth_{view}.png")
        made[object_id] = {"pictures": pictures, "angles": angles, "voxels": grids(1, seed=len(made))[0]}
        if has_voxels:
            path = folder / "voxels" / "modelVoxels32" / name / f"{object_id}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(path, {"Volume": made[object_id]["voxels"].astype(np.uint8)})
    (folder / "splits.json").write_text(json.dumps({name: {"name": "car", **sets}}))
    return made


def write_vpl(folder, name="02958343", split="train", ids=("a", "b"), views=3, size=56, protocol=2, **changes):
    """Write ``{class}_{set}.pkl``, with text for bytes as Python 2 leaves them."""
    random = np.random.default_rng(len(split))
    pack = {"images": {}, "viewpoints": {}, "voxels": {}}
    for number, object_id in enumerate(ids):
        for view, picture in enumerate(disks(1, views, size, seed=number)[0]):
            file = io.BytesIO()
            Image.fromarray(picture.transpose(1, 2, 0)).save(file, "PNG")
            key = f"{name}_{object_id}_{view}"
            pack["images"][key] = file.getvalue()
            pack["viewpoints"][key] = (2.0, random.uniform(-20, 40), random.uniform(-180, 180))
        pack["voxels"][f"{name}_{object_id}"] = grids(1, seed=number)[0]
    pack.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_{split}.pkl").write_bytes(pickle.dumps(pack, protocol))
    return pack


def write_pascal(folder, name="car", kind="train", count=4, seed=0, **changes):
    """Write ``{class}_{file}.npz`` with photographs of several sizes."""
    random = np.random.default_rng(seed)
    photographs = np.empty(count, dtype=object)
    for number in range(count):
        height, width = random.integers(60, 120, 2)
        ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
        photographs[number] = ramp.astype(np.uint8)
    pack = {
        "images": photographs,
        "images_ref": disks(1, count, 224, seed)[0].transpose(0, 2, 3, 1).copy(),
        "bounding_boxes": np.tile([20.0, 15.0, 25.0, 30.0], (count, 1)),
        "rotation_matrices": Rotation.random(count, random_state=seed).as_matrix(),
        "voxels": grids(count, seed),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}_{kind}.npz", **pack)
    return pack
