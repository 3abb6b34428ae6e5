"""``shapewright reconstruct DATA --out RUN``: pictures in; mesh, views and report out."""

from __future__ import annotations

from shapewright.cli.console import start_log
from shapewright.cli.run_options import ReconstructOptions, parse_surface


def run(words: list[str]) -> None:
    """Run the verb."""
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
