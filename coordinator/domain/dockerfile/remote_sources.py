"""Unpinned network sources of `ADD`: two builds of the same inputs may differ because of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.dockerfile.expansion import Expanded, ExpansionError, expand, split_quoted
from coordinator.domain.dockerfile.instructions import Instruction, json_words
from coordinator.domain.dockerfile.stages import Stage, arguments_of

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCP = re.compile(r"[\w.-]+@[^/:\s]+:")
_GIT = re.compile(r"(?:git|ssh)://|https?://[^#?]*\.git(?:[#?]|\Z)", re.IGNORECASE)
_LEADING = re.compile(r"\$\{?(\w+)")
_COMMIT = re.compile(r"(?:#|[?&](?:commit|checksum)=)(?:[0-9a-f]{64}|[0-9a-f]{40})(?:[:&]|\Z)")


@dataclass(frozen=True, slots=True)
class Scope:
    """The values of variables in a stage. `values` are the global ones, which an ARG without a default inherits."""

    values: Mapping[str, str]
    build_args: Mapping[str, str]
    escape: str

    def expand(self, word: str, values: Mapping[str, str]) -> Expanded:
        try:
            return expand(word, values, self.escape)
        except ExpansionError:
            # The builder reports the error; the unexpanded word is enough to detect a source.
            return Expanded(word)


def network_reasons(chain: Sequence[Stage], scope: Scope) -> Iterator[tuple[int, str]]:
    """Yield line and reason for each unpinned ADD of the chain's last stage. Earlier stages only supply variables."""
    for instruction, values in in_scope(chain, scope):
        if instruction.keyword == "add":
            yield from ((instruction.line, reason) for reason in _unpinned(instruction, scope, values))


def in_scope(chain: Sequence[Stage], scope: Scope) -> Iterator[tuple[Instruction, Mapping[str, str]]]:
    """Yield the instructions of the chain's last stage, each with the variables in its scope."""
    values: dict[str, str] = {}
    for stage in chain:
        for instruction in stage.instructions:
            if stage is chain[-1]:
                yield instruction, values
            if instruction.keyword == "arg":
                _declare(instruction, scope, values)
            elif instruction.keyword == "env":
                _set(instruction, scope, values)


def _declare(instruction: Instruction, scope: Scope, values: dict[str, str]) -> None:
    for argument in arguments_of(instruction, scope.escape):
        if argument.name in scope.build_args:
            values[argument.name] = scope.build_args[argument.name]
        elif argument.default is not None:
            values[argument.name] = scope.expand(argument.default, values).text
        elif argument.name in scope.values:
            values[argument.name] = scope.values[argument.name]


def _set(instruction: Instruction, scope: Scope, values: dict[str, str]) -> None:
    words = split_quoted(instruction.arguments, scope.escape)
    if words and "=" not in words[0]:
        # The legacy form `ENV name value`, where the value extends to the end of the line.
        words = [f"{words[0]}={instruction.arguments[len(words[0]) :].strip()}"]
    before = dict(values)
    for word in words:
        name, _, value = word.partition("=")
        values[name] = scope.expand(value, before).text


def _unpinned(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[str]:
    if any(flag.name == "checksum" and flag.value for flag in instruction.flags):
        return
    words = json_words(instruction.arguments) or [word.text for word in instruction.words]
    for written in words[:-1]:
        expanded = scope.expand(written, values)
        source = expanded.text
        if _GIT.match(source) or _SCP.match(source):
            if not _COMMIT.search(source):
                yield f"ADD {source} names no commit"
        elif _URL.match(source):
            yield f"ADD {source} has no --checksum"
        elif (leading := _LEADING.match(written)) and leading[1] in expanded.unset:
            yield f"ADD {written} may be a URL: {leading[1]} has no value in the Dockerfile"
