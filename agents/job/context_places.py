"""Names below the state folder that both the transfer of contexts and the use of engines know."""

from __future__ import annotations

# The folder of context folders, and its lock.
ROOT, LOCK = "contexts", "lock"
# The ids of the engine's records of a context folder, beside it; and of those whose folder is gone, below `ROOT`.
RECORDS, DROPPED = "records.json", "dropped-records"
