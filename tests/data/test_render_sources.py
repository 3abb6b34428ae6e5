"""Which objects there are, what they are called, and on which side of a split they fall."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.data.render_sources import RenderSource, find_sources
from shapewright.data.render_splits import SETS, parse_shares, split_sources
from shapewright.errors import UserError
from shapewright.io.meshes import write_mesh
from tests.geometry.messy import box


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mesh(path, box().to("cpu"))
    return path


def names(sources):
    return [(one.shape_class, one.name, one.cluster) for one in sources]


def test_the_folder_names_the_category(tmp_path):
    put(tmp_path / "car" / "b.ply")
    put(tmp_path / "car" / "a.obj")
    assert names(find_sources([str(tmp_path / "car")])) == [("car", "a", None), ("car", "b", None)]
    assert names(find_sources([str(tmp_path / "car" / "b.ply")])) == [("car", "b", None)]
    assert len(find_sources([str(tmp_path / "car"), str(tmp_path / "car" / "b.ply")])) == 2


def test_shapenets_folders_keep_their_numbers(tmp_path):
    put(tmp_path / "02958343" / "x1" / "model.obj")
    put(tmp_path / "03001627" / "y2" / "models" / "model_normalized.obj")
    expected = [("02958343", "x1", None), ("03001627", "y2", None)]
    assert names(find_sources([str(tmp_path)])) == expected
    assert names(find_sources([str(tmp_path / "02958343")])) == expected[:1]


def test_an_index_tells_categories_and_clusters(tmp_path):
    for name in ("a", "b", "c"):
        put(tmp_path / "stuff" / f"{name}.ply")
    index = tmp_path / "stuff" / "index.csv"
    index.write_text("category,key,shape_cluster,more\ncar,a,7,x\ncar,b,,x\nvan,c,7,x\n")
    expected = [("car", "a", "7"), ("car", "b", None), ("van", "c", "7")]
    assert names(find_sources([str(tmp_path / "stuff")])) == expected
    assert names(find_sources([str(index)])) == expected
    assert names(find_sources([str(tmp_path / "stuff" / "c.ply"), str(tmp_path / "stuff" / "a.ply")])) == [
        expected[0],
        expected[2],
    ]


def test_an_index_above_serves_the_folders_of_categories(tmp_path):
    for name in ("car", "van"):
        put(tmp_path / name / "a.ply")
        put(tmp_path / name / "b.ply")
    (tmp_path / "index.csv").write_text("category,key,shape_cluster\ncar,a,1\ncar,b,1\nvan,a,2\nvan,b,3\n")
    expected = [("car", "a", "1"), ("car", "b", "1"), ("van", "a", "2"), ("van", "b", "3")]
    assert names(find_sources([str(tmp_path)])) == expected
    assert names(find_sources([str(tmp_path / "index.csv")])) == expected


def test_tables_about_other_things_are_passed_over(tmp_path):
    put(tmp_path / "car" / "a.ply")
    (tmp_path / "car" / "index.csv").write_bytes(b"\xff\xfe\x00name;price\n")
    assert names(find_sources([str(tmp_path / "car")])) == [("car", "a", None)]


def test_what_is_not_there_is_said(tmp_path):
    put(tmp_path / "car" / "a.ply")
    cases = {
        "nowhere": "does not exist",
        "nowhere.csv": "does not exist",
        "bad.csv": "no table with the columns category and key",
        "gone.csv": "names car/b, but there is no such mesh",
    }
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "gone.csv").write_text("category,key\ncar,a\ncar,b\n")
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            find_sources([str(tmp_path / name)])
    with pytest.raises(UserError, match="nothing to render"):
        find_sources([])
    put(tmp_path / "other" / "car" / "a.ply")
    with pytest.raises(UserError, match="both be called car/a"):
        find_sources([str(tmp_path / "car"), str(tmp_path / "other" / "car")])


objects = st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([None, *"12345678"])), min_size=1, max_size=60)
shares = st.sampled_from([(0.7, 0.1, 0.2), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33), (0.0, 0.0, 1.0)])


@given(objects, shares, st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_near_copies_never_fall_on_both_sides(found, parts, seed, shuffle):
    sources = [RenderSource(one, f"{i:03d}", None, cluster) for i, (one, cluster) in enumerate(found)]
    split = split_sources(sources, parts, seed)
    placed = {source: kind for sets in split.values() for kind, members in sets.items() for source in members}
    assert set(placed) == set(sources)
    sides = {}
    for source, kind in placed.items():
        if source.cluster is not None:
            sides.setdefault((source.shape_class, source.cluster), set()).add(kind)
    assert all(len(kinds) == 1 for kinds in sides.values())
    assert all(share or not split[name][kind] for name in split for kind, share in zip(SETS, parts, strict=True))
    mixed = list(sources)
    shuffle.shuffle(mixed)
    assert split_sources(mixed, parts, seed) == split


def test_shares_are_met_as_well_as_clusters_allow():
    sources = [RenderSource("car", f"{i:03d}", None, str(i // 2) if i < 40 else None) for i in range(100)]
    split = split_sources(sources, (0.7, 0.1, 0.2), 0)["car"]
    assert [abs(len(split[kind]) - wanted) <= 1 for kind, wanted in zip(SETS, (70, 10, 20), strict=True)] == [True] * 3
    assert split != split_sources(sources, (0.7, 0.1, 0.2), 1)["car"]


def test_real_cars_are_split_by_their_clusters(shared_data):
    folder = shared_data / "models" / "car"
    if not folder.is_dir():
        pytest.skip(f"no cars at {folder}")
    sources = find_sources([str(folder)])
    assert all(source.cluster is not None for source in sources)
    split = split_sources(sources, (0.8, 0.0, 0.2), 0)["car"]
    sides = [{source.cluster for source in split[kind]} for kind in SETS]
    assert not sides[0] & sides[2]
    assert not sides[1]


@pytest.mark.parametrize("text", ["", ".7,.3", ".7,.2,.2", "a,b,c", "1.2,-.1,-.1", "nan,0,1"])
def test_shares_that_do_not_add_up_are_refused(text):
    with pytest.raises(UserError, match="no division"):
        parse_shares(text)


def test_shares_are_read():
    assert parse_shares(".7,.1,.2") == (0.7, 0.1, 0.2)
