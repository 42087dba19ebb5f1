"""What the agent imports to start: a small board needs a second for what takes 70 ms here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.commands import run_limited
from tests.services.paths import ROOT

# Each brings a dozen others: traceback has dataclasses, inspect and ast, tempfile has shutil and every compression.
_NEVER = ("dataclasses", "inspect", "platform", "secrets", "shutil", "tempfile", "traceback")


@pytest.mark.parametrize(
    ("words", "more"), [(("serve",), ()), (("context", "7f3a"), ("http.client", "subprocess", "tarfile"))]
)
def test_a_channel_starts_without_what_it_may_never_need(tmp_path: Path, words, more):
    """Python's own start has none of these either."""
    code = f"import sys, agents.__main__ as agent; sys.argv = ['agent', *{words!r}]; agent.main()"
    env = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-X", "importtime", "-c", code]
    ended = run_limited(command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    lines = (line.rpartition("|") for line in ended.stderr.splitlines() if line.startswith("import time:"))
    imported = {name.strip() for _, _, name in lines}
    assert "agents.job.store" in imported
    assert imported & {*_NEVER, *more} == set()
