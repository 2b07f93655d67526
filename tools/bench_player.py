"""Measure the HTML player in a headless browser: size, bytes a point, time to the first picture, pictures a second.

python tools/bench_player.py [PAGE ...]   pages of `recon4d export --to html`; without one, 60 frames of 50,000 points

Needs Chromium and playwright (tools/setup_clients.sh). Without a graphics card Chromium draws in software: its pictures
a second are a lower bound.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PLAY = """seconds => new Promise(done => {
  const { app } = window.recon4d, start = performance.now();
  let drawn = 0, frames = new Set();
  app.stage.drawn.push(() => drawn++);
  app.play();
  const look = () => {
    frames.add(app.shownFrame);
    app.stage.ask();
    const passed = (performance.now() - start) / 1000;
    if (passed < seconds) requestAnimationFrame(look);
    else { app.pause(); done([drawn / passed, frames.size / passed]); }
  };
  look();
})"""


def synthetic(path: Path, frames: int = 60, moving: int = 50_000, static: int = 200_000) -> None:
    """A page of a waving sheet of points before a wall, with the noise and colours of a video's points."""
    from recon4d.scene.camera import Camera
    from recon4d.scene.cloud import PointCloud
    from recon4d.scene.scene4d import UpAxis
    from recon4d.scene.trajectory import PoseOrigin, Trajectory
    from recon4d.scene.transforms import Rigid3
    from recon4d.view.player import PlayerScene, player_page
    from recon4d.view.player_layout import lay_out

    rng = np.random.default_rng(0)

    def sheet(count: int, size: float, depth: float, phase: float) -> PointCloud:
        x, y = rng.uniform(-size, size, (2, count))
        z = depth + 0.2 * np.sin(2 * x + phase) + rng.normal(0, 0.005, count)
        shade = np.stack([128 + 100 * np.sin(3 * x + k) * np.cos(2 * y - k) for k in range(3)], -1)
        colors = np.clip(shade + rng.normal(0, 6, (count, 3)), 0, 255).astype(np.uint8)
        return PointCloud(np.stack([x, y, z], -1), colors, confidence=np.clip(rng.normal(0.8, 0.1, count), 0, 1))

    names = tuple(f"{i:06d}" for i in range(frames))
    trajectory = Trajectory(
        names=names,
        timestamps_s=np.arange(frames) / 30,
        cam_from_world=Rigid3(np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))),
        cameras=(Camera(640, 480, 500.0, 500.0, 320.0, 240.0),) * frames,
        origin=(PoseOrigin.MEASURED,) * frames,
    )
    wall = sheet(static, 4.0, 5.0, 0.0)
    scene = PlayerScene(
        title="benchmark",
        trajectory=trajectory,
        static=wall,
        moving=lambda name: sheet(moving, 1.0, 3.0, 0.2 * names.index(name)),
        picture=None,
        layout=lay_out(wall.points, trajectory, UpAxis.MODEL),
        up=UpAxis.MODEL,
        in_metres=True,
        whole_static=static,
        moving_points=frames * moving,
        whole_moving=frames * moving,
    )
    start = time.perf_counter()
    with open(path, "wb") as file:
        for piece in player_page(scene):
            file.write(piece)
    print(
        f"written in {time.perf_counter() - start:.1f} s: {frames} frames of {moving:,}, background {static:,} points"
    )


def describe(path: Path) -> None:
    """Size of the page and where it goes."""
    text = path.read_text(encoding="utf-8")
    sizes = {"s": 0, "m": 0, "p": 0}
    points = {"s": 0, "m": 0}
    for kind, data in re.findall(r'<script type="text/plain" id="([smp])\d+">([^<]*)<', text):
        sizes[kind] += len(data)
        if kind != "p":
            points[kind] += _count(data)
    print(f"{path.name}: {len(text) / 1e6:.2f} MB, of it pictures {sizes['p'] / 1e6:.2f} MB")
    for kind, name in (("s", "background"), ("m", "moving")):
        if points[kind]:
            each = sizes[kind] / points[kind]
            print(f"  {name}: {points[kind]:,} points, {each:.2f} bytes a point on the page, {0.75 * each:.2f} packed")


def _count(data: str) -> int:
    import zlib

    return int.from_bytes(zlib.decompressobj().decompress(base64.b64decode(data), 4), "little")


def load(path: Path, seconds: float = 6.0) -> None:
    """Time to the first picture, to the end of the page, and how fast it plays."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for size in ((1280, 800), (400, 800)):
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.goto(path.resolve().as_uri(), wait_until="commit")
            first = "performance.getEntriesByName('first picture').map(entry => entry.startTime)"
            while not (found := page.evaluate(first)):
                page.wait_for_timeout(20)
            page.wait_for_load_state("load")
            whole = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
            page.wait_for_timeout(1000)
            drawn, shown = page.evaluate(PLAY, seconds)
            print(
                f"  {size[0]}x{size[1]}: first picture {found[0] / 1000:.2f} s, page read {whole / 1000:.2f} s, "
                f"playing draws {drawn:.1f} pictures/s and shows {shown:.1f} frames/s"
            )
            page.close()
        browser.close()


def main() -> None:
    pages = [Path(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        if not pages:
            pages = [Path(folder) / "synthetic.html"]
            synthetic(pages[0])
        for page in pages:
            describe(page)
            load(page)


if __name__ == "__main__":
    main()
