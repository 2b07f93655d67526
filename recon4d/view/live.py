"""The live viewer: one thread that brings what browsers show to what people ask for."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import Recon4dError
from recon4d.view.live_builds import frustum
from recon4d.view.live_clock import FrameClock
from recon4d.view.live_colors import mode_of
from recon4d.view.live_nodes import Nodes, look_from, look_through
from recon4d.view.live_panel import SPEEDS, THROUGH, Panel
from recon4d.view.live_scene import RAW, LiveScene
from recon4d.view.live_wish import Wish

if TYPE_CHECKING:
    import viser

log = logging.getLogger(__name__)

AHEAD = 8  # frames that are made ready
OVERVIEW_FOV = np.radians(60.0)
IDLE_S = 3600.0


class LiveView:
    """A running viewer. Controls belong to all browsers; each has its own eye."""

    def __init__(self, server: viser.ViserServer, scene: LiveScene, about: str) -> None:
        self.server, self.scene = server, scene
        self.nodes = Nodes(server)
        self.clock = FrameClock(scene.trajectory.timestamps_s)
        self._asked = threading.Event()
        self._stopping = False
        self._shown: Wish | None = None
        self.failure: BaseException | None = None
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, control_width="medium")
        server.gui.set_panel_label("recon4d")
        server.gui.main_panel.dock_right()  # beside the view, not over it
        server.scene.set_up_direction("+z")
        server.scene.configure_default_lights(enabled=True, cast_shadow=False)
        self._set_initial_eye()
        self.panel = Panel(server, scene, about, self._asked.set)
        self._connect()
        self._thread = threading.Thread(target=self._run, name="recon4d view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the server."""
        self._stopping = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        self.server.stop()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait_until_shown(self, timeout_s: float = 30.0) -> Wish:
        """Block until everything asked for has been sent; returns it. For tests and measurements."""
        end_s = time.monotonic() + timeout_s
        while self._shown != self.panel.wish:
            if time.monotonic() > end_s or not self.running:
                raise TimeoutError(f"the viewer did not draw within {timeout_s} s") from self.failure
            time.sleep(0.01)
        return self._shown

    # -- controls --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        panel = self.panel
        panel.play.on_click(lambda _: self.toggle_play())
        panel.speed.on_update(lambda _: self._set_speed())
        panel.slider.on_update(lambda event: self._seek() if event.client_id is not None else None)
        panel.eye.on_click(self._move_eye)
        panel.follow.on_update(lambda _: self._follow())
        self.server.on_client_connect(self._watch)
        self.server.on_client_disconnect(lambda _: self._asked.set())

    def _watch(self, client: viser.ClientHandle) -> None:
        client.camera.on_update(lambda _: self._asked.set())
        self._asked.set()

    def toggle_play(self) -> None:
        """Begin or stop to go on in time."""
        now_s = time.monotonic()
        if self.clock.playing:
            self.clock.pause(now_s)
        else:
            self.clock.play(now_s)
        self.panel.play.label = "Pause" if self.clock.playing else "Play"
        self._asked.set()

    def _set_speed(self) -> None:
        self.clock.set_speed(SPEEDS[self.panel.speed.value], time.monotonic())
        self._asked.set()

    def _seek(self) -> None:
        self.clock.seek(self.panel.frame, time.monotonic())
        self._asked.set()

    def show_frame(self, row: int) -> None:
        """Go to a frame by its place in the clip, as if a person had moved the slider."""
        self.panel.frame = row
        self._seek()

    # -- eyes ------------------------------------------------------------------------------------------------------

    def _overview(self) -> tuple[np.ndarray, np.ndarray]:
        """A place behind and above the middle camera, and what it looks at, shown frame."""
        view = self.scene.trajectory[self.scene.names[len(self.scene.names) // 2]]
        shown_from_cam = self.scene.shown_from_scene.apply_to_pose(view.cam_from_world).inverse()
        ahead, centre, reach = shown_from_cam.rotation[:, 2], shown_from_cam.translation, self.scene.size
        return centre - 0.45 * reach * ahead + [0, 0, 0.25 * reach], centre + 0.5 * reach * ahead

    def _set_initial_eye(self) -> None:
        eye, first = self._overview(), self.server.initial_camera
        first.position, first.look_at = eye
        first.up, first.fov = (0.0, 0.0, 1.0), OVERVIEW_FOV
        first.near, first.far = 0.002 * self.scene.size, 200.0 * self.scene.size

    def _move_eye(self, event: viser.GuiEvent) -> None:
        if event.target.value == THROUGH:
            self._look_through([event.client])
        else:
            look_from(event.client, *self._overview(), OVERVIEW_FOV)
        self._asked.set()

    def _follow(self) -> None:
        if self.panel.follow.value:
            self._look_through(list(self.server.get_clients().values()))

    def _look_through(self, clients: list[viser.ClientHandle]) -> None:
        view = self.scene.trajectory[self.panel.wish.frame]
        one = frustum(view.name, self.scene.shown_from_scene.apply_to_pose(view.cam_from_world), view.camera, None)
        for client in clients:
            # A window narrower than the picture sees all of its width only with a larger vertical angle.
            wider = max(1.0, one.aspect / (client.camera.aspect or one.aspect))
            fov = 2 * np.arctan(wider * np.tan(one.fov_rad / 2))
            look_through(client, one.position, one.quat_wxyz, float(fov))

    def _eyes(self, wish: Wish) -> list[np.ndarray]:
        """Where all browsers look from; those that follow will be at the frame's camera."""
        eyes = [client.camera.position for client in self.server.get_clients().values()]
        if self.panel.follow.value:
            eyes.append(self.scene.shown(self.scene.trajectory[wish.frame].cam_from_world.inverse().translation))
        return eyes

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._asked.clear()  # before looking: what is asked for while this draws is seen the next time
                if self.clock.playing and (row := self.clock.frame(time.monotonic())) != self.panel.frame:
                    self.panel.frame = row
                wish = self.panel.wish
                self.nodes.make_way(self._eyes(wish))
                if wish != self._shown:
                    self._draw(wish)
                elif not self._prepare_one(wish):
                    self._asked.wait(self.clock.wait_s(time.monotonic()) if self.clock.playing else IDLE_S)
        except BaseException as error:  # a thread has nobody to raise to: whoever waits for it does
            self.failure = error

    def _draw(self, wish: Wish) -> None:
        problem = None
        moved = self._shown is None or self._shown.frame != wish.frame
        for key, layer in self.panel.layers.items():
            if key not in wish.layers:
                self.nodes.hide(key)
                continue
            try:
                drawing = self.scene.cache.get(layer.token(wish), partial(layer.build, self.scene, wish))
            except Recon4dError as error:  # a stage is being made anew, or a file is damaged
                problem = str(error)
                self.nodes.hide(key)
                continue
            self.nodes.show(key, drawing, wish.point_scale)
        problem = self._draw_picture(wish) or problem
        self.panel.tell(wish, problem)
        if moved:
            self._follow()
        self._shown = wish

    def _draw_picture(self, wish: Wish) -> str | None:
        """Send the picture in the panel if it has changed; why not, where it cannot be had."""
        try:
            picture = mode_of(wish.picture).grid(self.scene, self._stage_for_picture(wish), wish.frame)
        except Recon4dError as error:
            return str(error)
        self.panel.show_picture(picture)
        return None

    def _stage_for_picture(self, wish: Wish) -> str:
        """The depth the picture is of: the last one shown in the view, else the best there is."""
        stages = [key for key in self.panel.layers if key in ("align", "refine") or key.startswith(RAW)]
        shown = [key for key in stages if key in wish.layers]
        return (shown or stages or ["align"])[-1]

    def _prepare_one(self, wish: Wish) -> bool:
        """Build one drawing that will be wanted soon; whether there was one."""
        names = self.scene.names
        row = names.index(wish.frame)
        for step in range(1, min(AHEAD, len(names) - 1) + 1):
            later = replace(wish, frame=names[(row + step) % len(names)])
            for key in later.layers:
                layer = self.panel.layers[key]
                if "frame" in layer.depends and layer.token(later) not in self.scene.cache:
                    try:
                        self.scene.cache.get(layer.token(later), partial(layer.build, self.scene, later))
                    except Recon4dError as error:
                        log.info("frame %s cannot be made ready: %s", later.frame, error)
                        return False
                    return True
        return False
