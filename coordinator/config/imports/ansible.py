"""Hosts of an Ansible inventory: INI, YAML, or the JSON that `ansible-inventory --list` prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.config import addresses
from coordinator.config.imports import ansible_ini, ansible_tree, files
from coordinator.config.imports.ansible_groups import Groups, Variables
from coordinator.config.imports.files import word
from coordinator.config.imports.found import Found, Machine, SshLine, several, ssh_config_notes
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.visible import file_word
from coordinator.errors import UsageError

_LIST = "ansible-inventory -i {} --list | archloom boards import ansible -"
_NO_HINT = "name an inventory: INI, YAML, or what `ansible-inventory --list` prints; - reads it from standard input"
_SSH = ("", "ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")
_LOCAL = ("local", "ansible.builtin.local")
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
# Of two spellings the older one wins, as in Ansible's ssh connection plugin: `ansible -vvvv` shows it.
_HOST = ("ansible_ssh_host", "ansible_host")
_USER = ("ansible_ssh_user", "ansible_user")
_PORT = ("ansible_ssh_port", "ansible_port")
_KEYS = ("ansible_ssh_private_key_file", "ansible_private_key_file")
_PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
_FORWARDED = {"proxyjump": "ProxyJump", "proxycommand": "ProxyCommand", "identityfile": "IdentityFile"}
_UNCHECKED = ("stricthostkeychecking", "userknownhostsfile")
_MAP_KEY = re.compile(r"[\w.-]+:\s*(#.*)?\Z")


@dataclass(slots=True)
class _Taken:
    """What is imported besides machines. `names` maps each note to its hosts: a note about a group appears once."""

    lines: list[SshLine] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)

    def note(self, name: str, text: str) -> None:
        self.names.setdefault(text, []).append(name)

    def notes(self) -> list[str]:
        notices = [f"{several(names)}: {text}" for text, names in self.names.items()]
        return [*notices, *ssh_config_notes(self.lines)]


def read(path: Path, home: Path) -> Found:
    """Return the hosts of this inventory. Raises UsageError for a folder, a script, or an unknown format."""
    label = files.shown(path, home)
    if path.is_dir():
        raise UsageError(
            f"{label} is a folder", hint=f"let Ansible read it: {_LIST.format(file_word(label))}", code="import"
        )
    parsed = parse(files.text(path, label, _NO_HINT), label)
    beside = [name for name in ("group_vars", "host_vars") if (path.parent / name).is_dir()]
    if not beside:
        return parsed
    note = f"{' and '.join(beside)} beside {label} are not read; to import them: {_LIST.format(file_word(label))}"
    return Found(parsed.source, parsed.machines, (note, *parsed.notes))


def parse(text: str, label: str) -> Found:
    """Return the hosts in this text: INI, YAML or JSON."""
    taken = _Taken()
    machines = [
        machine for name, variables in _groups(text, label).resolved() for machine in _machine(name, variables, taken)
    ]
    return Found(label, tuple(machines), tuple(taken.notes()))


def _groups(text: str, label: str) -> Groups:
    if text.startswith("#!"):
        raise UsageError(
            f"{label} is a script, not a list of hosts", hint=f"run it: {_LIST.format(file_word(label))}", code="import"
        )
    if text.startswith("$ANSIBLE_VAULT;"):
        hint = f"ansible-vault view {file_word(label)} | archloom boards import ansible -"
        raise UsageError(f"{label} is encrypted by ansible-vault", hint=hint, code="import")
    if not _is_tree(text, label):
        return ansible_ini.read(text, label, _NO_HINT)
    document = _tree(text, label)
    if "plugin" in document:
        hint = f"let Ansible run the plugin: {_LIST.format(file_word(label))}"
        raise UsageError(
            f"{label} configures the plugin {word(document['plugin'])}, it lists no hosts", hint=hint, code="import"
        )
    try:
        return ansible_tree.read(document)
    except ValueError as error:
        raise UsageError(f"{label}: {error}", hint="write it as pi[01:04]", code="import") from error


def _is_tree(text: str, label: str) -> bool:
    """Return whether this is YAML or JSON, by the file name extension as in Ansible, else by the first line."""
    ending = Path(label).suffix.lower()
    if ending in {".yaml", ".yml", ".json"}:
        return True
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "")
    return ending != ".ini" and (first.startswith(("{", "---")) or _MAP_KEY.match(first) is not None)


def _tree(text: str, label: str) -> dict[str, object]:
    if text.lstrip().startswith("{"):
        document = files.json_document(text, label, _NO_HINT)
    else:
        from coordinator.config import yaml_source

        try:
            # `problems` is ignored: it is about tags such as !vault, and `_is_vault` checks the values for these.
            root = yaml_source.parse(text, label).root
        except UsageError as error:
            raise UsageError(error.message, hint=_NO_HINT, code="import") from error
        document = root.data if root else None
    if not isinstance(document, dict):
        raise UsageError(f"{label}: expected groups, such as all: {{hosts: …}}", hint=_NO_HINT, code="import")
    return files.members(document)


def _machine(name: str, variables: Variables, taken: _Taken) -> Iterator[Machine]:
    connection = _value(name, variables, ("ansible_connection",), taken)
    if connection in _LOCAL:
        yield Machine(name=name, address=Address())
        return
    if connection not in _SSH:
        taken.note(name, f"left out, Ansible reaches it by {connection}, archloom only by SSH")
        return
    host = _value(name, variables, _HOST, taken)
    if not host and any(key in variables for key in _HOST):
        taken.note(name, "left out, it has no address: its ansible_host cannot be read")
        return
    user = _value(name, variables, _USER, taken)
    port = _value(name, variables, _PORT, taken)
    try:
        address = _address(host or name, user, port)
    except ValueError as error:
        taken.note(name, f"left out, {error}")
        return
    key = _value(name, variables, _KEYS, taken)
    if key:
        taken.lines.append(SshLine(name, address.host, f"IdentityFile {_quoted(key)}"))
    _arguments(name, address.host, variables, taken)
    if any(password in variables for password in _PASSWORDS):
        taken.note(name, "its password is not imported; archloom boards add installs your key with it")
    yield Machine(name=name, address=address)


def _address(host: str, user: str, port: str) -> Address:
    bracketed = f"[{host}]" if ":" in host else host
    login = f"{addresses.user(user)}@" if user else ""
    return addresses.target(f"ssh://{login}{bracketed}{f':{port}' if port else ''}")


def _value(name: str, variables: Variables, keys: tuple[str, ...], taken: _Taken) -> str:
    """Return the first of these variables with a literal value; add a note for a template or an encrypted value."""
    for key in keys:
        value = variables.get(key)
        if _is_vault(value):
            taken.note(name, f"{key} is encrypted by ansible-vault, not imported")
        elif "{{" in word(value):
            taken.note(name, f"{key} is a template, not imported: {word(value)}")
        elif word(value):
            return word(value)
    return ""


def _is_vault(value: object) -> bool:
    return word(value).startswith("$ANSIBLE_VAULT") or "__ansible_vault" in files.members(value)


def _arguments(name: str, host: str, variables: Variables, taken: _Taken) -> None:
    for key in _ARGUMENTS:
        written = _value(name, variables, (key,), taken)
        try:
            words = shlex.split(written)
        except ValueError:
            taken.note(name, f"{key} is not imported, it has an unclosed quote: {written}")
            continue
        rest = iter(words)
        for option, value in _options(rest):
            if option.lower() in _FORWARDED:
                taken.lines.append(SshLine(name, host, f"{_FORWARDED[option.lower()]} {value}"))
            elif option.lower() in _UNCHECKED:
                taken.note(name, f"{option} is not imported, host keys are always checked")
            else:
                taken.note(name, f"{key} has {option}{f' {value}' if value else ''}, which is not imported")


def _options(words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield `-o Key=Value`, `-J host` and `-i file` as (Key, Value), any other word as (word, "")."""
    for text in words:
        if text.startswith("-o"):
            setting = (text[2:] or next(words, "")).strip()
            key, _, value = re.sub(r"\s*=\s*|\s+", "=", setting, count=1).partition("=")
            yield key, value
        elif text.startswith("-J"):
            yield "ProxyJump", text[2:] or next(words, "")
        elif text.startswith("-i"):
            yield "IdentityFile", _quoted(text[2:] or next(words, ""))
        else:
            yield text, ""


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
