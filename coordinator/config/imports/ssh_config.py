"""Hosts of an OpenSSH client configuration, by their aliases: an entry needs no more than the alias."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from coordinator.config import addresses
from coordinator.config.imports import files, forges
from coordinator.config.imports.found import Found, Machine
from coordinator.errors import UsageError

_HINT = "name the file: archloom boards import ssh-config FILE; or add hosts one by one: archloom boards add USER@HOST"
# ssh_config(5): a keyword, then blanks or one '=', then words, which may stand in double quotes.
_LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)")
_WORD = re.compile(r'"([^"]*)"|(#.*)|([^\s"]+)')
_READ = ("hostname", "port", "user", "proxyjump")
# The limit of OpenSSH (READCONF_MAX_DEPTH).
_MAX_INCLUDE_DEPTH = 16
_NEVER: tuple[str, ...] = ()

Patterns = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Setting:
    """A keyword and its value. `guards`: the enclosing `Host` lines, all of which must match."""

    guards: tuple[Patterns, ...]
    key: str
    value: str


@dataclass(slots=True)
class _Config:
    """The settings that determine the address of a host. The first value for a host wins, as in OpenSSH."""

    home: Path
    aliases: list[str] = field(default_factory=list)
    settings: list[_Setting] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, alias: str, key: str) -> str:
        matching = (
            setting.value for setting in self.settings if setting.key == key and _all_match(alias, setting.guards)
        )
        return next(matching, "")


def read(path: Path | None, home: Path) -> Found:
    """Return the aliases of this file, or of ~/.ssh/config, and of the files it includes.

    Raises UsageError where it cannot be read. Patterns, `Match` and code hosting services are skipped with a note.
    """
    default = home / ".ssh" / "config"
    path = path or default
    config = _Config(home)
    label = files.shown(path, home)
    _add(config, files.text(path, label, _HINT), path, (), 0)
    machines = tuple(_machines(config))
    if machines and path.resolve() != default.resolve():
        config.notes.append(f"archloom reads ~/.ssh/config: for these aliases to work, put there: Include {path}")
    return Found(label, machines, tuple(config.notes))


def _add(config: _Config, text: str, path: Path, guards: tuple[Patterns, ...], depth: int) -> None:
    label = files.shown(path, config.home)
    current = guards
    for number, line in enumerate(text.splitlines(), 1):
        keyword, words = _split(line)
        if keyword == "host":
            current = (*guards, tuple(words))
            _name_hosts(config, words, f"{label}:{number}")
        elif keyword == "match":
            always = [word.lower() for word in words] == ["all"]
            current = (*guards, ("*",) if always else _NEVER)
            if not always:
                config.notes.append(f"{label}:{number}: Match is skipped, it names no host")
        elif keyword == "include":
            for word in words:
                _include(config, word, path, current, depth + 1)
        elif keyword in _READ and words:
            config.settings.append(_Setting(current, keyword, words[0]))


def _split(line: str) -> tuple[str, list[str]]:
    match = _LINE.match(line)
    if not match:  # blank, a comment, or a keyword alone
        return "", []
    words = []
    for quoted, comment, plain in _WORD.findall(match[2]):
        if comment:
            break
        words.append(quoted or plain)
    return match[1].lower(), words


def _name_hosts(config: _Config, words: list[str], place: str) -> None:
    for word in words:
        if word == "*":  # defaults, in nearly every file
            continue
        if re.search(r"[*?]", word) or word.startswith("!"):
            config.notes.append(f"{place}: Host {word} is a pattern, not a host")
        elif word not in config.aliases:
            config.aliases.append(word)


def _include(config: _Config, word: str, path: Path, guards: tuple[Patterns, ...], depth: int) -> None:
    """Add the included files. Relative names start in ~/.ssh, or in /etc/ssh for a file in it, as in OpenSSH.

    A pattern without a match is not an error.
    """
    if depth > _MAX_INCLUDE_DEPTH:
        config.notes.append(f"Include {word} is skipped: files include each other more than {depth - 1} levels deep")
        return
    base = path.parent if path.is_relative_to("/etc/ssh") else config.home / ".ssh"
    pattern = config.home / word[2:] if word.startswith("~/") else base / word
    for name in sorted(glob(str(pattern))):  # noqa: PTH207 - the pattern may be absolute
        included = Path(name)
        try:
            text = files.text(included, files.shown(included, config.home), "")
        except UsageError as error:
            config.notes.append(f"Include {word}: {error.message}")
            continue
        _add(config, text, included, guards, depth)


def _machines(config: _Config) -> Iterator[Machine]:
    jumps = {hop: alias for alias in config.aliases for hop in _hops(config.value(alias, "proxyjump"))}
    for alias in config.aliases:
        host = config.value(alias, "hostname").replace("%h", alias) or alias
        user, port = config.value(alias, "user"), config.value(alias, "port") or "22"
        reason = forges.reason(alias, host, user)
        if reason:
            config.notes.append(f"{alias}: left out, {reason}")
            continue
        try:
            address = addresses.target(f"ssh://{alias}")
        except ValueError as error:
            config.notes.append(f"{alias}: left out, {error}")
            continue
        if alias in jumps:
            config.notes.append(f"{alias}: {jumps[alias]} is reached through it; remove it if it is not a build host")
        yield Machine(name=alias, address=address, place=f"{host}:{port}")


def _hops(value: str) -> Iterator[str]:
    for hop in value.split(","):
        yield hop.strip().removeprefix("ssh://").rpartition("@")[2].partition(":")[0]


def _all_match(alias: str, guards: tuple[Patterns, ...]) -> bool:
    return all(_matches(alias, patterns) for patterns in guards)


def _matches(alias: str, patterns: Patterns) -> bool:
    """Return whether one of the patterns matches, and none of the negated ones."""
    if any(_fits(alias, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_fits(alias, pattern) for pattern in patterns if not pattern.startswith("!"))


def _fits(alias: str, pattern: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, alias) is not None
