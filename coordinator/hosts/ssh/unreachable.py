"""The sentences for a host that cannot be reached, on whichever way: the same for enrolment as for a build."""

from __future__ import annotations

import socket

from coordinator.connect_errors import system_error
from coordinator.hosts.ssh.route import Route


def where(route: Route) -> str:
    return f"{route.host} port {route.port}"


def at_jump(route: Route) -> str:
    """Return the beginning of a message about a jump host; empty for the host itself."""
    return f"jump host {route.entry}: " if route.entry else ""


def no_answer(route: Route, error: BaseException, timeout: float) -> str:
    """Return why no connection to this server was made. `timeout` is how long its answer was waited for, in seconds."""
    match failure := system_error(error):
        case TimeoutError():
            return f"no SSH answer from {where(route)} in {timeout:g} s"
        case socket.gaierror():
            return f"the name {route.host} does not resolve"
        case ConnectionRefusedError():
            return f"nothing listens on {where(route)}"
        case _:
            return f"{where(route)} cannot be reached: {getattr(failure, 'strerror', None) or failure}"


def not_from_jump(route: Route, reason: str) -> str:
    """Return that the jump host of this route cannot reach its host."""
    jump = route.jump.entry if route.jump else ""
    return f"jump host {jump} cannot reach {where(route)}: {reason}"


def proxy_failed(route: Route, words: str) -> str:
    """Return that the ProxyCommand of this route failed; `words` are its own."""
    return f"the ProxyCommand for {route.name} failed: {words or 'it has not answered'}: {route.proxy}"


PROXY_HINT = "correct it in ~/.ssh/config; to see more: ssh -v "
JUMP_HINT = "is the host switched on? on the jump host, try: ping -c 1 "
