"""What asyncio says of a failed connection becomes what the system says."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from coordinator.connect_errors import system_error
from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.hosts.ssh.refusals import of_connection
from coordinator.hosts.ssh.route import Route
from coordinator.registry.faults import connection_reason

REFUSED = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 5000)")
NO_ROUTE = OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 22)")
BOTH = OSError(f"Multiple exceptions: {REFUSED}, [Errno 101] Connect call failed ('::1', 5000, 0, 0)")
NONE = OSError(f"Multiple exceptions: [Errno 101] Connect call failed ('::1', 22, 0, 0), {NO_ROUTE}")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (REFUSED, ConnectionRefusedError, "connection refused"),
        (NO_ROUTE, OSError, "no route to host"),
        (BOTH, ConnectionRefusedError, "connection refused"),
        (NONE, OSError, "no route to host"),
        (TimeoutError(), TimeoutError, "no answer within 10 s"),
        (socket.gaierror(-2, "Name or service not known"), socket.gaierror, "the name does not resolve"),
        (ssl.SSLError(1, "[SSL] x"), ssl.SSLError, "the server does not speak TLS"),
        (ExceptionGroup("all failed", [NO_ROUTE]), ExceptionGroup, "no route to host"),
        (OSError("odd"), OSError, "odd"),
    ],
)
def test_a_reason_has_plain_words(error, kind, reason):
    """Whichever way the error came; the class stays what the caller looks for."""
    assert type(system_error(error)) is kind
    assert connection_reason(error) == reason


@pytest.mark.parametrize(
    ("error", "said"), [(NONE, "cannot be reached: No route to host"), (BOTH, "nothing listens on")]
)
def test_a_host_that_is_off_is_told_in_plain_words(error, said):
    route = Route(name="pi4", host="192.0.2.1", port=22, user="pi", identities=(), known_hosts=())

    host = Host(name="pi4", kind=Kind.BOARD, address=Address("192.0.2.1"))
    told = of_connection(host, route, error)

    assert said in told.message
    assert "Connect call" not in told.message
