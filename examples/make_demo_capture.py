"""Make the capture of `shapewright demo` anew: python examples/make_demo_capture.py [FOLDER]."""

import sys
from pathlib import Path

from shapewright.data.demo import demo_capture_path, write_demo_capture

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else demo_capture_path()
write_demo_capture(folder)
size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
print(f"{folder}: {size / 1e6:.2f} MB")
