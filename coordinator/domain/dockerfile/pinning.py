"""A Dockerfile with its images replaced by pinned names, and the names under which engines hold those images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import pairwise

from coordinator.domain.dockerfile.onbuild import trigger_words
from coordinator.domain.dockerfile.stages import Dockerfile
from coordinator.domain.image import references

_SPECIAL = re.compile(r"""[\s'"\\]""")


def pin(dockerfile: Dockerfile, replacements: Mapping[int, str]) -> str:
    """Return the Dockerfile's text with only the images at these positions (`BaseUse.position`) replaced.

    Line numbers do not change. A word that spans several lines moves to the last of them; a quoted flag loses its
    quotes. Replacing a word by the same text changes nothing.
    """
    words = {word.position: word for stage in dockerfile.stages for word in (stage.base, *stage.sources)}
    words |= {word.position: word for stage in dockerfile.stages for word in trigger_words(stage)}
    characters = list(dockerfile.text)
    for position, name in replacements.items():
        word = words[position]
        if name == word.written:
            continue
        for offset in word.offsets:
            characters[offset] = ""
        characters[_last_line(dockerfile.text, word.offsets)] = _quoted(word.before) + name + _quoted(word.after)
    return "".join(characters)


def held_name(text: str, digest: str) -> str:
    """Return the name under which an engine holds the image with this digest, which `text` resolved to.

    Its registry cannot answer, so the build fails at once on an engine without the image. The name is deterministic,
    a valid reference of at most 255 characters, and different for another digest.
    """
    reference = references.parse(text)
    path = reference.repository
    if reference.registry != references.HUB:
        path = re.sub(r"[^a-z0-9.]+", "-", reference.registry.lower()).strip("-") + f"/{path}"
    if len(path) > 100:
        path = f"long/{hashlib.sha256(path.encode()).hexdigest()[:32]}"
    tag = reference.tag or ("" if reference.digest else "latest")
    return f"localhost:1/{path}:{tag[:100]}{'-' if tag else ''}{digest.removeprefix('sha256:')[:12]}"


def _last_line(text: str, offsets: tuple[int, ...]) -> int:
    """Return the first offset on the word's last line. Text inserted at it leaves no continued line empty."""
    first = offsets[0]
    for before, offset in pairwise(offsets):
        if "\n" in text[before:offset]:
            first = offset
    return first


def _quoted(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
