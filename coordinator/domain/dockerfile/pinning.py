"""Other names in the place of a Dockerfile's images: the text that is built, and what its images are held under."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import pairwise

from coordinator.domain.dockerfile.stages import Dockerfile
from coordinator.domain.image import references

_SPECIAL = re.compile(r"""[\s'"\\]""")


def pin(dockerfile: Dockerfile, replacements: Mapping[int, str]) -> str:
    """The text with the images at these positions (`BaseUse.position`) replaced, and nothing else.

    Lines keep their numbers. A word written over several lines moves to the last of them; a flag that was quoted
    loses its quotes. Replacing a word by what is written there changes nothing.
    """
    words = {word.position: word for stage in dockerfile.stages for word in (stage.base, *stage.sources)}
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
    """The name under which an engine holds the image that `text` was when it had this digest.

    It is on a registry that cannot answer, so an engine that does not have it fails at once. Deterministic, a valid
    reference of at most 255 characters, and another one for another digest.
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
    """The first of the offsets that lie on the last line. Writing there leaves no line empty that was continued."""
    found = offsets[0]
    for before, offset in pairwise(offsets):
        if "\n" in text[before:offset]:
            found = offset
    return found


def _quoted(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
