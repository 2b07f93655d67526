"""The report that a real run of the whole line leaves behind, read as a file and opened in a browser."""

import json
from urllib.parse import unquote

import pytest
from clients import chromium
from report_html import read_page

from recon4d import cli

SECTIONS = {"frames", "poses", "depth", "align", "motion", "refine", "fuse", "export", "work", "made"}


def test_a_run_leaves_a_page_with_everything(reconstructed):
    path = reconstructed.scene / "report.html"
    assert f"report: {path}" in reconstructed.output
    text = path.read_text(encoding="utf-8")
    assert len(text) < 6_000_000
    page = read_page(text)
    assert set(page.ids) >= SECTIONS
    assert "complete" in page.text
    assert "A picture is missing here" not in page.text
    assert "24 of 24 frames have a camera pose" in page.text
    files = [reconstructed.scene / unquote(link) for link in page.links if not link.startswith("#")]
    assert files
    assert all(file.exists() for file in files)
    # 12 frames with depth and the bar, sparse points, the source's sheet, 5 stage pages, 2 x 6 depths, 3 views.
    assert len(page.sources) == 2 * 12 + 1 + 1 + 1 + 5 + 2 * 6 + 3


def test_numbers_are_those_of_the_records(reconstructed):
    def record(unit: str) -> dict:
        return json.loads((reconstructed.scene / unit / "stage.json").read_text(encoding="utf-8"))

    text = (reconstructed.scene / "report.json").read_text(encoding="utf-8")
    report = json.loads(text, parse_constant=pytest.fail)
    numbers, units = report["numbers"], [item["unit"] for item in report["stages"]]
    assert units == ["frames", "poses", "depth/precomputed", "align", "motion", "mesh", "refine", "fuse", "export"]
    assert report["complete"]
    assert report["next"] is None
    assert numbers["seconds"] == pytest.approx(sum(record(unit)["seconds"] for unit in units), abs=0.01)
    assert numbers["peak_memory_mb"] == max(record(unit)["peak_memory_mb"] for unit in units)
    assert numbers["points"] == record("poses")["summary"]["points"]
    assert numbers["coverage"] == record("fuse")["summary"]["coverage"]
    assert numbers["export_mb"] == pytest.approx(sum(item["size_mb"] for item in report["exports"]), rel=0.05)
    assert "--depth.path" in [row["flag"] for row in report["options"] if row["changed"]]


def test_a_good_scene_passes_the_default_gates(reconstructed, capsys):
    assert cli.main(["check", str(reconstructed.scene)]) == 0
    assert "NO" not in capsys.readouterr().out
    assert cli.main(["check", str(reconstructed.scene), "--require-metric"]) == 3


@pytest.mark.clients
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(reconstructed, width, scheme):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((reconstructed.scene / "report.html").as_uri(), wait_until="load")
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == asked[:1]  # the page itself
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
        assert tab.evaluate(broken) == 0
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 24)"
        assert dark == (scheme == "dark")
        browser.close()
