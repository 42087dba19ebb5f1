"""The stages of a Dockerfile and the words that name images or stages, unexpanded.

Source: moby/buildkit `frontend/dockerfile/instructions/parse.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.domain.closest import closest
from coordinator.domain.dockerfile import mounts
from coordinator.domain.dockerfile.expansion import split_quoted
from coordinator.domain.dockerfile.instructions import Flag, Instruction, read, word_readings, wrong
from coordinator.domain.dockerfile.mounts import MountError
from coordinator.errors import UsageError

_KEYWORDS = (
    "from", "run", "copy", "add", "arg", "env", "workdir", "user", "label", "expose", "volume", "cmd", "entrypoint",
    "healthcheck", "shell", "stopsignal", "onbuild", "maintainer",
)  # fmt: skip
# BuildKit `frontend/dockerfile/instructions/parse.go`: instructions that need one argument, and that need any.
_WITH_ONE = ("workdir", "user", "stopsignal", "maintainer")
_WITH_ANY = ("env", "label", "arg", "expose", "volume", "shell", "healthcheck", "onbuild")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")


class Place(StrEnum):
    FROM = "FROM"
    COPY = "COPY --from"
    MOUNT = "RUN --mount from"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWord:
    """A word that names an image or a stage. `before` and `after` are the text around it in a flag.

    `onbuild_of` names the image whose ONBUILD has the word: it stands nowhere in the file, and `position` is None.
    """

    place: Place
    written: str
    line: int
    offsets: tuple[int, ...] = field(repr=False)
    before: str = ""
    after: str = ""
    onbuild_of: str = ""

    @property
    def position(self) -> int | None:
        return self.offsets[0] if self.offsets else None


@dataclass(frozen=True, slots=True)
class Argument:
    """`ARG name=default`. `default` is unexpanded, `None` where absent."""

    name: str
    default: str | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One FROM and its instructions. `name` is in lower case and may be empty; `platform` is the unexpanded flag."""

    index: int
    name: str
    line: int
    platform: str
    base: ImageWord
    sources: tuple[ImageWord, ...]
    instructions: tuple[Instruction, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A parsed Dockerfile. `text` is the unchanged file, `path` is for messages."""

    text: str = field(repr=False)
    path: str
    escape: str
    arguments: tuple[Argument, ...]
    stages: tuple[Stage, ...]


def parse(text: str, path: str = "Dockerfile") -> Dockerfile:
    """Parse a Dockerfile into stages.

    The file must be decoded with `errors="surrogateescape"` and without newline translation, so that a pinned text
    can be written back byte for byte. Raises UsageError with path and line for a file that no builder accepts.
    """
    source = read(text, path)
    arguments: list[Argument] = []
    groups: list[list[Instruction]] = []
    for instruction in source.instructions:
        keyword = instruction.keyword
        if keyword not in _KEYWORDS:
            raise _unknown(path, instruction)
        _check_count(path, instruction)
        if keyword == "from":
            groups.append([instruction])
        elif groups:
            groups[-1].append(instruction)
        elif keyword == "arg":
            arguments += arguments_of(instruction, source.escape)
        else:
            hint = "only ARG may stand before the first FROM"
            raise wrong(path, instruction.line, f"{keyword.upper()} comes before any FROM", hint)
    if not groups:
        raise UsageError(f"{path}: there is no FROM", hint="begin with FROM and a base image, or FROM scratch")
    return Dockerfile(
        text=text,
        path=path,
        escape=source.escape,
        arguments=tuple(arguments),
        stages=tuple(_stage(path, index, group) for index, group in enumerate(groups)),
    )


def arguments_of(instruction: Instruction, escape: str) -> Iterator[Argument]:
    """Yield the names and defaults of one ARG."""
    for word in split_quoted(instruction.arguments, escape):
        name, equals, default = word.partition("=")
        yield Argument(name, default if equals else None, instruction.line)


def declared(dockerfile: Dockerfile) -> frozenset[str]:
    """Return the names of every ARG, global and in all stages."""
    instructions = (
        instruction for stage in dockerfile.stages for instruction in stage.instructions if instruction.keyword == "arg"
    )
    stage_arguments = (
        argument for instruction in instructions for argument in arguments_of(instruction, dockerfile.escape)
    )
    return frozenset(argument.name for argument in (*dockerfile.arguments, *stage_arguments))


def find_stage(dockerfile: Dockerfile, name: str) -> Stage:
    """Return the stage that `--target` names, in any case; the last one for an empty name. Raises UsageError."""
    if not name:
        return dockerfile.stages[-1]
    named = stage_named(dockerfile, name)
    if named is not None:
        return named
    names = [stage.name for stage in dockerfile.stages if stage.name]
    close = closest(name, names)
    listed = f"its stages are {', '.join(names)}" if names else "none of its stages has a name: FROM image AS name"
    hint = f"did you mean {close}? {listed}" if close else listed
    raise UsageError(f"{dockerfile.path} has no stage '{name}'", hint=hint, code="stage")


def stage_named(dockerfile: Dockerfile, name: str) -> Stage | None:
    """Return the stage of this name, in any case; the last one where several have it, `None` where no stage has it."""
    return next((stage for stage in reversed(dockerfile.stages) if stage.name and stage.name == name.lower()), None)


def is_stage_name(word: str) -> bool:
    """Return whether a stage can have this name, in any case."""
    return _STAGE_NAME.match(word.lower()) is not None


def image_words(instruction: Instruction) -> Iterator[ImageWord]:
    """Yield the words of one instruction that name an image or a stage: `COPY --from` and `RUN --mount=from`."""
    for flag in instruction.flags:
        if instruction.keyword == "copy" and flag.name == "from" and flag.value:
            yield _in_flag(Place.COPY, instruction, flag, len("--from="), len(flag.word.text))
        elif instruction.keyword == "run" and flag.name == "mount":
            yield from _mount_source(instruction, flag)


def _mount_source(instruction: Instruction, flag: Flag) -> Iterator[ImageWord]:
    try:
        source = mounts.settings(flag.value).get("from")
    except MountError:
        # The builder rejects the mount.
        return
    if source and source.value:
        at = len("--mount=")
        yield _in_flag(Place.MOUNT, instruction, flag, at + source.start, at + source.end)


def _in_flag(place: Place, instruction: Instruction, flag: Flag, start: int, end: int) -> ImageWord:
    text = flag.word.text
    return ImageWord(
        place=place,
        written=text[start:end],
        line=instruction.line,
        offsets=flag.word.offsets,
        before=text[:start],
        after=text[end:],
        onbuild_of=instruction.onbuild_of,
    )


def _stage(path: str, index: int, group: list[Instruction]) -> Stage:
    start, *rest = group
    words = list(start.words)
    if len(words) != 1 and not (len(words) == 3 and words[1].text.lower() == "as"):
        hint = "write FROM [--platform=P] image [AS name], and a comment on its own line"
        raise wrong(path, start.line, f"FROM does not accept '{start.arguments}'", hint)
    name = words[2].text.lower() if len(words) == 3 else ""
    if name and not is_stage_name(name):
        hint = "begin with a letter, then use letters, digits, '-', '_' and '.'"
        raise wrong(path, start.line, f"'{words[2].text}' cannot name a stage", hint)
    unknown = [flag.name for flag in start.flags if flag.name != "platform"]
    if unknown:
        raise wrong(path, start.line, f"FROM has no flag --{unknown[0]}", "use only --platform")
    return Stage(
        index=index,
        name=name,
        line=start.line,
        platform=next((flag.value for flag in reversed(start.flags)), ""),
        base=ImageWord(place=Place.FROM, written=words[0].text, line=start.line, offsets=words[0].offsets),
        sources=tuple(word for instruction in rest for word in image_words(instruction)),
        instructions=tuple(rest),
    )


def _check_count(path: str, instruction: Instruction) -> None:
    """Raise UsageError, in BuildKit's words, for an instruction that lacks arguments.

    That of an ONBUILD is read only where an image is built on.
    """
    count = max(map(len, word_readings(instruction)))
    keyword = instruction.keyword.upper()
    if instruction.keyword in ("copy", "add") and count < 2:
        raise wrong(
            path,
            instruction.line,
            f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            if count
            else f"{keyword} requires at least two arguments, but none was provided",
            f"write {keyword} SOURCE… DESTINATION",
        )
    if instruction.keyword in (*_WITH_ONE, *_WITH_ANY) and not count:
        needed = "exactly one argument" if instruction.keyword in _WITH_ONE else "at least one argument"
        raise wrong(path, instruction.line, f"{keyword} requires {needed}", f"give it, or remove {keyword}")


def _unknown(path: str, instruction: Instruction) -> UsageError:
    close = closest(instruction.keyword, _KEYWORDS)
    hint = f"did you mean {close.upper()}?" if close else f"use one of {', '.join(_KEYWORDS).upper()}"
    return wrong(path, instruction.line, f"unknown instruction '{instruction.keyword.upper()}'", hint)
