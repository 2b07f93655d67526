"""The parts a report page is put together from: markup that escapes by itself, and pictures within it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence

import numpy as np

FLAG = r"(--[a-z](?:[\w.-]*\w)?)"
VOID = ("img", "meta", "br", "line", "rect", "circle", "polyline", "path")  # written without an end


class Html(str):
    """Text that is markup already; all other text is escaped where it enters a page."""


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element; ``class_`` stands for class, ``stroke_width`` for stroke-width, and None is left out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{told}/>")
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Html:
    """Children one after another, escaped unless they are markup; None is nothing."""
    return Html(
        "".join(c if isinstance(c, Html) else html.escape(str(c), quote=True) for c in children if c is not None)
    )


def data_uri(picture: np.ndarray, quality: int, shrink: float = 1.0) -> str:
    """(H, W, 3) uint8 RGB as a WebP within the page, made smaller by a factor first."""
    import cv2

    height, width = (max(1, round(side * shrink)) for side in picture.shape[:2])
    if shrink < 1:
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {picture.shape} cannot be encoded")
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], class_: str | None = None) -> Html:
    """Rows below a head, in a box that scrolls by itself where the screen is narrow."""
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    shown = tag("table", tag("thead", tag("tr", *(tag("th", text) for text in head))), tag("tbody", *body))
    return tag("div", shown, class_=f"scroll {class_ or ''}".strip())


def fold(title: str, *body: object) -> Html:
    """What is there for those who want to know."""
    return tag("details", tag("summary", title), *body)


def listed(items: Iterable[object]) -> Html:
    return tag("ul", *(tag("li", item) for item in items))


def breakable(text: str) -> Html:
    """A path or name that may go on in a new line after each of its parts, and nowhere else."""
    return Html("/<wbr/>".join(html.escape(part, quote=True) for part in text.split("/")))


def with_flags(text: str) -> Html:
    """Plain text in which options as they are typed, and nothing else, look like code."""
    return joined(tag("code", part) if part.startswith("--") else part for part in re.split(FLAG, text))


# -- words -----------------------------------------------------------------------------------------------------------


def percent(share: float | None, digits: int = 1) -> str:
    """``97.0 %``; small shares keep two digits that say something."""
    if share is None:
        return "–"
    return f"{100 * share:.2g} %" if 0 < abs(share) < 0.001 else f"{100 * share:.{digits}f} %"


def counted(count: float, noun: str) -> str:
    """``1 object``, ``12,345 points``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """``8.4 s``, ``2 min 06 s``, ``1 h 05 min``."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size_mb: float | None) -> str:
    """``0.4 MB``, ``934 MB``, ``1.2 GB``."""
    if size_mb is None:
        return "–"
    if size_mb >= 1000:
        return f"{size_mb / 1000:.1f} GB"
    return f"{size_mb:.0f} MB" if size_mb >= 10 else f"{size_mb:.2g} MB"
