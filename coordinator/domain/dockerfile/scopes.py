"""The variables that each instruction of a stage sees: ENV of its base image, ARG and ENV of the stages it builds on.

BuildKit of Docker 20.10 and today's differ where a name is set twice. There, ENV wins over ARG and the first ARG over
later ones; today the last of them wins. Both readings are given where they differ.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go` (`dispatchArg`, `dispatchEnv`; `toEnvMap` up to
v0.13, "If key already exists, keep previous value").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.domain.dockerfile.base_config import DEFAULT_PATH
from coordinator.domain.dockerfile.expansion import Expanded, ExpansionError, expand, split_quoted
from coordinator.domain.dockerfile.instructions import Instruction
from coordinator.domain.dockerfile.stages import Stage, arguments_of


@dataclass(frozen=True, slots=True)
class Scope:
    """The values that a stage starts with.

    `values` are the global ones, which an ARG without a default inherits. `environment` is that of the base image of
    the first stage in the chain.
    """

    values: Mapping[str, str]
    build_args: Mapping[str, str]
    escape: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def expand(self, word: str, values: Mapping[str, str]) -> Expanded:
        try:
            return expand(word, values, self.escape)
        except ExpansionError:
            # The builder reports the error; the unexpanded word is enough to detect a source.
            return Expanded(word)


def in_scope(chain: Sequence[Stage], scope: Scope) -> Iterator[tuple[Instruction, tuple[Mapping[str, str], ...]]]:
    """Yield the instructions of the chain's last stage, each with the variables in its scope.

    There are one or two readings of the variables; the first is that of today's BuildKit.
    """
    today, older = _Today(scope), _Older(scope)
    for stage in chain:
        for instruction in stage.instructions:
            if stage is chain[-1]:
                values, before = today.values(), older.values()
                yield instruction, (values,) if values == before else (values, before)
            if instruction.keyword == "arg":
                today.declare(instruction)
                older.declare(instruction)
            elif instruction.keyword == "env":
                today.set(instruction)
                older.set(instruction)


class _Today:
    """Variables where the last ARG or ENV of a name wins."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._values = {"PATH": DEFAULT_PATH, **scope.environment}

    def values(self) -> Mapping[str, str]:
        return dict(self._values)

    def declare(self, instruction: Instruction) -> None:
        for name, value in _declared(instruction, self._scope, self._values):
            self._values[name] = value

    def set(self, instruction: Instruction) -> None:
        self._values.update(_assigned(instruction, self._scope, self.values()))


class _Older:
    """Variables where ENV wins over ARG, and the first ARG over later ones."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._environment = {"PATH": DEFAULT_PATH, **scope.environment}
        self._arguments: dict[str, str] = {}

    def values(self) -> Mapping[str, str]:
        return {**self._arguments, **self._environment}

    def declare(self, instruction: Instruction) -> None:
        # All defaults of one ARG are expanded before the first is set.
        for name, value in _declared(instruction, self._scope, self.values()):
            self._arguments.setdefault(name, value)

    def set(self, instruction: Instruction) -> None:
        self._environment.update(_assigned(instruction, self._scope, self.values()))


def _declared(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for argument in arguments_of(instruction, scope.escape):
        if argument.name in scope.build_args:
            yield argument.name, scope.build_args[argument.name]
        elif argument.default is not None:
            yield argument.name, scope.expand(argument.default, values).text
        elif argument.name in scope.values:
            yield argument.name, scope.values[argument.name]


def _assigned(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    words = split_quoted(instruction.arguments, scope.escape)
    if words and "=" not in words[0]:
        # The legacy form `ENV name value`, where the value extends to the end of the line.
        words = [f"{words[0]}={instruction.arguments[len(words[0]) :].strip()}"]
    for word in words:
        name, _, value = word.partition("=")
        yield scope.expand(name, values).text, scope.expand(value, values).text
