"""An independent look at a report page: is it well formed, and does it need anything beside it?"""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "wbr"}
SVG = {"svg", "line", "polyline", "circle", "text"}


class PageReader(HTMLParser):
    """Collects what a page holds; a tag that is never closed, or closed out of turn, fails."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.text = ""
        self.style = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        self.attributes |= set(found)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID | SVG, f"<{tag}/> does not end itself"
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


def read_page(text: str) -> PageReader:
    """The page, checked: well formed, its links lead somewhere, and nothing of it lies elsewhere."""
    page = PageReader()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    for link in page.links:
        assert not link.startswith(("http", "//", "file:", "/"))
        assert not link.startswith("#") or link[1:] in page.ids, link
    assert not {"script", "link", "iframe", "object", "base", "form"} & page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    assert "url(" not in page.style
    assert "@import" not in page.style
    return page
