"""Text tables with aligned columns, for terminals and for `grep`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from coordinator.domain.visible import visible


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns two spaces apart with upper-case headings, without trailing spaces.

    Cells may hold text from hosts and registries: control characters are escaped.
    """
    cells = [[word.upper() for word in head], *([visible(word) for word in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def moment(at: float) -> str:
    """Return epoch seconds as date and time in the local time zone."""
    return datetime.fromtimestamp(at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Return bytes in the largest binary unit that fits: `1.2 GiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
