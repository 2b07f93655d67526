"""Export to one self-contained page that plays the scene in any browser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recon4d.errors import ExportError
from recon4d.scene.cloud import PointCloud
from recon4d.stages.export_delivery import PLAYED_POINTS, PLAYED_STATIC_POINTS, Delivery, at_most
from recon4d.view.player import PlayerScene, empty_page_bytes, player_page
from recon4d.view.player_budget import PICTURE_SETTINGS, PlayerBudget, PointsCost, page_bytes, sample_rows, share_out
from recon4d.view.player_layout import Layout, lay_out
from recon4d.view.player_pictures import small_jpeg
from recon4d.view.player_points import pack_cloud

DONE = "html player"
SAMPLED = 4  # frames whose points and pictures are packed to learn what all will take
ATTEMPTS = 6  # each aims lower than the one before by as much as that was too large


def write_html(delivery: Delivery) -> None:
    """`html/index.html`, at most ``html_mb`` large.

    All points within the options' bounds are written when they fit. Otherwise the pictures shrink to a quarter of the
    room first; then the background gets two fifths of the rest, what moves the other three, and what one of them does
    not need goes to the other. Within what moves one bound holds for every frame, so that small things stay whole. A
    fixed random choice of points is kept, and the page and the terminal say how many.
    """
    path = delivery.folder("html") / "index.html"
    if delivery.part.is_done(DONE):
        return
    candidate = _candidate(delivery)
    room = candidate.room
    for _ in range(ATTEMPTS):
        budget = share_out(room, candidate.static_cost, candidate.moving_cost, candidate.pictures_bytes)
        scene = candidate.scene(budget)
        size, limit = _write(path, _with_bar(delivery, scene)), delivery.options.html_mb * 1e6
        if size <= limit:
            break
        room -= 1.1 * (size - limit)
    else:
        path.unlink()
        raise ExportError(
            f"export: a player of {delivery.options.html_mb:g} MB does not hold {len(delivery.names)} frames: "
            "give a larger --html-mb, or fewer --frames"
        )
    _say(delivery, budget, scene, size)
    delivery.part.mark_done(DONE)


@dataclass(frozen=True)
class _Candidate:
    """All that could be written, and what it would take."""

    whole: Delivery  # without bounds on points
    static: PointCloud  # within the options' bounds
    moving_most: int
    whole_counts: np.ndarray  # (N,) moving points of each frame before any thinning
    layout: Layout
    static_cost: PointsCost
    moving_cost: PointsCost
    pictures_bytes: tuple[float, ...]  # of all frames, at each of PICTURE_SETTINGS
    room: float  # bytes for points and pictures

    def scene(self, budget: PlayerBudget) -> PlayerScene:
        """The scene as it fits."""
        delivery, most = self.whole, min(self.moving_most, budget.moving_points)
        setting = budget.pictures
        picture = None if setting is None else lambda name: small_jpeg(delivery.workspace.picture(name), setting)
        return PlayerScene(
            title=delivery.workspace.title,
            trajectory=delivery.trajectory,
            static=at_most(self.static, budget.static_points),
            moving=lambda name: at_most(delivery.moving(name), most),
            picture=picture,
            layout=self.layout,
            up=delivery.up,
            in_metres=delivery.in_metres,
            whole_static=len(delivery.static()),
            moving_points=int(np.minimum(self.whole_counts, most).sum()),
            whole_moving=int(self.whole_counts.sum()),
            pictures_left_out=setting is None,
            notes=_notes(delivery, setting is not None),
        )


def _candidate(delivery: Delivery) -> _Candidate:
    options = delivery.options
    whole = replace(delivery, options=replace(options, max_points=None, max_static_points=None))
    static_most = options.max_static_points or options.max_points or PLAYED_STATIC_POINTS
    moving_most = options.max_points or PLAYED_POINTS
    static, names = at_most(whole.static(), static_most), delivery.names
    counts = []
    with delivery.part.progress.bar("counting points", len(names)) as bar:
        for name in names:
            counts.append(len(whole.moving(name)))
            bar.advance()
    counts = np.array(counts)
    # The frames with the most points are those whose cost matters; among like ones they are spread over the clip.
    fullest = sorted(sample_rows(len(names), 4 * SAMPLED), key=lambda row: -counts[row])[:SAMPLED]
    samples = [at_most(whole.moving(names[row]), moving_most) for row in fullest]
    pictures = [delivery.workspace.picture(names[row]) for row in sample_rows(len(names), SAMPLED)]
    sizes = [[len(small_jpeg(picture, setting)) for picture in pictures] for setting in PICTURE_SETTINGS]
    seen = np.concatenate([at_most(static, 100_000).points, *(at_most(cloud, 5000).points for cloud in samples)])
    layout = lay_out(seen, delivery.trajectory, delivery.up)
    candidate = _Candidate(
        whole=whole,
        static=static,
        moving_most=moving_most,
        whole_counts=counts,
        layout=layout,
        static_cost=PointsCost(np.array([len(static)]), _bytes_per_point([static])),
        moving_cost=PointsCost(np.minimum(counts, moving_most), _bytes_per_point(samples)),
        pictures_bytes=tuple(page_bytes(float(np.mean(row)) * len(names)) for row in sizes),
        room=0.0,
    )
    empty = empty_page_bytes(candidate.scene(PlayerBudget(0, 0, PICTURE_SETTINGS[0])))
    return replace(candidate, room=delivery.options.html_mb * 1e6 - empty)


def _bytes_per_point(clouds: list[PointCloud]) -> float:
    """On the page, with widths (up to 0.4 bytes a point, packed)."""
    count = sum(len(cloud) for cloud in clouds)
    return page_bytes(sum(len(pack_cloud(cloud, level=6).data) for cloud in clouds)) / count + 0.5 if count else 0.0


def _with_bar(delivery: Delivery, scene: PlayerScene) -> Iterable[bytes]:
    with delivery.part.progress.bar("writing the player", len(delivery.names)) as bar:
        for piece in player_page(scene):
            yield piece
            if piece.startswith(b'<script type="text/plain" id="m'):
                bar.advance()


def _write(path: Path, pieces: Iterable[bytes]) -> int:
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
        return file.tell()


def _say(delivery: Delivery, budget: PlayerBudget, scene: PlayerScene, size: int) -> None:
    say = delivery.part.progress.say
    if scene.moving_points < scene.whole_moving:
        say(f"  the player has {scene.moving_points:,} of {scene.whole_moving:,} moving points (all frames together)")
    if len(scene.static) < scene.whole_static:
        say(f"  the player has {len(scene.static):,} of {scene.whole_static:,} points of the background")
    if budget.pictures is None:
        say("  the player has no pictures of the video: there is no room for them within --html-mb")
    elif budget.pictures != PICTURE_SETTINGS[0]:
        say(f"  the player's pictures are {budget.pictures.longest_px} pixels long, to keep within --html-mb")
    say(f"  the player is {size / 1e6:.1f} MB: html/index.html opens in any browser")


def _notes(delivery: Delivery, pictures: bool) -> tuple[str, ...]:
    """What a person should know who looks at the numbers."""
    scene, notes = delivery.scene, []
    if not delivery.in_metres:
        notes.append("The size of the scene in metres is not known: lengths are in units of the reconstruction.")
    if scene.levelled_from_scene is None and delivery.options.up != "model":
        notes.append("Which way is up is not known: the cameras' mean upward direction stands in.")
    if delivery.options.provenance is not None:
        notes.append("Only part of the points was exported, chosen by how they came about.")
    if len(delivery.names) < len(scene.names):
        notes.append(f"{len(delivery.names)} of {len(scene.names)} frames were exported.")
    if not pictures:
        notes.append(f"The video is not in this page: within {delivery.options.html_mb:g} MB there is no room for it.")
    return tuple(notes)
