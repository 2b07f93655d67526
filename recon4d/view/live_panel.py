"""The panel beside the view: what a person can ask for, in short groups of plain words."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.pictures import encoded
from recon4d.view.live_builds import grid_square
from recon4d.view.live_colors import mode_of, modes_of
from recon4d.view.live_layers import Layer, alternatives, is_surface, layers_of, shown_at_first
from recon4d.view.live_scene import LiveScene
from recon4d.view.live_wish import Wish

if TYPE_CHECKING:
    import viser

SPEEDS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0, "4": 4.0}
MOST_TOGETHER = 12
PICTURE_WIDTH = 480  # pixels
THROUGH, OVERVIEW = "Through camera", "Overview"


class Panel:
    """Builds the controls and tells what they say. All browsers share them."""

    def __init__(self, server: viser.ViserServer, scene: LiveScene, about: str, changed: Callable[[], None]) -> None:
        """``about`` is Markdown; ``changed`` is called whenever a person has changed something."""
        self.server, self.scene, self._changed = server, scene, changed
        layers = layers_of(scene)
        self.missing = {layer.label: why for layer in layers if (why := layer.missing(scene)) is not None}
        self.layers = {layer.key: layer for layer in layers if layer.label not in self.missing}
        self.modes = modes_of(scene)
        self.boxes: dict[str, viser.GuiCheckboxHandle] = {}
        self._add_time()
        tabs = server.gui.add_tab_group()
        for label, add in (("Show", self._add_layers), ("Colours", self._add_looks)):
            with tabs.add_tab(label):
                add()
        with tabs.add_tab("About"):
            self._add_about(about)

    # -- what is asked for -----------------------------------------------------------------------------------------

    @property
    def wish(self) -> Wish:
        return Wish(
            frame=self.scene.names[self.frame],
            layers=frozenset(key for key, box in self.boxes.items() if box.value),
            colors=self._key_of(self.colors.value),
            together=int(self.together.value),
            wire=bool(self.wire.value),
            point_scale=float(self.point_scale.value),
            picture=self._key_of(self.picture_of.value),
        )

    @property
    def frame(self) -> int:
        """Row of the frame in the clip."""
        return int(self.slider.value) - 1

    @frame.setter
    def frame(self, row: int) -> None:
        self.slider.value = row + 1

    def _key_of(self, label: str) -> str:
        return next(key for key, mode in self.modes.items() if mode.label == label)

    # -- building --------------------------------------------------------------------------------------------------

    def _add_time(self) -> None:
        gui, count = self.server.gui, len(self.scene.names)
        self.status = gui.add_markdown("")
        self.slider = gui.add_slider(
            "Frame", 1, max(count, 2), 1, 1, disabled=count == 1, hint="Drag, or click and use the arrow keys."
        )
        self.play = gui.add_button("Play", disabled=count == 1, hint="Play by the true times of the frames.")
        self.speed = gui.add_dropdown("Speed", tuple(SPEEDS), initial_value="1", hint="Seconds of the clip per second.")
        # Not viser's own image: it forgets a picture's address before the browser has read it, when they come fast.
        self.image = gui.add_html("")
        labels = [mode.label for mode in self.modes.values()]
        self.picture_of = gui.add_dropdown(
            "Picture", labels, initial_value=labels[0], hint="What the picture above shows."
        )
        self.picture_legend = gui.add_html("")
        self.eye = gui.add_button_group(
            "Your eye", (THROUGH, OVERVIEW), hint="Where the camera of this frame was, or back to where you began."
        )
        self.follow = gui.add_checkbox("Follow", False, hint="Look through the camera while time goes on.")
        for control in (self.slider, self.picture_of, self.follow):
            control.on_update(lambda _: self._changed())

    def _add_layers(self) -> None:
        gui, first = self.server.gui, shown_at_first(self.layers)
        groups: dict[str, list[Layer]] = {}
        for layer in self.layers.values():
            groups.setdefault(layer.group, []).append(layer)
        choices = alternatives(self.layers.values())
        if len(choices) > 1:
            show_only = gui.add_button_group("Show only", list(choices), hint="Before and after, in the same colours.")
            show_only.on_click(lambda event: self.show_only(choices[event.target.value]))
        for group, layers in groups.items():
            with gui.add_folder(group):
                for layer in layers:
                    label = layer.label
                    if layer.key == "grid":
                        label = f"Grid of {grid_square(self.scene):g} {self.scene.unit}"
                    box = gui.add_checkbox(label, layer.key in first, hint=layer.tip)
                    box.on_update(lambda _: self._changed())
                    self.boxes[layer.key] = box

    def show_only(self, keys: frozenset[str]) -> None:
        """These surfaces and no other; cameras, path and grid stay as they are."""
        for key, layer in self.layers.items():
            if is_surface(layer):
                self.boxes[key].value = key in keys

    def _add_looks(self) -> None:
        gui, count = self.server.gui, len(self.scene.names)
        labels = [mode.label for mode in self.modes.values()]
        self.colors = gui.add_dropdown(
            "Colour by", labels, initial_value=labels[0], hint="Colours of clouds and meshes."
        )
        self.legend = gui.add_html("")
        self.point_scale = gui.add_slider("Point size", 0.2, 4.0, 0.1, 1.0, hint="1 just closes the gaps.")
        self.together = gui.add_slider(
            "Frames at once",
            1,
            max(min(MOST_TOGETHER, count), 2),
            1,
            1,
            disabled=count == 1,
            hint="Depth of this frame with that of others, evenly spread over the clip: where they disagree, "
            "surfaces are there twice.",
        )
        self.wire = gui.add_checkbox("Meshes as wires", False, hint="Show the edges of the triangles only.")
        for control in (self.colors, self.point_scale, self.together, self.wire):
            control.on_update(lambda _: self._changed())

    def _add_about(self, about: str) -> None:
        self.server.gui.add_markdown(about)
        if self.missing:
            reasons = "\n".join(f"- {plain(label)}: {plain(why)}" for label, why in self.missing.items())
            self.server.gui.add_markdown(f"**Cannot be shown**\n\n{reasons}")

    # -- telling ---------------------------------------------------------------------------------------------------

    def tell(self, wish: Wish, problem: str | None) -> None:
        """Bring the texts, legends and the picture to what is shown."""
        row = self.scene.names.index(wish.frame)
        time_s = self.scene.trajectory.timestamps_s[row]
        text = f"**{plain(wish.frame)}** · {time_s:.2f} s · frame {row + 1} of {len(self.scene.names)}"
        _set(self.status, "content", text if problem is None else f"{text}\n\n⚠ {plain(problem)}")
        _set(self.legend, "content", _boxed(mode_of(wish.colors).legend(self.scene)))
        other = wish.picture != wish.colors
        _set(self.picture_legend, "content", _boxed(mode_of(wish.picture).legend(self.scene)) if other else "")

    def show_picture(self, picture: np.ndarray) -> None:
        """(H, W, 3) uint8 beside the view, smaller; the one that is there already is not sent again."""
        _set(self.image, "content", picture_html(picture))


def plain(text: str) -> str:
    """Markdown that shows the very text: viser would take tags and marks in names of files and in errors as such.

    A character reference is never part of a mark (CommonMark 0.31, section 2.5).
    """
    return "".join(c if c.isalnum() else " " if c.isspace() else f"&#{ord(c)};" for c in text)


def picture_html(picture: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as an element that holds it, at most about `PICTURE_WIDTH` pixels wide."""
    step = max(1, round(picture.shape[1] / PICTURE_WIDTH))
    data = encoded(picture[::step, ::step], ".jpg", 85)
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return (
        f'<img alt="" style="width:100%;display:block;padding:0 .7em .4em .7em;box-sizing:border-box" src="{source}">'
    )


def _set(handle: object, name: str, value: str) -> None:
    if getattr(handle, name) != value:
        setattr(handle, name, value)


def _boxed(legend: str) -> str:
    return f'<div style="font-size:.8em;padding:.2em 1em .6em 1em">{legend}</div>' if legend else ""


def about_markdown(scene: LiveScene, lines: list[str], warnings: list[str]) -> str:
    """Key numbers of the stages, the size of the scene, and what to be careful about."""
    size = f"1 unit is {scene.metres_per_unit:.4g} m" if scene.metres_per_unit else "the size in metres is not known"
    up = "levelled" if scene.up_known else "up is that of the cameras: no level was found"
    parts = [f"{len(scene.names)} frames; {size}; {up}.", "", *(f"- {plain(line)}" for line in lines)]
    if warnings:
        parts += ["", "**Warnings**", "", *(f"- {plain(warning)}" for warning in warnings)]
    return "\n".join(parts)
