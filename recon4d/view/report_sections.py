"""The sections of a report page that show what each stage found, each with a sentence on what to look for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from recon4d.view.report_charts import height_over_time, way_from_above
from recon4d.view.report_parts import (
    Html,
    breakable,
    counted,
    joined,
    listed,
    megabytes,
    percent,
    table,
    tag,
    with_flags,
)
from recon4d.view.report_pictures import Gallery, Shot

Facts = Mapping[str, object]


@dataclass(frozen=True)
class Page:
    """What the sections are made of."""

    facts: Facts  # contents of `report.json`
    gallery: Gallery | None  # None where the page shows no pictures
    said: Mapping[str, str]  # unit -> its key numbers in words
    embed: Callable[[np.ndarray], str]  # a picture as the text of a link

    @property
    def numbers(self) -> Facts:
        return self.facts["numbers"]

    def done(self, stage: str) -> bool:
        return any(item["stage"] == stage and item["key"] is not None for item in self.facts["stages"])

    # -- pieces ------------------------------------------------------------------------------------------------------

    def figure(self, shot: Shot, class_: str | None = None, caption: str | None = None) -> Html:
        text = shot.caption if caption is None else caption
        images = [self._image(picture, text) for picture in shot.pictures]
        words = [class_] + (["pair"] if len(images) > 1 else [])
        return tag(
            "figure",
            *images,
            tag("figcaption", text) if text else None,
            class_=" ".join(word for word in words if word) or None,
        )

    def _image(self, picture: np.ndarray, text: str) -> Html:
        height, width = picture.shape[:2]
        return tag("img", src=self.embed(picture), width=width, height=height, alt=text)

    def wide(self, file: str, caption: str, class_: str = "wide") -> Html | None:
        """A page that a stage wrote itself."""
        shot = self.gallery.pages.get(file)
        return None if shot is None else self.figure(shot, class_, f"{caption} ({file})")

    def section(self, key: str, title: str, look: str, *body: object) -> Html:
        units = [item["unit"] for item in self.facts["stages"] if item["stage"] == key and item["unit"] in self.said]
        lines = [tag("p", self.said[unit], class_="key") for unit in units]
        failed = [
            tag("div", tag("p", "A picture is missing here: ", with_flags(text)), class_="note")
            for text in self.gallery.troubles.get(key, ())
        ]
        look_at = tag("p", look, class_="look")
        return tag("section", tag("h2", title), *lines, look_at, *failed, *body, id=key)


def sections(page: Page) -> list[tuple[str, str, Html]]:
    """Key, title and markup of the sections whose stage is done, in the order of the line."""
    makers = {
        "frames": ("The clip", _frames),
        "poses": ("The camera", _poses),
        "depth": ("Depth as its source gives it", _depth),
        "align": ("Alignment and size", _align),
        "motion": ("What moves", _motion),
        "refine": ("Depth before and after", _refine),
        "fuse": ("The scene", _fuse),
        "export": ("Files for other programs", _export),
    }
    shown = {key: page.done(key) for key in makers}
    shown["refine"] = bool(page.gallery.comparisons) or page.done("refine") or page.done("align")
    shown["frames"] = page.done("frames") or page.done("poses")
    shown["motion"] = page.done("motion") or page.done("first_pass")
    return [(key, title, make(page, title)) for key, (title, make) in makers.items() if shown[key]]


def _frames(page: Page, title: str) -> Html:
    gallery = page.gallery
    look = "Look for frames that are blurred or dark, and for depth that changes although the room does not."
    cells = tag("div", *(page.figure(shot) for shot in gallery.frames), class_="grid small")
    bar = page.figure(gallery.depth_bar, "barpic") if gallery.depth_bar else None
    return page.section("frames", title, look, cells, bar)


def _poses(page: Page, title: str) -> Html:
    gallery, way = page.gallery, page.gallery.way
    look = (
        "The way should be the one you walked, without jumps; the points should show the room, and flat walls "
        "should look flat."
    )
    charts = []
    if way is not None:
        unsure = "" if way.evidence.all() else "; hollow dots: filled in between frames that have a pose"
        up = "" if way.levelled else " (up is not known, the cameras' mean stands in)"
        unit = "metres" if way.unit == "m" else "scene units"
        charts = [
            _chart(way_from_above(way), f"the way from above, {unit}; short lines show where the camera looks{unsure}"),
            _chart(height_over_time(way), f"height over time, {unit}{up}"),
        ]
    sparse = page.figure(gallery.sparse) if gallery.sparse else None
    return page.section("poses", title, look, tag("div", *charts, class_="grid two") if charts else None, sparse)


def _chart(drawing: Html, caption: str) -> Html:
    return tag("figure", drawing, tag("figcaption", caption), class_="chart")


def _depth(page: Page, title: str) -> Html:
    look = "Edges should follow the things in the picture, and near things should be brighter than what is behind them."
    figures = [page.figure(shot, "wide mid", unit) for unit, shot in page.gallery.sources.items()]
    none = None if figures else tag("p", "No preview was written: run recon4d depth with --preview.", class_="key")
    return page.section("depth", title, look, *figures, none)


def _align(page: Page, title: str) -> Html:
    look = (
        "Coloured lines should run through the points, errors should stay low over the whole clip, and few parts of "
        "the picture should be strongly blue (too near) or red (too far)."
    )
    return page.section("align", title, look, _size(page), page.wide("align/fit.png", "how depth fits the structure"))


def _size(page: Page) -> Html:
    """The size in metres with its interval, or how to get one."""
    numbers = page.numbers
    if numbers["metres_per_unit"] is None:
        how = page.facts["scale_how"]
        text = f"The size in metres is not known{f' ({how})' if how else ''}."
        return tag("div", tag("p", with_flags(text)), class_="note", id="size")
    text = f"One unit of the scene is {numbers['metres_per_unit']:.4g} m"
    if numbers["interval_95"]:
        low, high = numbers["interval_95"]
        relative = percent(numbers["scale_interval_relative"])
        text += f", with 95 % chance between {low:.4g} and {high:.4g} m (± {relative})"
    source = f"; known from {numbers['scale_source']}" if numbers["scale_source"] else ""
    return tag("p", f"{text}{source}.", id="size")


def _motion(page: Page, title: str) -> Html:
    look = "Coloured shapes should cover what moves and nothing that stands still."
    first = []
    if page.gallery.first_pass:
        cells = [page.figure(shot) for shot in page.gallery.first_pass]
        said = page.said.get("first_pass", "")
        first = [
            tag("h3", "The first of two passes: what poses leave out"),
            tag("p", said, class_="key") if said else None,
            tag("div", *cells, class_="grid"),
        ]
    return page.section(
        "motion", title, look, *first, page.wide("motion/motion.png", "what moves, and when", "wide mid")
    )


def _refine(page: Page, title: str) -> Html:
    look = (
        "Refined depth should have sharper edges and smoother walls than the aligned one; where the last picture is "
        "white, nothing had to change."
    )
    if not page.done("refine"):
        look = "The aligned depth should keep the shape that the source saw; it is not refined yet."
    body = []
    for comparison in page.gallery.comparisons:
        cells = [page.figure(shot) for shot in comparison.shots]
        body += [tag("h3", f"frame {comparison.name}"), tag("div", *cells, class_="grid small")]
    return page.section("refine", title, look, *body, page.wide("refine/refine.png", "refinement in numbers"))


def _fuse(page: Page, title: str) -> Html:
    look = (
        "Walls should be single and straight, nothing should hang in the air, and what moves should not have left a "
        "smear in the background."
    )
    clouds = page.gallery.clouds
    first = page.figure(clouds[0]) if clouds else None
    rest = tag("div", *(page.figure(shot) for shot in clouds[1:]), class_="grid two") if clouds[1:] else None
    pages = [
        page.wide("fuse/fuse.png", "the background beside the frames it explains", "wide mid"),
        page.wide("fuse/turntable.png", "the background from all sides"),
    ]
    shown = [item for item in pages if item is not None]
    return page.section("fuse", title, look, first, rest, *shown)


def _export(page: Page, title: str) -> Html:
    look = "The links open what lies beside this page in the scene's folder."
    rows = []
    for item in page.facts["exports"]:
        files = joined(
            part
            for i, file in enumerate(item["open"])
            for part in (tag("br") if i else None, link(file, file.partition("/")[2]))
        )
        folder = link(f"{item['folder']}/", item["format"])
        rows.append((folder, files, counted(item["files"], "file"), megabytes(item["size_mb"])))
    missing = None if rows else listed(["no files are there"])
    return page.section("export", title, look, table(("format", "begin with", "files", "size"), rows, "files"), missing)


def link(path: str, text: str) -> Html:
    """A link to a file beside the page."""
    return tag("a", breakable(text), href=quote(path))
