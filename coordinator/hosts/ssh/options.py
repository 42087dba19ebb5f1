"""asyncssh's options for a route. asyncssh reads no configuration file itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import asyncssh
from asyncssh.config import SSHClientConfig

from coordinator.hosts.ssh.keys import login_options
from coordinator.hosts.ssh.route import Route

_TEXTS = (
    "BindAddress", "CASignatureAlgorithms", "Ciphers", "HostKeyAlgorithms", "KexAlgorithms", "MACs", "PKCS11Provider",
    "PreferredAuthentications",
)  # fmt: skip
_SWITCHES = (
    "Compression", "EnableSSHKeySign", "GSSAPIAuthentication", "GSSAPIDelegateCredentials", "GSSAPIKeyExchange",
    "HostbasedAuthentication", "PubkeyAuthentication", "TCPKeepAlive",
)  # fmt: skip
_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


class _Configuration(SSHClientConfig):
    """Values of the SSH configuration that asyncssh bases its options on, instead of those of a file it has read.

    As values of a configuration, unlike as arguments, algorithms that asyncssh does not have are passed over.
    """

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def get_options(self, reload: bool) -> dict[str, object]:  # noqa: ARG002, FBT001 - asyncssh's signature
        return dict(self._values)


async def connection_options(
    route: Route, algorithms: Sequence[str] | None, cipher: str
) -> asyncssh.SSHClientConnectionOptions:
    """Return the options for a connection on this route.

    `algorithms` are the host key algorithms to ask for, None for the default ones. `cipher` is preferred to the default
    ciphers, unless the SSH configuration sets Ciphers. Raises ValueError for a value that asyncssh cannot use.
    """
    base = asyncssh.SSHClientConnectionOptions(config=None, client_keys=None, host=route.host)
    base.config = _Configuration(_values(route))
    chosen: dict[str, Any] = {"server_host_key_algs": algorithms} if algorithms else {}
    if cipher and "ciphers" not in route.settings:
        chosen["encryption_algs"] = f"^{cipher}"
    options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
        base,
        host=route.host,
        port=route.port,
        username=route.user,
        host_key_alias=route.alias or None,
        # sshd sends its Banner file as it is, in any encoding.
        utf8_decode_errors="replace",
        **login_options(route),
        **chosen,
    )
    return options


def _values(route: Route) -> dict[str, object]:
    """Return asyncssh's values by its keywords. Raises ValueError."""
    settings = {key: value for key, value in route.settings.items() if value and value[0].lower() != "none"}
    values: dict[str, object] = {key: settings[key.lower()][0] for key in _TEXTS if key.lower() in settings}
    values["IdentitiesOnly"] = route.only
    for key in _SWITCHES:
        # PubkeyAuthentication has values besides yes and no, which limit signatures that asyncssh does not make.
        if setting := settings.get(key.lower()):
            values[key] = setting[0].lower() not in ("no", "false")
    if family := settings.get("addressfamily"):
        if family[0].lower() not in _FAMILIES:
            raise ValueError(f"AddressFamily {family[0]} is none of {', '.join(_FAMILIES)}")
        values["AddressFamily"] = _FAMILIES[family[0].lower()]
    if "setenv" in settings:
        values["SetEnv"] = list(settings["setenv"])
    if limits := settings.get("rekeylimit"):
        size, period = limits[0].lower(), (limits[1].lower() if limits[1:] else "default")
        values["RekeyLimit"] = ({"default": ()}.get(size, size), {"default": (), "none": None}.get(period, period))
    return values
