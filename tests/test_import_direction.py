"""Who may import whom, and who may print: read from the syntax trees, so that a cycle cannot be built."""

import ast
from pathlib import Path

import pytest

import shapewright

SOURCE = Path(shapewright.__file__).parent
LAYERS = (
    {"__init__", "errors", "checks"},
    {"geometry"},
    {"kernels"},
    {"fields", "networks", "rendering", "losses", "metrics", "io"},
    {"data", "engine", "analysis", "export", "viewer"},
    {"methods"},
    {"cli", "__main__"},
)
FILES = sorted(SOURCE.rglob("*.py"))


def parts_of(path):
    """Return a file's name below the package: ('engine', 'trainer')."""
    return path.relative_to(SOURCE).with_suffix("").parts


def layer(folder):
    found = [i for i, folders in enumerate(LAYERS) if folder in folders]
    assert found, f"{folder} is in no layer of the design"
    return found[0]


def imports_of(tree):
    """Return what a tree imports from the package, at any depth: ('engine', 'trainer', 'Trainer')."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import is relative"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    inside = [tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "shapewright"]
    folders = {parts[0] for parts in map(parts_of, FILES)}
    return [parts if parts and parts[0] in folders else ("__init__",) for parts in inside]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def all_files(test):
    return pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(parts_of(path)))(test)


@all_files
def test_imports_go_down(path):
    own = parts_of(path)[0]
    for parts in imports_of(tree_of(path)):
        assert parts[0] == own or layer(parts[0]) < layer(own), f"{own} imports {'.'.join(parts)}"


@all_files
def test_no_method_imports_another(path):
    own = parts_of(path)
    for parts in imports_of(tree_of(path)):
        if own[0] == "methods" and parts[0] == "methods":
            assert parts[1] == own[1], f"{own[1]} imports {'.'.join(parts)}"


@all_files
def test_only_the_command_line_prints_and_parses(path):
    if layer(parts_of(path)[0]) == layer("cli"):
        return
    for node in ast.walk(tree_of(path)):
        assert not (isinstance(node, ast.Name) and node.id in ("print", "input")), f"line {node.lineno} prints"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"tyro", "argparse", "rich"}


def test_the_rules_see_what_they_forbid():
    tree = ast.parse("def f():\n    from shapewright.cli import main\n    import shapewright.engine.trainer\n")
    assert imports_of(tree) == [("cli", "main"), ("engine", "trainer")]
    assert imports_of(ast.parse("from shapewright import __version__, geometry")) == [("__init__",), ("geometry",)]
