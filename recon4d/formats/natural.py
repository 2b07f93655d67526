"""The order in which people number files: frame2 comes before frame10."""

from __future__ import annotations

import re


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key in which frame2 comes before frame10, whatever the case; names that differ only in case or in zeros
    before a number still have one order."""
    parts = re.split(r"([0-9]+)", text)
    key = [(0, int(part)) if at % 2 else (1, part.lower()) for at, part in enumerate(parts) if part]
    return [*key, (-1, text)]  # the lowest first number keeps "frame" before "frame1"
