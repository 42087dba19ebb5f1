"""What of a Dockerfile the frontend of an old engine cannot read, where no `# syntax` line names another one.

Docker 23 is the first whose own frontend knows heredocs and `--link`: dockerfile 1.4, which came with BuildKit 0.10.
https://github.com/moby/buildkit/releases/tag/dockerfile%2F1.4.0
"""

from __future__ import annotations

from coordinator.domain.dockerfile.instructions import Instruction, opens_heredoc
from coordinator.domain.dockerfile.stages import Dockerfile

FIRST_VERSION = (23,)
SYNTAX_HINT = "begin the Dockerfile with the line: # syntax=docker/dockerfile:1"


def newer_syntax(dockerfile: Dockerfile) -> str:
    """Return the first thing that Docker before 23 cannot read, with its line, such as `the heredoc in line 3`.

    Empty where it can read all. Other flags are newer still; of them the engine's own error tells.
    """
    instructions = (instruction for stage in dockerfile.stages for instruction in stage.instructions)
    return next(filter(None, map(_newer, instructions)), "")


def _newer(instruction: Instruction) -> str:
    inner = instruction.trigger or instruction
    if opens_heredoc(instruction):
        return f"the heredoc in line {instruction.line}"
    if inner.keyword in {"copy", "add"} and any(flag.name == "link" for flag in inner.flags):
        return f"--link in line {instruction.line}"
    return ""
