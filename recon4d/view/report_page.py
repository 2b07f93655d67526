"""A scene's report: one page of HTML that needs nothing beside it, for people who rather look than read."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from recon4d.view.report_parts import (
    Html,
    breakable,
    counted,
    data_uri,
    duration,
    fold,
    joined,
    listed,
    megabytes,
    percent,
    table,
    tag,
    with_flags,
)
from recon4d.view.report_pictures import Gallery
from recon4d.view.report_sections import Facts, Page, link, sections
from recon4d.view.report_style import STYLE

LARGEST = 6_000_000  # characters of a page
# Quality and size of pictures; the first with which the page is not too large counts.
FITTING = ((82, 1.0), (68, 1.0), (55, 0.75), (45, 0.5), (35, 0.3))


def report_page(facts: Facts, gallery: Gallery | None, said: Mapping[str, str], stopped: str | None = None) -> str:
    """The page as text, at most about 6 MB.

    Args:
        facts: contents of `report.json`.
        gallery: the pictures; None for a page without them, which says how to make them.
        said: unit -> its key numbers in words.
        stopped: why the last run came to no end; None where it did.
    """
    for quality, shrink in FITTING:
        text = _page(Page(facts, gallery, said, functools.partial(data_uri, quality=quality, shrink=shrink)), stopped)
        if len(text) <= LARGEST:
            break
    return text


def _page(page: Page, stopped: str | None) -> str:
    facts = page.facts
    shown = sections(page) if page.gallery is not None else []
    shown += [("work", "Time and memory", _work(page)), ("made", "How it was made", _made(page))]
    links = [tag("a", title, href=f"#{key}") for key, title, _ in shown]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{facts['scene']} – recon4d report"),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "body",
        tag("header", *_head(page, stopped), tag("nav", *links)),
        tag("main", *(markup for _, _, markup in shown)),
        tag(
            "footer", f"Written by {facts['program']}. The same numbers for scripts: report.json; gates: recon4d check."
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


# -- the head --------------------------------------------------------------------------------------------------------


def _head(page: Page, stopped: str | None) -> list[Html | None]:
    facts = page.facts
    state, word = ("bad", "stopped") if stopped else ("good", "complete") if facts["complete"] else ("open", "partial")
    source = facts["input"]
    told = [str(source["path"]).replace("\\", "/").rstrip("/").rpartition("/")[2] if source["path"] else None]
    told.append(str(source["kind"]) if source["kind"] else None)
    if source["width"] and source["height"]:
        told.append(f"{source['width']} × {source['height']} pixels")
    if isinstance(source["duration_s"], (int, float)):
        told.append(duration(source["duration_s"]))
    return [
        tag("h1", facts["scene"], " ", tag("span", word, class_=f"badge {state}")),
        tag("div", " · ".join(part for part in told if part), class_="sub"),
        tag("p", _answer(page), class_="lead"),
        _player(page),
        tag("div", *_tiles(page), class_="tiles"),
        _what_next(page, stopped),
        _no_pictures(page),
        _warnings(page),
    ]


def _player(page: Page) -> Html | None:
    """The way to the 3D player, where it was exported."""
    files = [file for item in page.facts["exports"] for file in item["open"] if file.endswith("html/index.html")]
    return tag("p", link(files[0], "Look around in the scene in 3D")) if files else None


def _answer(page: Page) -> str:
    """The result in one or two plain sentences."""
    n = page.numbers
    if n["registered"] is None:
        return f"{counted(n['frames'], 'frame')} chosen; no cameras yet." if n["frames"] else "Nothing is done yet."
    parts = [f"{n['registered']} of {counted(n['frames'] or 0, 'frame')} have a camera pose"]
    if n["static_points"] is not None:
        cover = f" and explains {percent(n['coverage'], 0)} of what stands still" if n["coverage"] is not None else ""
        parts.append(f"the background has {counted(n['static_points'], 'point')}{cover}")
    if n["objects"] is not None:
        parts.append(f"{counted(n['objects'], 'object')} move{'s' if n['objects'] == 1 else ''}")
    if n["objects"] == 0:
        parts[-1] = "nothing moves"
    size = "The size in metres is not known."
    if n["metres_per_unit"] is not None:
        within = f" to ± {percent(n['scale_interval_relative'])}" if n["scale_interval_relative"] is not None else ""
        size = f"The size in metres is known{within}."
    return f"{'; '.join(parts)}. {size if page.done('align') else ''}".strip()


def _tiles(page: Page) -> list[Html]:
    n = page.numbers
    tiles = []
    if n["registered"] is not None:
        share = n["registered_share"]
        sub = f"{percent(share, 0)} have a pose"
        if n["reprojection_error_px"] is not None:
            sub += f", {n['reprojection_error_px']:.2f} px reprojection error"
        tiles.append(
            _tile("cameras", f"{n['registered']} of {n['frames'] or '?'}", sub, share is not None and share < 0.8)
        )
    elif n["frames"] is not None:
        tiles.append(_tile("frames", f"{n['frames']:,}", "chosen from the recording"))
    if page.done("align"):
        tiles.append(_size_tile(n))
    if n["extent"]:
        unit = "m" if n["length_unit"] == "m" else "units"
        size = " × ".join(f"{side:.3g}" for side in n["extent"])
        walked = f", the camera went {n['path_length']:.3g} {unit}" if n["path_length"] is not None else ""
        tiles.append(_tile("the scene", f"{size} {unit}", f"wide, deep, high (98 % of the points){walked}"))
    if n["held_out_residual"] is not None:
        sub = "median error at points that took no part in the fit"
        tiles.append(_tile("depth", percent(n["held_out_residual"], 2), sub, n["held_out_residual"] > 0.1))
    if n["zncc_gain"] is not None:
        sub = f"energy {percent(n['energy_gain'], 0)} lower; likeness to other views, 1 is the same"
        tiles.append(_tile("refined", f"{n['zncc_before']:.3f} → {n['zncc_after']:.3f}", sub))
    if n["objects"] is not None:
        sub = "" if n["moving_share"] is None else f"{percent(n['moving_share'])} of the pixels"
        tiles.append(_tile("what moves", counted(n["objects"], "object") if n["objects"] else "nothing", sub))
    if n["static_points"] is not None:
        sub = "" if n["coverage"] is None else f"explains {percent(n['coverage'], 0)} of what stands still"
        tiles.append(_tile("background", counted(n["static_points"], "point"), sub))
    if n["seconds"] is not None:
        tiles.append(_tile("work", duration(n["seconds"]), f"all stages; {megabytes(n['peak_memory_mb'])} at the most"))
    count = len(page.facts["warnings"])
    return [*tiles, _tile("warnings", f"{count}" if count else "none", "of all stages", count > 0)]


def _tile(name: str, value: str, sub: str, warn: bool = False) -> Html:
    return tag("div", tag("span", name), tag("b", value), tag("span", sub), class_="tile warn" if warn else "tile")


def _size_tile(n: Facts) -> Html:
    if n["metres_per_unit"] is None:
        how = tag("a", "how to get it", href="#size")
        return tag("div", tag("span", "size in metres"), tag("b", "not known"), tag("span", how), class_="tile warn")
    sub = "interval not known"
    if n["interval_95"]:
        low, high = n["interval_95"]
        sub = f"95 %: {low:.4g} to {high:.4g} m (± {percent(n['scale_interval_relative'])})"
    return _tile("size", f"1 unit = {n['metres_per_unit']:.4g} m", sub)


def _what_next(page: Page, stopped: str | None) -> Html | None:
    """Why the last run stopped, what is missing or out of date, and the command that goes on."""
    facts = page.facts
    missing = [item["unit"] for item in facts["stages"] if item["state"] == "not done"]
    old = [
        f"{item['unit']} is out of date: {item['why']}" for item in facts["stages"] if item["state"] == "out of date"
    ]
    if not (missing or old or stopped):
        return None
    items = ([f"The last run stopped: {stopped}"] if stopped else []) + old
    items += [f"not done yet: {', '.join(missing)}"] if missing else []
    go_on = tag("p", "Next: ", tag("code", facts["next"]), class_="next") if facts["next"] else None
    return tag("div", tag("b", "What is missing"), listed(map(with_flags, items)), go_on, class_="note")


def _no_pictures(page: Page) -> Html | None:
    if page.gallery is not None:
        return None
    how = tag("p", "There was no time for pictures: the next run, or ", tag("code", "recon4d report"), ", makes them.")
    return tag("div", how, class_="note")


def _warnings(page: Page) -> Html | None:
    by_unit: dict[str, list[str]] = {}
    for warning in page.facts["warnings"]:
        by_unit.setdefault(warning["unit"], []).append(_unprefixed(warning["text"], warning["unit"]))
    if not by_unit:
        return None
    groups = [part for unit, texts in by_unit.items() for part in (tag("b", unit), listed(map(with_flags, texts)))]
    return tag("div", *groups, class_="note", id="warnings")


def _unprefixed(text: str, unit: str) -> str:
    """A warning without the name of its stage, which stands above it."""
    return text.removeprefix(f"{unit}: ").removeprefix(f"{unit.partition('/')[0]}: ")


# -- the end ---------------------------------------------------------------------------------------------------------


def _work(page: Page) -> Html:
    done = [item for item in page.facts["stages"] if item["seconds"] is not None]
    most_s = max([item["seconds"] for item in done], default=0) or 1
    most_mb = max([item["peak_memory_mb"] or 0 for item in done], default=0) or 1
    rows = []
    for item in done:
        memory = item["peak_memory_mb"] or 0
        rows.append(
            (
                breakable(item["unit"]),
                tag("span", class_="meter", style=f"width:{100 * item['seconds'] / most_s:.1f}%"),
                duration(item["seconds"]),
                tag("span", class_="meter mem", style=f"width:{100 * memory / most_mb:.1f}%"),
                megabytes(memory),
            )
        )
    total = duration(page.numbers["seconds"])
    shown = table(("stage", "time", total, "peak memory", megabytes(page.numbers["peak_memory_mb"])), rows, "bars")
    text = (
        "The longest bar is where a faster machine, or fewer frames, would help most."
        if rows
        else "Nothing is done yet."
    )
    return tag(
        "section", tag("h2", "Time and memory"), tag("p", text, class_="look"), shown if rows else None, id="work"
    )


def _made(page: Page) -> Html:
    facts = page.facts
    changed = [row for row in facts["options"] if row["changed"]]
    options = [tag("h3", "Options")]
    if changed:
        options.append(tag("p", "These differ from the defaults:", class_="key"))
        options.append(_option_table(changed))
    elif facts["options"]:
        options.append(tag("p", "All are the defaults.", class_="key"))
    if facts["options"]:
        options.append(fold(f"all {len(facts['options'])} options", _option_table(facts["options"])))
    look = "Whether you may use this result commercially depends on the models, where there are any."
    return tag(
        "section",
        tag("h2", "How it was made"),
        tag("p", look, class_="look"),
        *_input(facts),
        *_licences(facts),
        *options,
        tag("h3", "Stages"),
        fold("records, keys and versions", _records(facts)),
        id="made",
    )


def _option_table(rows: list[Facts]) -> Html:
    body = [
        tag(
            "tr",
            tag("td", tag("code", row["flag"])),
            tag("td", _value(row["value"])),
            tag("td", tag("span", "changed", class_="mark") if row["changed"] else ""),
            tag("td", _value(row["default"])),
            class_="changed" if row["changed"] else None,
        )
        for row in rows
    ]
    head = tag("thead", tag("tr", *(tag("th", text) for text in ("option", "value", "", "default"))))
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll")


def _value(value: object) -> Html:
    if value is None or value in ([], ""):
        return Html("–")
    if isinstance(value, bool):
        return Html("yes" if value else "no")
    return breakable(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _input(facts: Facts) -> list[Html]:
    names = {
        "path": "file or folder",
        "kind": "kind",
        "source_frames": "frames in it",
        "source_fps": "frames a second in it",
        "shots": "shots in it",
        "shot": "shot used",
        "stride": "every so many frames are used",
        "fps": "frames a second used",
    }
    rows = [(name, _value(facts["input"][key])) for key, name in names.items() if facts["input"][key] is not None]
    return [tag("h3", "Input"), table(("what", ""), rows, "facts")] if rows else []


def _licences(facts: Facts) -> list[Html]:
    allowed = {True: "allowed", False: "not allowed", None: "see its terms"}
    models = [
        (
            joined([breakable(m["model"]), tag("br"), tag("span", f"{m['role']} of {m['unit']}", class_="key")]),
            m["licence"] or "not known",
            allowed.get(m["commercial_use"], "see its terms"),
            breakable(m["terms"] or "–"),
        )
        for m in facts["models"]
    ]
    out = [tag("h3", "Models")]
    if models:
        out.append(table(("model", "licence", "commercial use", "terms"), models, "facts"))
    elif facts["programs"]:
        out.append(tag("p", "No network has run here: only the programs below made this.", class_="key"))
    else:
        out.append(tag("p", "Nothing is done yet.", class_="key"))
    programs = [(p["program"], p["version"] or "not installed now", p["licence"]) for p in facts["programs"]]
    title = f"{counted(len(programs), 'program')} of others did part of the work"
    return (
        [*out, fold(title, table(("program", "version installed", "licence"), programs, "facts"))] if programs else out
    )


def _records(facts: Facts) -> Html:
    rows = [
        (
            item["unit"],
            item["state"] + (f": {item['why']}" if item["why"] else ""),
            tag("code", (item["key"] or "–")[:16]),
            ", ".join(item["inputs"] or {}) or "–",
            f"{item['program'] or '–'}, version {item['version'] if item['version'] is not None else '–'} of the stage",
        )
        for item in facts["stages"]
    ]
    return table(("unit", "state", "key", "made from", "by"), rows)
