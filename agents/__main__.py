"""Entry point of the agent: `python3 archloom-agent-<hash>.pyz serve`, or `python3 -m agents serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agents.server import cli

if TYPE_CHECKING:
    from agents.server.control import Operations


def _job_command() -> tuple[str, ...]:
    """Return the command that starts this agent's `job` process.

    From a checkout it needs the current working directory, which a child process inherits.
    """
    archive = Path(sys.argv[0]).resolve()
    # As the coordinator starts this agent: without packages of this Python, and without PYTHON* of the environment.
    words = ("-I", "-S", str(archive)) if archive.suffix == ".pyz" else ("-S", "-m", "agents")
    return (sys.executable, *words, "job")


def _operations() -> Operations:
    """Return the operations of the engine and the probe, which not every command needs."""
    from agents.engine import archives, build_cache, engines, leaked_names, pull, push
    from agents.probe import observe
    from agents.server.control import Operations

    return Operations(
        observe=observe.observe,
        engine=engines.local_facts,
        pull=pull.pull,
        push=push.push,
        discard=engines.discard,
        lacking=archives.lacking,
        save=archives.save,
        load=archives.load,
        prune=build_cache.prune,
        remove_leaked=lambda: leaked_names.remove_leaked(engines.local_engine()),
        job_command=_job_command(),
        ping_engine=engines.ping,
    )


def main() -> int:
    return cli.run(sys.argv[1:], _operations)


if __name__ == "__main__":
    sys.exit(main())
