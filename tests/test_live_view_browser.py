"""The live viewer in a real browser: it draws, follows time, and asks nobody else for anything."""

import time
from io import BytesIO

import numpy as np
import pytest
from clients import chromium
from test_live_view import complete

from recon4d.stages.view import ViewOptions, start_view
from recon4d.view.live_layers import shown_at_first

pytestmark = pytest.mark.clients

FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
THIN = "path", "camera", "cameras", "flow", "moving"  # layers
PANEL = 340  # pixels at the right that are not the view


def picture(page) -> np.ndarray:
    """(H, W, 3) what the view shows, without the panel and the browser's warning about software rendering."""
    from PIL import Image

    shot = np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB")).astype(int)
    return shot[:, : shot.shape[1] - PANEL]


def drawn(shot: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that are clearly coloured; ground and grid are dark greys."""
    return (shot.max(axis=-1) > 130) | (np.ptp(shot, axis=-1) > 40)


def settled(page, least: float = 0.01, seconds: float = 30.0) -> np.ndarray:
    """The picture once two looks in a row are the same and a share of it is drawn."""
    end, before = time.monotonic() + seconds, None
    while time.monotonic() < end:
        now = picture(page)
        if before is not None and drawn(now).mean() > least and (np.abs(now - before) > 8).mean() < 1e-4:
            return now
        before = now
        time.sleep(0.7)
    raise AssertionError("the browser has drawn nothing, or never stands still")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    view = start_view(complete(tmp_path_factory.mktemp("live") / "scene"), ViewOptions(port=0))
    yield view
    view.stop()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, live):
    """A page of the viewer; fails afterwards when it complained or asked anybody else."""
    problems, asked = [], []
    opened = browser.new_page(viewport={"width": 1100, "height": 700})
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    address = f"http://127.0.0.1:{live.server.get_port()}"
    opened.goto(address)
    # Moves a warning that software draws here out of the picture.
    opened.get_by_text("Software WebGL").wait_for(timeout=30_000)
    opened.add_style_tag(content=".mantine-Notifications-root { display: none !important; }")
    yield opened
    opened.close()
    assert problems == []
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def show(live, *keys: str) -> None:
    for key, box in live.panel.boxes.items():
        box.value = key in keys
    live.wait_until_shown()


def test_time_changes_the_picture_and_comes_back(live, page):
    show(live, "refine")
    live.show_frame(0)
    live.wait_until_shown()
    first = settled(page)
    live.show_frame(3)
    live.wait_until_shown()
    last = settled(page)
    assert (np.abs(first - last).max(axis=-1) > 30).mean() > 0.01
    live.show_frame(0)
    live.wait_until_shown()
    again = settled(page)
    assert (np.abs(first - again).max(axis=-1) > 30).mean() < 0.001


def test_the_view_through_the_camera_is_the_picture(live, page):
    show(live, "refine", "camera")  # its picture must not lie over the view
    live.show_frame(1)
    page.get_by_role("button", name="Through camera").click()
    shot = settled(page)
    assert not live.nodes.handles("camera")[0].visible
    wanted = live.scene.picture("000003").astype(int)
    mask = drawn(shot) | (shot.max(axis=-1) > 60)
    rows, columns = np.nonzero(mask.mean(axis=1) > 0.3)[0], np.nonzero(mask.mean(axis=0) > 0.3)[0]
    seen = shot[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    y = ((np.arange(wanted.shape[0]) + 0.5) * seen.shape[0] / wanted.shape[0]).astype(int)
    x = ((np.arange(wanted.shape[1]) + 0.5) * seen.shape[1] / wanted.shape[1]).astype(int)
    error = np.abs(seen[y[:, None], x] - wanted).max(axis=-1)
    mirrored = np.abs(seen[y[:, None], x][:, ::-1] - wanted).max(axis=-1)
    assert np.median(error) < 12  # 8-bit levels
    assert np.median(mirrored) > 2 * max(np.median(error), 1)
    page.get_by_role("button", name="Overview").click()
    until(lambda: live.nodes.handles("camera")[0].visible)
    assert (np.abs(settled(page) - shot).max(axis=-1) > 30).mean() > 0.05


def test_the_fused_scene_through_the_camera_is_sharp(live, page):
    show(live, *shown_at_first(live.panel.layers))
    live.show_frame(0)
    live.wait_until_shown()
    through = page.get_by_role("button", name="Through camera")
    through.click()
    until(lambda: not live.nodes.handles("camera")[0].visible)
    shot = settled(page)
    live.panel.boxes["camera"].value = False
    live.wait_until_shown()
    assert (np.abs(settled(page) - shot).max(axis=-1) > 30).mean() < 0.001  # the camera had covered nothing
    page.get_by_role("button", name="Overview").click()


def test_names_and_errors_run_nothing(live, page):
    nasty = "<img src=x onerror=\"document.body.dataset.run='yes'\"> *a* [c](d) <b>e</b> `f`"
    live.panel.tell(live.wait_until_shown(), nasty)
    page.get_by_text(nasty).wait_for(timeout=30_000)
    assert page.locator("img[src=x]").count() == 0
    assert page.get_attribute("body", "data-run") is None
    live.panel.tell(live.wait_until_shown(), None)


def test_every_layer_draws_something_and_nothing_complains(live, page):
    live.show_frame(0)
    for key in live.panel.layers:
        show(live, key)
        if key not in ("grid", "sparse"):  # are dark here
            settled(page, least=0.01 if key not in THIN else 0.0002)
    live.panel.wire.value = True
    show(live, "mesh")
    settled(page)
    live.panel.wire.value = False


def test_meshes_have_the_colours_of_the_picture(live, page):
    show(live, "static mesh")
    shot = settled(page)
    colors = shot[drawn(shot)]
    # The wall's blues and the floor's browns are both there.
    assert ((colors[:, 2] - colors[:, 0]) > 40).mean() > 0.1
    assert ((colors[:, 0] - colors[:, 2]) > 30).mean() > 0.03
    assert np.abs(colors - [128, 158, 184]).max(axis=-1).min() < 6


def test_a_second_browser_sees_the_same_frame(live, page, browser):
    show(live, "align")
    live.show_frame(2)
    live.wait_until_shown()
    other = browser.new_page(viewport={"width": 1100, "height": 700})
    try:
        other.goto(page.url)
        other.get_by_text("frame 3 of 4").wait_for(timeout=30_000)
        page.get_by_text("frame 3 of 4").wait_for(timeout=30_000)
        other.get_by_role("button", name="Raw").first.click()
        until(lambda: live.panel.wish.layers == {"raw/model"})
    finally:
        other.close()


def test_play_and_pause_by_the_button(live, page):
    show(live, "align")
    live.show_frame(0)
    live.panel.speed.value = "1/4"
    page.get_by_role("button", name="Play").click()
    page.get_by_text("frame 3 of 4").wait_for(timeout=30_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play").wait_for(timeout=30_000)
    frame = live.panel.frame
    time.sleep(1.0)
    assert live.panel.frame == frame
    assert live.failure is None
