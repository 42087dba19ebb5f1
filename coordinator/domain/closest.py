"""The known word that a mistyped one stands for."""

from __future__ import annotations

from collections.abc import Iterable

_CANDIDATES = 5


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word from which a user may have mistyped `word`, in any case; empty where none is likely.

    At most every third character is wrong, missing, too many or swapped with the next: difflib alone finds long words
    alike that have an ending in common, such as `environment.txt` and `requirements.txt`.
    """
    from difflib import get_close_matches

    wanted = word.casefold()
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    if wanted in by_folded:
        return by_folded[wanted]
    near = get_close_matches(wanted, by_folded, n=_CANDIDATES)
    distances = [(_distance(wanted, name), name) for name in near]
    distance, name = min(distances, key=lambda found: found[0], default=(0, ""))
    longer = max(len(wanted), len(name))
    return by_folded[name] if name and distance <= max(1, longer // 3) and distance < longer else ""


def _distance(word: str, other: str) -> int:
    """Return the number of characters to insert, delete, replace or swap with the next (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, char in enumerate(word, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (char != wanted))
            if i > 1 and j > 1 and char == other[j - 2] and word[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
