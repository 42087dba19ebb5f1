"""Suggestions for unknown words in a document."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.domain.closest import closest

# Keys not supported yet, and what to do until then.
_PLANNED = {
    "speed": "leave it out, hosts that run a platform natively come first anyway",
    "labels": "leave it out, or write it in note:",
    "only": "leave it out, and pick hosts for a run with --on",
    "hours": "leave it out, and write state: drain while the host must not be used",
    "wake": "leave it out, and switch the host on before a run",
    "sleep_after": "leave it out",
    "qemu_image": "leave it out, and register QEMU on the host: apt install qemu-user-static",
    "policy": "leave it out, and give --emulate auto, never or only for a run",
}
# Names of the same settings in Ansible, Nix, Konflux, Hydra and buildx.
_SYNONYMS = {
    "address": "host", "hostname": "host", "ip": "host", "target": "host", "url": "host", "ansible_host": "host",
    "username": "user", "ssh_user": "user", "ansible_user": "user", "ssh_port": "port", "ansible_port": "port",
    "platform": "platforms", "arch": "platforms", "architecture": "platforms", "architectures": "platforms",
    "slots": "jobs", "max_jobs": "jobs", "maxjobs": "jobs", "concurrency": "jobs", "parallel": "jobs",
    "fingerprint": "host_key", "hostkey": "host_key", "timeout": "connect_timeout", "comment": "note",
    "description": "note", "builder": "engine", "driver": "engine",
    "hosts": "boards", "nodes": "boards", "builders": "boards", "machines": "boards", "servers": "boards",
    "insecure": "http", "plain_http": "http", "tls": "http", "ca_cert": "ca", "cafile": "ca", "certificate": "ca",
}  # fmt: skip
_SECRETS = ("password", "pass", "ssh_pass", "ansible_password", "ansible_ssh_pass", "token", "secret")
_KEYS = ("key", "identity", "identity_file", "identityfile", "ssh_key", "private_key", "ansible_ssh_private_key_file")
_PROBED = ("cores", "cpus", "memory", "ram", "disk", "os", "docker", "binfmt")
_ANSIBLE_GROUPS = ("all", "ungrouped", "children")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the message for a key that is not allowed in its map; `known` are the allowed keys."""
    word, known = key.lower().replace("-", "_"), list(known)
    if word in _PLANNED:
        return f"not supported yet — {_PLANNED[word]}"
    if word == "registry" and "registries" in known:
        return 'unknown key — did you mean registries? It is a map: registries: {"nas.lan:5000": {http: true}}'
    if word == "emulate":
        return "boards never emulate — move this host to emulators:, or remove the key"
    if word in _ANSIBLE_GROUPS and "boards" in known:
        return "unknown key — is this an Ansible inventory? Hosts are listed under boards: and emulators:"
    if word in _SECRETS:
        return "secrets are not kept in this file — use an SSH key, and docker login for registries"
    if word in _KEYS and "host" in known:
        return "unknown key — SSH keys are chosen by IdentityFile in ~/.ssh/config"
    if word in _PROBED and "host" in known:
        return "unknown key — leave it out, the probe finds it"
    return f"unknown key{did_you_mean(key, known, _SYNONYMS)}"


def did_you_mean(word: str, known: Iterable[str], elsewhere: dict[str, str] | None = None) -> str:
    """Return ` — did you mean …?`, or the list of known words, to append to a message. `elsewhere` maps synonyms."""
    known = list(known)
    suggestion = (elsewhere or {}).get(word.lower().replace("-", "_"))
    if suggestion not in known:
        suggestion = closest(word, known)
    return f" — did you mean {suggestion}?" if suggestion else f" — expected one of {', '.join(known)}"
