"""``shapewright reconstruct INPUT``: photos, a scan, or part of a shape in; a mesh out."""

from __future__ import annotations

from pathlib import Path

from shapewright.cli.console import start_log


def run(words: list[str]) -> None:
    """Run the verb: with ``--run`` by a shape space, on a file as one shape, on a folder from pictures."""
    if any(word == "--run" or word.startswith("--run=") for word in words):
        from shapewright.cli import deep_sdf

        deep_sdf.reconstruct(words)
    elif any(Path(word).is_file() for word in words[:1]):
        from shapewright.cli import single_shape

        single_shape.reconstruct(words)
    else:
        _reconstruct_surface(words)


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
