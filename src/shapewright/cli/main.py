"""Read the command, import its module alone, and print what goes wrong."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from shapewright import __version__
from shapewright.engine.config import suggestion
from shapewright.errors import UserError

VERBS = {
    "demo": "make a mesh and a report from a small built-in capture, in two minutes",
    "reconstruct": "make a mesh from photos, from a scan, or with --run from one picture or part of a shape",
    "data": "make, convert and check data to train on (data sample-sdf, render, prepare, check)",
    "train": "train a method: surface on a scene, deep_sdf on samples, pose_invariant on pictures of a category",
    "resume": "go on with a run that was stopped",
    "eval": "measure a run on what it has not seen",
    "render": "render pictures, depths, normals or an orbit of a run",
    "export": "write the mesh of a run as GLB, PLY or OBJ",
    "interpolate": "draw the shapes on the way from one shape to another",
    "embed": "draw a map of all codes of a run, of shapes or of pictures",
    "plot": "draw the curves of one or more runs",
    "info": "show what a run folder holds",
    "doctor": "show versions, processors, kernels and extras of this machine",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after the program's name; none: those of this process.

    Returns:
        0 for success, 2 for a mistake that the person can mend, 130 for Ctrl-C, 141 if nobody reads on, 1 for a bug.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        run_verb(words)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"next: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Such as `shapewright --help | head`. What is still buffered goes nowhere, or the interpreter would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        traceback.print_exc()
        print("This is a bug in Shapewright: please report the lines above.", file=sys.stderr)
        return 1
    return 0


def run_verb(words: list[str]) -> None:
    """Run the command that ``words`` say; each verb is the module of its name, with ``run(words)``."""
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        print(help_text())
    elif verb in ("-V", "--version"):
        print(f"shapewright {__version__}")
    elif verb in VERBS:
        importlib.import_module(f"shapewright.cli.{verb}").run(words[1:])
    else:
        raise UserError(f"Unknown command {verb!r}.", suggestion(verb, VERBS))


def help_text() -> str:
    """Return the help of the program, written without importing any verb."""
    lines = [f"  {verb:<12} {summary}" for verb, summary in VERBS.items()]
    usage = "usage: shapewright COMMAND [OPTIONS]     (shapewright COMMAND --help: its options)"
    return "\n".join([usage, "", "Turn photos, scans and collections of meshes into 3D shapes.", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
