"""Errors of asyncio's connections in the system's words."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

_NUMBER = re.compile(r"\[Errno (\d+)\]")


def system_error(error: BaseException) -> BaseException:
    """Return a failed connection as the system reports it: `No route to host`, with the class of that error.

    asyncio has `Connect call failed ('192.0.2.1', 22)` in its place, and joins the errors of several addresses in one
    without a number (`base_events.py`, `create_connection`). Of several, a refused one tells most: a host is there.
    """
    if not isinstance(error, OSError) or isinstance(error, (socket.gaierror, ssl.SSLError, TimeoutError)):
        return error
    numbers = [error.errno] if error.errno else list(map(int, _NUMBER.findall(str(error))))
    if not numbers:
        return error
    number = errno.ECONNREFUSED if errno.ECONNREFUSED in numbers else numbers[-1]
    return OSError(number, os.strerror(number))
