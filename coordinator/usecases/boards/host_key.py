"""Decide whether to trust a host key: by known_hosts, by a given fingerprint, or by the user's confirmation."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from coordinator.errors import InterruptedRunError, LostError, UsageError
from coordinator.hosts.enrol.connect import fetch_key
from coordinator.hosts.ssh.known_hosts import HostKey, RecordedKeys, Verdict
from coordinator.hosts.ssh.route import Route
from coordinator.usecases.boards.console import Console

# A host has keys of several types, and the given fingerprint may be of any of them.
_KEY_TYPES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("ssh-rsa",),
)


@dataclass(frozen=True, slots=True)
class Question:
    """`given` is the value of `--host-key`; `command` is the command to repeat with that option added."""

    route: Route
    given: str
    command: str
    timeout: float

    def with_key(self, key: HostKey) -> str:
        return f"{self.command} --host-key {key.fingerprint}"

    @property
    def compare(self) -> str:
        return f"compare it with what this prints on the host itself: {self.look}"

    @property
    def look(self) -> str:
        return "for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done"


def command(*words: str, inventory: str | None) -> str:
    """Return an archloom command line to paste, for the same inventory."""
    return shlex.join(["archloom", *words, *(["-i", inventory] if inventory else [])])


def trusted_key(question: Question, record: RecordedKeys, console: Console) -> HostKey:
    """Return the host's key once it is trusted, and show why. Raises LostError or UsageError if it is not trusted."""
    route = question.route
    if question.given:
        key = given_key(question)
        refuse_revoked(route, record, key)
        console.say(f"{route.name}: the host key is the given one: {key}")
        return key
    key = fetch_key(route, question.timeout, record.types)
    match record.verdict(key):
        case Verdict.KNOWN:
            console.say(f"{route.name}: the host key is the one in known_hosts: {key}")
        case Verdict.REVOKED:
            refuse_revoked(route, record, key)
        case Verdict.CHANGED:
            was = ", ".join(str(key) for key in record.keys)
            raise LostError(
                f"{route.name} shows a different host key than known_hosts has: {key}, expected {was}",
                hint=f"either the host was reinstalled, or another machine answers at its address\n{question.compare}\n"
                f"if it is the same: {question.with_key(key)}",
                code="host_key_changed",
            )
        case Verdict.UNKNOWN:
            confirm(question, key, f"{route.name} is not in known_hosts. Its host key is", console)
    return key


def refuse_revoked(route: Route, record: RecordedKeys, key: HostKey) -> None:
    """Raise LostError `host_key_revoked` where known_hosts marks the key as revoked, even if `--host-key` gives it."""
    if record.verdict(key) is Verdict.REVOKED:
        hint = "do not trust it; make new keys on the host: sudo rm /etc/ssh/ssh_host_* and sudo ssh-keygen -A"
        raise LostError(
            f"{route.name} shows a key that known_hosts marks as revoked: {key}", hint=hint, code="host_key_revoked"
        )


def given_key(question: Question) -> HostKey:
    """Return the host's key that matches `question.given`. Raises UsageError, with the host's keys, without a match."""
    shown: list[HostKey] = []
    for kinds in _KEY_TYPES:
        key = fetch_key(question.route, question.timeout, kinds)
        if is_key(question.given, key):
            return key
        if all(key.blob != other.blob for other in shown):
            shown.append(key)
    seen = ", ".join(str(key) for key in shown)
    raise UsageError(
        f"{question.route.name} shows the host key {seen}, expected {question.given}",
        hint=question.compare,
        code="host_key",
    )


def confirm(question: Question, key: HostKey, lead: str, console: Console) -> None:
    """Show the key and how to compare it, and ask the user; `--yes` does not answer this question.

    Raises UsageError without a terminal, InterruptedRunError where the user does not confirm.
    """
    if not console.is_there:
        raise UsageError(
            f"{question.route.name} shows an untrusted host key: {key}",
            hint=f"{question.compare}\nif it is the same: {question.with_key(key)}",
            code="host_key",
        )
    console.say(f"{lead}\n  {key}\nTo compare, on the board itself:\n  ssh-keygen -lf {key.file}")
    if not console.agrees("Is it the same?"):
        raise InterruptedRunError("the host key was not confirmed; nothing was changed")


def is_key(written: str, key: HostKey) -> bool:
    """Return whether this text, `SHA256:…` or `TYPE BASE64`, denotes the key."""
    return written in {key.fingerprint, key.line}
