"""Reads `~/.ssh/config` and `/etc/ssh/ssh_config` as OpenSSH does: which values apply to a host.

The rules are those of ssh_config(5) and of OpenSSH's readconf.c: the first value of a keyword applies, and a second
pass follows where the host name is canonicalized or a `Match final` occurs. docs/decisions/0007 says why neither
asyncssh's reader nor paramiko's is used.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from coordinator import deadlines
from coordinator.errors import UsageError
from coordinator.regular_files import read_file

SYSTEM = Path("/etc/ssh")
_MAX_INCLUDE_DEPTH = 16  # READCONF_MAX_DEPTH in readconf.c
_LINE = re.compile(r'\s*"?([A-Za-z0-9]+)"?(?:\s*=\s*|\s+|\Z)(.*?)\s*\Z')
# One step through the words of a line, as argv_split() in OpenSSH's misc.c takes it.
_STEP = re.compile(r"""\\(?P<escaped>["'\\ ])|(?P<quote>["'])|(?P<blank>\s+)|.""")
_TOKEN = re.compile(r"%(.?)|\$\{(.*?)\}")
_ONE_VALUE = frozenset(
    """addressfamily bindaddress canonicalizefallbacklocal canonicalizehostname canonicalizemaxdots
    casignaturealgorithms certificatefile ciphers compression enablesshkeysign gssapiauthentication
    gssapidelegatecredentials gssapikeyexchange hostbasedauthentication hostkeyalgorithms hostkeyalias hostname
    identitiesonly identityagent identityfile kexalgorithms macs pkcs11provider port preferredauthentications proxyjump
    pubkeyauthentication tag tcpkeepalive user""".split()  # noqa: SIM905 - shorter than a list
)
_SEVERAL_VALUES = frozenset({"canonicaldomains", "globalknownhostsfile", "rekeylimit", "setenv", "userknownhostsfile"})
_ACCUMULATED = frozenset({"certificatefile", "identityfile"})
_YES, _NO = frozenset({"yes", "true"}), frozenset({"no", "false"})
_WITHOUT_ARGUMENT = frozenset({"all", "canonical", "final"})


@dataclass(slots=True)
class Settings:
    """The values that the configuration has for the host `name`, by keyword in lower case.

    `user` and `port` are those of the address, empty where the configuration decides; they come first, as with
    `ssh -l USER -p PORT`.
    """

    name: str
    home: Path
    user: str = ""
    port: str = ""
    values: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values.update({key: [value] for key, value in (("user", self.user), ("port", self.port)) if value})

    def first(self, keyword: str, default: str = "") -> str:
        """Return the first value of the keyword, without expansion."""
        return next(iter(self.values.get(keyword, ())), default)

    def is_yes(self, keyword: str) -> bool:
        return self.first(keyword).lower() in _YES

    @property
    def hostname(self) -> str:
        """The real name or address of the host, in lower case."""
        return expand(self.first("hostname", "%h"), {"h": self.name}).lower()

    @property
    def login(self) -> str:
        """The user to log in as."""
        return self.first("user") or local_user()

    def tokens(self) -> dict[str, str]:
        """Return the values of the tokens that ssh_config(5) lists under TOKENS."""
        machine, host, port, user = socket.gethostname(), self.hostname, self.first("port", "22"), self.login
        jump = self.first("proxyjump")
        return {
            "C": hashlib.sha1(f"{machine}{host}{port}{user}{jump}".encode(), usedforsecurity=False).hexdigest(),
            "d": str(self.home),
            "h": host,
            "i": str(os.getuid()),
            "j": jump,
            "k": self.first("hostkeyalias", self.name).lower(),
            "L": machine.partition(".")[0],
            "l": machine,
            "n": self.name,
            "p": port,
            "r": user,
            "u": local_user(),
        }

    def path(self, text: str) -> Path:
        """Return the path with tokens, environment variables and `~` expanded."""
        text = expand(text, self.tokens(), variables=True)
        if text.startswith("~/"):
            return self.home / text[2:]
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError(f"there is no user of {text}") from None


def read_settings(name: str, home: Path, system: Path = SYSTEM, user: str = "", port: int = 0) -> Settings:
    """Return the settings for this host.

    Raises UsageError `config`, with file and line, for a configuration that cannot be read.
    """
    settings = Settings(name, home, user, str(port or ""))
    files = ((home / ".ssh" / "config", home / ".ssh"), (system / "ssh_config", system))
    try:
        reading = _Reading(settings, name)
        reading.read_all(files)
        canonicalizes = settings.first("canonicalizehostname", "no").lower() not in _NO
        if canonicalizes or reading.has_final:
            name = _canonical(settings) if canonicalizes else settings.hostname
            settings.values["hostname"] = [name.replace("%", "%%")]
            _Reading(settings, name, is_final=True).read_all(files)
    except ValueError as error:
        raise UsageError(f"~/.ssh/config, for {name}: {error}", code="config") from error
    return settings


def expand(text: str, tokens: dict[str, str], *, variables: bool = False) -> str:
    """Return the text with `%`-tokens replaced, and `${NAME}` where `variables` is set. Raises ValueError."""

    def value(match: re.Match[str]) -> str:
        if match[2] is not None:
            if not variables:
                return match[0]
            if match[2] not in os.environ:
                raise ValueError(f"the environment variable {match[2]} in {text} is not set")
            return os.environ[match[2]]
        if match[1] != "%" and match[1] not in tokens:
            raise ValueError(f"{match[0]} in {text} is not a token")
        return tokens.get(match[1], "%")

    return _TOKEN.sub(value, text)


def local_user() -> str:
    """Return the user of this process as ssh takes it, from the password database; its number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(slots=True)
class _Reading:
    """One pass over the files. `host` is what `Host` patterns match."""

    settings: Settings
    host: str
    is_final: bool = False
    has_final: bool = False

    def read_all(self, files: tuple[tuple[Path, Path], ...]) -> None:
        for path, folder in files:
            self._read(path, folder, 0, is_active=True)

    def _read(self, path: Path, folder: Path, depth: int, *, is_active: bool) -> None:
        """Read a file. Where it is included by a block that does not apply, no block in it applies."""
        if depth > _MAX_INCLUDE_DEPTH:
            raise UsageError(
                f"{path} is included too deeply", hint="does a file in ~/.ssh include itself?", code="config"
            )
        may_apply = is_active
        for number, line in enumerate(_text(path).splitlines(), 1):
            match = _LINE.match(line)
            if match is None:  # blank, or a comment
                continue
            keyword, rest = match[1].lower(), match[2]
            try:
                if keyword == "host":
                    is_active = may_apply and _matches_any(words(rest), self.host)
                elif keyword == "match":
                    is_active = may_apply and self._matches(words(rest))
                elif keyword == "include" and is_active:
                    for included in _included(words(rest), folder, self.settings.home):
                        self._read(included, folder, depth + 1, is_active=True)
                elif is_active:
                    self._set(keyword, rest)
            except ValueError as error:
                message = f"{path} line {number}: {error}"
                raise UsageError(
                    message, hint=f"ssh -G {self.settings.name} shows the details", code="config"
                ) from error

    def _set(self, keyword: str, rest: str) -> None:
        values = self.settings.values
        if keyword == "proxycommand":  # the rest of the line, blanks and all
            if self.settings.first("proxyjump", "none").lower() == "none":
                values.setdefault(keyword, [rest])
            return
        if keyword not in _ONE_VALUE and keyword not in _SEVERAL_VALUES:
            return
        given = words(rest)
        if not given or (keyword in _ONE_VALUE and len(given) > 1):
            raise ValueError(f"{keyword} takes {'one value' if given else 'a value'}")
        _check(keyword, given[0])
        if keyword in _ACCUMULATED:
            values[keyword] = [*dict.fromkeys([*values.get(keyword, []), *given])]
        elif keyword != "proxyjump" or "proxycommand" not in values:
            values.setdefault(keyword, given)

    def _matches(self, criteria: list[str]) -> bool:
        result = bool(criteria)
        while criteria:
            word, _, argument = criteria.pop(0).partition("=")
            kind = word.lower().removeprefix("!")
            if kind == "all" and criteria:
                raise ValueError("Match all cannot be combined with what follows it")
            if kind not in _WITHOUT_ARGUMENT and not argument:
                if not criteria:
                    raise ValueError(f"Match {word} needs a value")
                argument = criteria.pop(0)
            self.has_final |= kind == "final"
            if kind != "exec" or result:
                result = self._applies(kind, argument) != word.startswith("!") and result
        return result

    def _applies(self, kind: str, argument: str) -> bool:
        criteria: dict[str, Callable[[], bool]] = {
            "all": lambda: True,
            "canonical": lambda: self.is_final,
            "final": lambda: self.is_final,
            "host": lambda: _matches(argument.lower(), self.settings.hostname),
            "originalhost": lambda: _matches(argument.lower(), self.settings.name.lower()),
            "user": lambda: _matches(argument, self.settings.login),
            "localuser": lambda: _matches(argument, local_user()),
            "tagged": lambda: _matches(argument, self.settings.first("tag")),
            "exec": lambda: _succeeds(expand(argument, self.settings.tokens())),
        }
        if kind not in criteria:
            raise ValueError(f"Match {kind} is not supported")
        return criteria[kind]()


def _check(keyword: str, value: str) -> None:
    """Raise ValueError for a value that OpenSSH refuses, of the keywords that lead to a host."""
    if keyword == "port" and not (value.isdecimal() and 0 < int(value) < 1 << 16):
        raise ValueError(f"Port {value} is not a valid port, a number from 1 to 65535")
    if keyword == "identitiesonly" and value.lower() not in _YES | _NO:
        raise ValueError(f"IdentitiesOnly {value} is neither yes nor no")
    if keyword == "canonicalizemaxdots" and not value.isdecimal():
        raise ValueError(f"CanonicalizeMaxDots {value} is not a number")


def words(text: str) -> list[str]:
    """Return the words of a line up to a comment. Raises ValueError where a quote does not end."""
    found: list[str] = []
    word: str | None = None
    quote = ""
    for step in _STEP.finditer(text):
        if step["quote"] and quote in ("", step[0]):
            quote, word = "" if quote else step[0], word or ""
        elif step["blank"] and not quote:
            found += [] if word is None else [word]
            word = None
        elif step[0] == "#" and word is None:
            break
        else:
            is_escape = step["escaped"] and not (quote and step["escaped"] == " ")
            word = (word or "") + (step["escaped"] if is_escape else step[0])
    if quote:
        raise ValueError(f"unclosed quote in {text!r}")
    return found if word is None else [*found, word]


def _text(path: Path) -> str:
    """Return the text of the file; nothing where there is none. Raises UsageError `config`."""
    try:
        return read_file(path).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return ""
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="config") from error


def _included(names: list[str], folder: Path, home: Path) -> Iterator[Path]:
    """Yield the files that Include names, each pattern's in the order of their names; relative to `folder`."""
    for name in names:
        pattern = home / name[2:] if name.startswith("~/") else folder / name
        yield from (Path(path) for path in sorted(glob.glob(str(pattern))))  # noqa: PTH207 - it may be absolute


def _matches(patterns: str, text: str) -> bool:
    return _matches_any(patterns.split(","), text)


def _matches_any(patterns: list[str], text: str) -> bool:
    """Return whether one of the patterns matches, and none of those with `!`."""
    return any(_fits(pattern, text) for pattern in patterns) and not any(
        pattern.startswith("!") and _fits(pattern[1:], text) for pattern in patterns
    )


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def _succeeds(command: str, seconds: float = deadlines.MATCH_EXEC) -> bool:
    shell = os.environ.get("SHELL") or "/bin/sh"
    null = subprocess.DEVNULL
    # In a session of its own, so that it can be ended with everything it started.
    process = subprocess.Popen([shell, "-c", command], stdin=null, stdout=null, stderr=null, start_new_session=True)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise ValueError(f"Match exec {command!r} did not end within {seconds:g} s") from None


def _canonical(settings: Settings) -> str:
    """Return the host name with the first of CanonicalDomains in which it resolves. Raises ValueError."""
    name = settings.hostname
    is_direct = settings.first("proxycommand", "none") == "none" == settings.first("proxyjump", "none")
    is_asked = is_direct or settings.first("canonicalizehostname").lower() == "always"
    if not is_asked or name.count(".") > int(settings.first("canonicalizemaxdots", "1")) or ":" in name:
        return name
    for domain in settings.values.get("canonicaldomains", []):
        with suppress(OSError):
            socket.getaddrinfo(f"{name}.{domain}", None)
            return f"{name}.{domain}".lower()
    if settings.first("canonicalizefallbacklocal", "yes").lower() in _NO:
        raise ValueError(f"{name} resolves in none of CanonicalDomains")
    return name
