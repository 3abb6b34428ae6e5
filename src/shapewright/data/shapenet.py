"""Finding the meshes of a category: ShapeNet v1 and v2, ABC, and plain folders."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shapewright.data.sdf_samples import ShapeKey
from shapewright.errors import UserError
from shapewright.io.meshes import READ_SUFFIXES

PLAIN_CLASS = "all"
# The file of an instance folder: ShapeNet v1, v2.
INSTANCE_STEMS = ("model", "model_normalized")
INSTANCE_FOLDER = "models"

# WordNet offsets of the 55 classes of ShapeNetCore (arXiv:1512.03012).
SYNSETS = {
    "02691156": "airplane",
    "02747177": "trash bin",
    "02773838": "bag",
    "02801938": "basket",
    "02808440": "bathtub",
    "02818832": "bed",
    "02828884": "bench",
    "02843684": "birdhouse",
    "02871439": "bookshelf",
    "02876657": "bottle",
    "02880940": "bowl",
    "02924116": "bus",
    "02933112": "cabinet",
    "02942699": "camera",
    "02946921": "can",
    "02954340": "cap",
    "02958343": "car",
    "02992529": "cellphone",
    "03001627": "chair",
    "03046257": "clock",
    "03085013": "keyboard",
    "03207941": "dishwasher",
    "03211117": "display",
    "03261776": "earphone",
    "03325088": "faucet",
    "03337140": "file cabinet",
    "03467517": "guitar",
    "03513137": "helmet",
    "03593526": "jar",
    "03624134": "knife",
    "03636649": "lamp",
    "03642806": "laptop",
    "03691459": "loudspeaker",
    "03710193": "mailbox",
    "03759954": "microphone",
    "03761084": "microwave",
    "03790512": "motorbike",
    "03797390": "mug",
    "03928116": "piano",
    "03938244": "pillow",
    "03948459": "pistol",
    "03991062": "flowerpot",
    "04004475": "printer",
    "04074963": "remote control",
    "04090263": "rifle",
    "04099429": "rocket",
    "04225987": "skateboard",
    "04256520": "sofa",
    "04330267": "stove",
    "04379243": "table",
    "04401088": "telephone",
    "04460130": "tower",
    "04468005": "train",
    "04530566": "watercraft",
    "04554684": "washer",
}


@dataclass(frozen=True)
class MeshSource:
    """Name one mesh file.

    Args:
        key: What the shape is called.
        path: Where its file is.
    """

    key: ShapeKey
    path: Path


def find_meshes(folder: Path, name: str | None = None) -> list[MeshSource]:
    """Return the meshes of a folder, sorted by their names.

    Known arrangements, alone or mixed:

    * ``<synset>/<id>/model.obj`` and ``<synset>/<id>/models/model_normalized.obj`` (ShapeNet v1 and v2), from the root
      or from the folder of one class;
    * ``<id>/<any name>.obj`` with one mesh in each folder (ABC): the folder names the shape;
    * ``<class>/<id>.ply`` and ``<class>/<id>/<any name>.ply``;
    * ``<id>.ply``: the class is ``all``;
    * a single file.

    Args:
        folder: Where to look.
        name: What to call the data set; none: the folder's own name.

    Raises:
        UserError: if there is no mesh, an instance folder has several, or two files have the same name.
    """
    if folder.is_file():
        return [MeshSource(ShapeKey(name or folder.absolute().parent.name, PLAIN_CLASS, folder.stem), folder)]
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist.", "Check the path of the meshes.")
    root = folder.resolve()
    dataset = name or (root.parent.name if root.name in SYNSETS else root.name)
    sources: list[MeshSource] = []
    if root.name in SYNSETS:
        sources = _class_members(dataset, root.name, folder)
    else:
        sources = [MeshSource(ShapeKey(dataset, PLAIN_CLASS, path.stem), path) for path in _meshes_in(folder)]
        children = [child for child in _folders_in(folder) if any(_mesh_tree(child))]
        are_instances = _are_instances(children)
        for child in children:
            if are_instances and child.name not in SYNSETS:
                sources.append(MeshSource(ShapeKey(dataset, PLAIN_CLASS, child.name), _only_mesh(child)))
            else:
                sources += _class_members(dataset, child.name, child)
    if not sources:
        raise UserError(
            f"There is no mesh in {folder}.",
            f"Give a folder of {', '.join(READ_SUFFIXES)} files, of class folders, or of ShapeNet's instance folders.",
        )
    return _checked(sorted(sources, key=lambda source: source.key))


def class_title(shape_class: str) -> str:
    """Return the name of a class for people: ``03001627 (chair)`` for a synset, the folder's name for others."""
    return f"{shape_class} ({SYNSETS[shape_class]})" if shape_class in SYNSETS else shape_class


def _class_members(dataset: str, shape_class: str, folder: Path) -> list[MeshSource]:
    """Return the meshes of a class: files, and folders with one mesh each."""
    files = [MeshSource(ShapeKey(dataset, shape_class, path.stem), path) for path in _meshes_in(folder)]
    instances = [child for child in _folders_in(folder) if any(_mesh_tree(child))]
    return files + [MeshSource(ShapeKey(dataset, shape_class, child.name), _only_mesh(child)) for child in instances]


def _are_instances(folders: list[Path]) -> bool:
    """Tell if the folders hold one shape each, rather than the shapes of one class each."""
    named = any(path.stem in INSTANCE_STEMS for folder in folders for path in _instance_meshes(folder))
    return named or all(len(list(_mesh_tree(folder))) == 1 and _instance_meshes(folder) for folder in folders)


def _only_mesh(folder: Path) -> Path:
    """Return the mesh of an instance folder."""
    meshes = _instance_meshes(folder)
    if len(meshes) != 1:
        found = ", ".join(path.name for path in meshes) or "none"
        raise UserError(
            f"{folder} should hold exactly one mesh, but has {len(meshes)}: {found}.",
            "Leave one mesh in each instance folder, or put the meshes of a class into one folder.",
        )
    return meshes[0]


def _instance_meshes(folder: Path) -> list[Path]:
    return _meshes_in(folder) or _meshes_in(folder / INSTANCE_FOLDER)


def _meshes_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in READ_SUFFIXES and path.is_file())


def _mesh_tree(folder: Path) -> list[Path]:
    """Return the meshes in a folder and in the folders below it, two levels down at most."""
    found = _meshes_in(folder)
    for child in _folders_in(folder):
        found += _meshes_in(child) + [mesh for below in _folders_in(child) for mesh in _meshes_in(below)]
    return found


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _checked(sources: list[MeshSource]) -> list[MeshSource]:
    """Return the sources if no two have the same name."""
    for one, two in pairwise(sources):
        if one.key == two.key:
            raise UserError(
                f"Two meshes would both be called {one.key}: {one.path} and {two.path}.",
                "Rename or remove one of them.",
            )
    return sources
