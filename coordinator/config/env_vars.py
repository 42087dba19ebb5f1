"""Settings from environment variables of the coordinator, which are not part of an inventory."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.config import parsers
from coordinator.errors import UsageError

LOG_BUDGET = "ARCHLOOM_LOG_BUDGET"
_DEFAULT_LOG_BUDGET = 2**30


def log_budget(environ: Mapping[str, str]) -> int:
    """Return the maximum size of the logs and records of all runs, in bytes. Raises UsageError for an invalid size."""
    written = environ.get(LOG_BUDGET, "").strip()
    if not written:
        return _DEFAULT_LOG_BUDGET
    try:
        return parsers.size(written)
    except ValueError as error:
        raise UsageError(f"{LOG_BUDGET}: {error}", hint=f"export {LOG_BUDGET}=2GB", code="config") from error
