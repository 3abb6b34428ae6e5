import pytest

from shapewright.data.shapenet import SYNSETS, class_title, find_meshes
from shapewright.errors import UserError
from tests.data.meshes import write
from tests.geometry.messy import box


def names(folder, name=None):
    return [str(source.key) for source in find_meshes(folder, name)]


def test_there_are_55_classes_of_shapenet():
    assert len(SYNSETS) == 55
    assert all(len(offset) == 8 and offset.isdecimal() for offset in SYNSETS)
    assert class_title("03001627") == "03001627 (chair)"
    assert class_title("mugs") == "mugs"


@pytest.mark.parametrize("inside", ["model.obj", "models/model_normalized.obj"])
def test_shapenet_is_read_from_its_root_and_from_a_class(tmp_path, inside):
    root = tmp_path / "ShapeNet"
    for synset, instance in (("03001627", "a1"), ("03001627", "a0"), ("02958343", "b0")):
        write(root / synset / instance / inside, box())
    assert names(root) == ["ShapeNet/02958343/b0", "ShapeNet/03001627/a0", "ShapeNet/03001627/a1"]
    assert names(root / "03001627", "V2") == ["V2/03001627/a0", "V2/03001627/a1"]
    assert names(root / "03001627") == ["ShapeNet/03001627/a0", "ShapeNet/03001627/a1"]


def test_a_plain_folder_has_one_class(tmp_path):
    for name in ("b.ply", "a.obj", "c.glb"):
        write(tmp_path / "mugs" / name, box())
    (tmp_path / "mugs" / "notes.txt").write_text("no mesh")
    assert names(tmp_path / "mugs") == ["mugs/all/a", "mugs/all/b", "mugs/all/c"]
    assert names(tmp_path / "mugs" / "a.obj") == ["mugs/all/a"]


def test_folders_of_several_meshes_are_classes(tmp_path):
    for name in ("cups/a.ply", "cups/b.ply", "jars/a.ply"):
        write(tmp_path / "set" / name, box())
    assert names(tmp_path / "set") == ["set/cups/a", "set/cups/b", "set/jars/a"]


def test_folders_of_one_mesh_each_are_shapes(tmp_path):
    for name in ("00000002/00000002_1ffb81a7_trimesh_000.obj", "00000003/x.obj"):
        write(tmp_path / "abc" / name, box())
    assert names(tmp_path / "abc") == ["abc/all/00000002", "abc/all/00000003"]


def test_an_instance_folder_with_two_meshes_is_named_with_both(tmp_path):
    write(tmp_path / "s" / "03001627" / "a" / "model.obj", box())
    write(tmp_path / "s" / "03001627" / "a" / "other.ply", box())
    with pytest.raises(UserError, match=r"has 2: model\.obj, other\.ply"):
        find_meshes(tmp_path / "s")


def test_two_files_of_one_name_are_refused(tmp_path):
    write(tmp_path / "a.obj", box())
    write(tmp_path / "a.ply", box())
    with pytest.raises(UserError, match="both be called"):
        find_meshes(tmp_path)


def test_a_folder_without_meshes_is_refused(tmp_path):
    with pytest.raises(UserError, match="no mesh in"):
        find_meshes(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_meshes(tmp_path / "nowhere")
