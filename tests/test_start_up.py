"""The package and its help start quickly and without the heavy libraries.

Times are those of the processor, which a busy machine does not lengthen.
"""

import resource
import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "warp", "numpy", "scipy", "trimesh", "tyro", "rich"}
HELP = """
from shapewright.cli.main import main
try:
    code = main({words!r})
except SystemExit as error:
    code = error.code
assert not code, code
"""


def seconds_and_modules(code, repeats=3):
    """Return the processor's seconds for ``code`` in a new process, the least of several, and what it loads."""
    script = (
        f"import sys, time\nstart = time.process_time()\n{code}\n"
        "print(time.process_time() - start, *{name.split('.')[0] for name in sys.modules})"
    )
    lines = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(repeats)
    ]
    return min(float(line[-1].split()[0]) for line in lines), set(lines[0][-1].split()[1:])


def test_the_package_imports_in_a_tenth_of_a_second():
    seconds, modules = seconds_and_modules("import shapewright")
    assert seconds < 0.1
    assert not modules & HEAVY


@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["train", "--help"], ["data", "--help"]])
def test_the_first_help_loads_nothing_heavy(words):
    seconds, modules = seconds_and_modules(HELP.format(words=words))
    assert seconds < 0.5
    assert not modules & (HEAVY - {"rich"})


@pytest.mark.parametrize(
    "verb",
    [
        "demo",
        "resume",
        "eval",
        "render",
        "export",
        "plot",
        "info",
        "doctor",
        "data check",
    ],
)
def test_the_help_of_a_verb_loads_no_torch(verb):
    _, modules = seconds_and_modules(HELP.format(words=[*verb.split(), "--help"]), repeats=1)
    assert "torch" not in modules


def test_the_whole_process_of_the_help_takes_half_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "shapewright.cli.main", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
