"""`archloom --help` against an empty interpreter: the budget is 5 times."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import compare, run

ARCHLOOM = str(Path(sys.executable).with_name("archloom"))

if __name__ == "__main__":
    found = compare(lambda: run([ARCHLOOM, "--help"]), lambda: run([sys.executable, "-c", "pass"]), runs=15)
    print(f"archloom --help against python -c pass: {found}")
