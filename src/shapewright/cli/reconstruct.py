"""``shapewright reconstruct INPUT``: photos, a scan, or part of a shape in; a mesh out."""

from __future__ import annotations

from pathlib import Path

from shapewright.cli.arguments import commands_of
from shapewright.cli.console import start_log

HELP = """usage: shapewright reconstruct INPUT --out RUN [OPTIONS]

INPUT is one of
  a folder of a scene     pictures, cameras and masks become a coloured mesh
  a file, alone           points, signed distances or a messy mesh become a clean mesh of one shape
  a file, with --run RUN  a mesh, samples, points or a depth map become a whole shape of a learned category
  a picture, with --run   one picture of an object of a learned category becomes a mesh

The options follow the input: shapewright reconstruct INPUT --help, or with --run RUN --help."""


def run(words: list[str]) -> None:
    """Run the verb: with ``--run`` by a shape space, on a file as one shape, on a folder from pictures."""
    if not words or words in (["-h"], ["--help"]):
        print(HELP)
    elif any(word == "--run" or word.startswith("--run=") for word in words):
        commands_of([_run_of(words)]).reconstruct(words)
    elif any(Path(word).is_file() for word in words[:1]):
        from shapewright.cli import single_shape

        single_shape.reconstruct(words)
    else:
        _reconstruct_surface(words)


def _run_of(words: list[str]) -> str:
    """Return the folder that ``--run`` names."""
    for place, word in enumerate(words):
        if word.startswith("--run="):
            return word.partition("=")[2]
        if word == "--run" and place + 1 < len(words):
            return words[place + 1]
    return ""


def _reconstruct_surface(words: list[str]) -> None:
    from shapewright.cli.run_options import ReconstructOptions, parse_surface

    options = parse_surface(ReconstructOptions, "shapewright reconstruct", words)
    start_log()
    from shapewright.methods.surface import pipeline

    pipeline.reconstruct(
        options.config,
        options.data,
        options.out,
        options.start(["shapewright", "reconstruct", *words]),
    )
    print(f"Mesh:   {options.out / 'meshes' / 'mesh.glb'}\nReport: {options.out / 'report.html'}")
