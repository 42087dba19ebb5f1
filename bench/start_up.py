"""What starting the agent costs: with the byte code it keeps, against compiling it anew, and an empty interpreter.

`python bench/start_up.py [RUNS]`, 15 unless told. A build over SSH starts it three times on each board.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import compare, run
from coordinator.hosts.agent.bundle import bundle

# The distribution's, as a board has it.
PYTHON = "/usr/bin/python3"


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        agent = bundle({"XDG_CACHE_HOME": folder})

        def kept() -> None:
            run([PYTHON, str(agent), "--version"])

        def anew() -> None:
            run([PYTHON, str(other), "--version"])

        other = agent.with_name("other.pyz")
        other.write_bytes(agent.read_bytes())
        anew()
        for path in other.parent.glob("other.pyz.*"):
            path.chmod(0o666)  # not used then
        print(f"start of the agent, compiled before against compiled anew: {compare(kept, anew, runs=runs)}")
        print(f"against an empty interpreter: {compare(kept, lambda: run([PYTHON, '-c', 'pass']), runs=runs)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 15)
