"""A blob on its way: where it goes, which failures are tried again, and whether its size is right."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import TypeVar

from coordinator.domain.causes import Cause
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.faults import RetryableFailure

T = TypeVar("T")


def upload_location(headers: Mapping[str, str], doing: str) -> str:
    """Return the address of an upload. Raises RegistryError where the answer that opens it has none."""
    location = headers.get("location", "")
    if not location:
        raise RegistryError(
            f"cannot {doing}: the registry gives no Location for the upload", code=RegistryCode.NO_REGISTRY
        )
    return location


async def retryable(operation: Awaitable[T]) -> T:
    """Await a transfer. Raises RetryableFailure where its connection broke, so that it is tried again."""
    try:
        return await operation
    except RegistryError as error:
        if error.code == RegistryCode.BROKEN:
            raise RetryableFailure(error) from error
        raise


async def exactly(chunks: AsyncGenerator[bytes, None], size: int, digest: str) -> AsyncGenerator[bytes, None]:
    """Yield these chunks, `size` bytes in all.

    Raises RegistryError `mismatch` where the source has more or fewer bytes: that is no broken connection to retry.
    """
    sent = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            sent += len(chunk)
            if sent > size:
                break
            yield chunk
    if sent != size:
        count = f"more than {size}" if sent > size else str(sent)
        raise RegistryError(f"the blob {digest} has {count} bytes, expected {size}", code=Cause.MISMATCH)
