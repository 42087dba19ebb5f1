"""Which frontend reads a Dockerfile: BuildKit's own, or another one, whose instructions may mean anything.

Source: moby/buildkit `frontend/dockerfile/parser/directives.go` (`DetectSyntax`), `frontend/dockerui/build.go`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_ARGUMENT = "BUILDKIT_SYNTAX"
_OWN = re.compile(r"(?:.+/)?docker/dockerfile(?:-upstream)?\Z")


@dataclass(frozen=True, slots=True)
class Syntax:
    """The image of a frontend, as written, and the line that names it; 0 where a build argument names it."""

    image: str
    line: int

    @property
    def is_foreign(self) -> bool:
        """Whether this is not BuildKit's Dockerfile frontend, which mirrors have under the same repository name."""
        return not _OWN.match(self._repository)

    @property
    def is_labs(self) -> bool:
        """Whether flags may mean something else than in a stable release: a labs tag, or a digest without a tag."""
        tag = self.image.partition("@")[0].removeprefix(self._repository)
        return "labs" in tag or "experimental" in tag or ("@" in self.image and not tag)

    @property
    def _repository(self) -> str:
        name = self.image.partition("@")[0]
        folder, _, last = name.rpartition("/")
        return f"{folder}/{last.partition(':')[0]}".removeprefix("/")


def detect_syntax(text: str) -> Syntax | None:
    """Return the frontend that the Dockerfile itself names.

    It is `# syntax=`, else `// syntax=`, among the directives at the top; else the key `syntax` of a file that is JSON.
    A byte order mark and a first line `#!` are skipped.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    first = 1 if lines[0].startswith("#!") else 0
    for comment in ("#", "//"):
        for number, line in enumerate(lines[first:], start=first + 1):
            match = _DIRECTIVE.match(line.removeprefix(comment).rstrip()) if line.startswith(comment) else None
            name = match[1].lower() if match else ""
            if not match or name not in _DIRECTIVES:
                break
            if name == "syntax":
                return Syntax(match[2].partition(" ")[0], number)
    return _json_syntax("\n".join(lines[first:]), first + 1)


def effective_syntax(text: str, build_args: Mapping[str, str]) -> Syntax | None:
    """Return the frontend of a build, `None` for the engine's own. `BUILDKIT_SYNTAX` replaces the Dockerfile's."""
    if argument := build_args.get(_ARGUMENT, "").strip():
        return Syntax(argument.partition(" ")[0], 0)
    return detect_syntax(text)


def _json_syntax(text: str, line: int) -> Syntax | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        image = json.loads(text).get("syntax")
    except ValueError:
        return None
    return Syntax(image, line) if isinstance(image, str) else None
