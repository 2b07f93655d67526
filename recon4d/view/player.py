"""A page that plays a scene: one file of HTML with the program, the points and the pictures in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from recon4d._version import __version__
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance
from recon4d.scene.scene4d import UpAxis
from recon4d.scene.trajectory import Trajectory
from recon4d.view.origins import ORIGINS
from recon4d.view.player_layout import Layout
from recon4d.view.player_points import pack_cloud, size_codes, spacings

PROGRAM = Path(__file__).with_name("player")  # built by tools/build_player.sh from tools/player
PART_POINTS = 250_000  # of the background: one such part is there with the first picture
SMALLEST_WIDTH = 1e-5  # of the scene's radius: what the smallest code of a point's width means


@dataclass(frozen=True)
class PlayerScene:
    """What a page shows, in the delivered frame and unit."""

    title: str
    trajectory: Trajectory
    static: PointCloud
    moving: Callable[[str], PointCloud]  # name -> what moves in that frame, read when asked for
    picture: Callable[[str], bytes] | None  # name -> JPEG of the frame; None: the page has no pictures
    layout: Layout
    up: UpAxis
    in_metres: bool
    whole_static: int  # points there were before thinning
    moving_points: int  # that `moving` gives, all frames together
    whole_moving: int  # of them before thinning
    pictures_left_out: bool = False  # there are pictures, but no room for them
    notes: tuple[str, ...] = ()  # sentences under "About"


def player_page(scene: PlayerScene) -> Iterator[bytes]:
    """The page, piece by piece; one frame is in memory at a time.

    A first part of the background, the first frame and its picture lie before the program, so that it draws while the
    browser still reads the rest. Each cloud is a script element with base64 of `pack_cloud`, each picture one with
    base64 of its JPEG. The element `end` has what is known only after all are packed; a page without it is incomplete.
    The content security policy allows our program by its hash, and no connection at all.
    """
    unit = SMALLEST_WIDTH * scene.layout.radius
    widths = spacings(scene.static.points)
    steps, origins = [], np.zeros(len(ORIGINS), np.int64)

    def packed(element: str, cloud: PointCloud, widths: np.ndarray) -> bytes:
        made = pack_cloud(cloud, size_codes(widths, unit))
        steps.append(made.step)
        origins[:] += np.bincount(cloud.provenance, minlength=len(origins))[: len(origins)]
        return _block(element, base64.b64encode(made.data))

    yield _head(scene.title)
    parts = _parts(len(scene.static))
    yield _json_block("scene", _describe(scene, unit, len(parts)))
    yield packed("s0", scene.static[parts[0]], widths[parts[0]])
    for row, name in enumerate(scene.trajectory.names):
        cloud = scene.moving(name)
        yield packed(f"m{row}", cloud, spacings(cloud.points))
        if scene.picture is not None:
            yield _block(f"p{row}", base64.b64encode(scene.picture(name)))
        if row == 0:
            yield b"<script>" + _part("player.js") + b"</script>\n"
            for number, chosen in enumerate(parts[1:], start=1):
                yield packed(f"s{number}", scene.static[chosen], widths[chosen])
    counted = {"position_error": max(steps) / 2, "clouds": len(steps), "origin_points": origins.tolist()}
    yield _json_block("end", counted)
    yield b"</body>\n</html>\n"


def empty_page_bytes(scene: PlayerScene) -> int:
    """Size of the page without its points and pictures."""
    described = _json_block("scene", _describe(scene, 1.0, 1))
    elements = 2 * len(scene.trajectory) + 16  # each with a line of markup around the data
    return len(_head(scene.title)) + len(described) + len(_part("player.js")) + 60 * elements


def _head(title: str) -> bytes:
    style = _part("player.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(_part('player.js'))}'; style-src '{_hash(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    start = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">\n'
        f'<meta name="generator" content="recon4d {html.escape(__version__)}">\n'
        f'<title>{html.escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>'
    )
    return start.encode() + style + b"</style>\n</head>\n<body>\n" + _part("player.html")


def _describe(scene: PlayerScene, unit: float, parts: int) -> dict[str, object]:
    """What the program must know before it unpacks the first cloud."""
    trajectory, layout = scene.trajectory, scene.layout
    lenses = list(dict.fromkeys(trajectory.cameras))
    world_from_cam = trajectory.cam_from_world.inverse()
    poses = np.concatenate([world_from_cam.rotation.reshape(-1, 9), world_from_cam.translation], axis=1)
    return {
        "title": scene.title,
        "program": f"recon4d {__version__}",
        "unit": "m" if scene.in_metres else "units",
        "up": layout.up.tolist(),
        "axes": {UpAxis.Z: "z up", UpAxis.Y: "y up", UpAxis.MODEL: "as in the model, y roughly down"}[scene.up],
        "centre": layout.centre.tolist(),
        "radius": layout.radius,
        "depth": layout.depth,
        "floor": layout.floor,
        "names": list(trajectory.names),
        "starts_s": np.round(trajectory.timestamps_s - trajectory.timestamps_s[0], 6).tolist(),
        "lenses": [[c.width, c.height, c.fx, c.fy, c.cx, c.cy] for c in lenses],
        "lens": [lenses.index(camera) for camera in trajectory.cameras],
        "world_from_cam": [[round(value, 7) for value in pose] for pose in poses.tolist()],
        "static_parts": parts,
        "static_points": len(scene.static),
        "static_whole": scene.whole_static,
        "moving_points": scene.moving_points,
        "moving_whole": scene.whole_moving,
        "width_unit": unit,
        "pictures": scene.picture is not None,
        "pictures_left_out": scene.pictures_left_out,
        "origins": [dict(zip(("words", "color"), ORIGINS[kind], strict=True)) for kind in Provenance],
        "notes": list(scene.notes),
    }


def _parts(count: int) -> list[np.ndarray]:
    """Rows of fixed random parts of about equal size: each one alone shows all of the background."""
    if count <= PART_POINTS:
        return [np.arange(count)]
    order = np.random.default_rng(1).permutation(count)
    return [np.sort(rows) for rows in np.array_split(order, -(-count // PART_POINTS))]


def _block(element: str, text: bytes) -> bytes:
    """Data that the browser keeps as text and does not run."""
    return f'<script type="text/plain" id="{element}">'.encode() + text + b"</script>\n"


def _json_block(element: str, content: dict[str, object]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # a title may hold a tag
    return f'<script type="application/json" id="{element}">{text}</script>\n'.encode()


@cache
def _part(name: str) -> bytes:
    return (PROGRAM / name).read_bytes()


def _hash(text: bytes) -> str:
    """As content security policies name an inline script or style (CSP level 2, section 4.2.3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode()
