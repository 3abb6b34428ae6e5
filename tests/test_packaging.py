"""The project's files agree with each other, and every module imports in a bare place."""

import ast
import os
import pkgutil
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import shapewright

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def distribution(requirement):
    return re.split(r"[<>=\[;~! ]", requirement, maxsplit=1)[0].lower()


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {line.split("==")[0].lower(): line.split("==")[1] for line in lines if not line.startswith("#")}


def tracked_text_files():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    names = (name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())
    return [ROOT / name for name in names if Path(name).suffix not in {".png", ".jpg", ".gif", ".npz", ".ply"}]


def test_every_module_imports_without_programs_or_a_home(tmp_path):
    names = [module.name for module in pkgutil.walk_packages(shapewright.__path__, "shapewright.")]
    assert len(names) > 50
    script = f"import importlib\nfor name in {names}:\n    importlib.import_module(name)"
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_every_package_has_an_init_file():
    folders = {path.parent for path in (ROOT / "src" / "shapewright").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_core_and_development_dependencies_are_pinned():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    wanted += [line for extra in ("cuda", "log", "video") for line in PROJECT["optional-dependencies"][extra]]
    names = {distribution(line) for line in wanted} - {"shapewright"}
    assert names - set(pinned()) == set()
    assert pinned()["torch"] == "2.13.0"


def test_pins_are_versions_and_nothing_local():
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned().values())


def test_the_version_is_the_same_everywhere():
    assert f"## [{shapewright.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {shapewright.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", document.read_text()):
        link = target[0] or target[1]
        if "://" not in link:
            assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_commands_that_exist(document):
    from shapewright.cli.main import VERBS

    for verb in re.findall(r"^(?:\$ )?shapewright ([a-z-]+)", document.read_text(), flags=re.MULTILINE):
        assert verb in VERBS


def test_no_file_names_a_place_on_somebodys_machine():
    places = re.compile(r"(?<![\w.])/(?:work|root|home|tmp/sw|Users)/")
    found = [path for path in tracked_text_files() if places.search(path.read_text(errors="replace"))]
    assert [path for path in found if path != Path(__file__)] == []


def source_functions():
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = node.body[0] if ast.get_docstring(node) else None
                skipped = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
                yield f"{path.relative_to(ROOT)}:{node.name}", node, node.end_lineno - node.lineno + 1 - skipped


def test_functions_are_short():
    lengths = {name: length for name, _, length in source_functions()}
    assert [name for name, length in lengths.items() if length > 80] == []
    assert statistics.median(lengths.values()) <= 12


def test_no_function_takes_arguments_it_does_not_name():
    assert [name for name, node, _ in source_functions() if node.args.kwarg] == []


def test_files_are_short_and_say_what_they_hold():
    files = sorted((ROOT / "src").rglob("*.py"))
    assert [path.name for path in files if len(path.read_text().splitlines()) > 500] == []
    assert [path.name for path in files if path.stem in {"utils", "misc", "common", "helpers"}] == []
