"""Live inspection of a scene in the browser: `recon4d view SCENE`."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon4d.errors import OptionsError, first_line, require
from recon4d.stages.common import check_types
from recon4d.workspace import Workspace

if TYPE_CHECKING:
    from recon4d.view.live import LiveView

DEFAULT_PORT, PORTS_TRIED, HIGHEST_PORT = 8080, 100, 65535
LEAST_POINTS = 1000
LOOPBACK = ("127.0.0.1", "localhost", "::1")
UNITS = ("frames", "poses", "depth", "align", "motion", "mesh", "refine", "fuse")


@dataclass(frozen=True)
class ViewOptions:
    """Options of the live viewer."""

    host: str = "127.0.0.1"
    """Address to serve on. 0.0.0.0: everyone on the network can see the scene."""
    port: int | None = None
    """Port to serve on; without it 8080, or the next one that is free. 0: any that is free."""
    open: bool = False
    """Open the page in the browser of this machine."""
    max_points: int = 150_000
    """Most points of one layer and frame that are sent; more are thinned by a fixed random choice."""
    source: str | None = None
    """Depth source whose raw depth is shown; without it all that are in force."""


def start_view(workspace: Workspace, options: ViewOptions, stale: Mapping[str, str] | None = None) -> LiveView:
    """A running viewer; stop it with ``.stop()``.

    Args:
        stale: finished units that are out of date, and why; they are said to be.

    Raises:
        MissingDependency: viser is not installed.
        OptionsError: an option cannot be used.
        WorkspaceError: there is nothing to show yet.
    """
    from recon4d.view.live_scene import LiveScene

    check_types("view", options, prefix="")
    if options.max_points < LEAST_POINTS:
        raise OptionsError(f"view: --max-points is {options.max_points}, at least {LEAST_POINTS} is expected")
    if options.port is not None and not 0 <= options.port <= HIGHEST_PORT:
        raise OptionsError(f"view: --port is {options.port}, a number from 0 to {HIGHEST_PORT} is expected")
    viser = require("viser", "viewer")
    scene = LiveScene(workspace, options.max_points, options.source)
    from recon4d.view.live import LiveView

    about = about_scene(scene, stale or {})  # before the server stands: what is damaged is said in the terminal
    port = free_port(options.host, options.port)
    with contextlib.redirect_stdout(io.StringIO()):  # viser prints its own greeting
        server = viser.ViserServer(options.host, port, label="recon4d", verbose=False)
    # Viser can lend the page to the internet through a server of its makers; no browser may ask for that here.
    server.request_share_url = lambda verbose=True: None
    view = LiveView(server, scene, about)
    view.start()
    return view


def about_scene(scene: object, stale: Mapping[str, str]) -> str:
    """Markdown with the key numbers of what is done."""
    from recon4d.view.live_panel import about_markdown
    from recon4d.view.summary import summary_line

    workspace: Workspace = scene.workspace
    units = [u for unit in UNITS for u in ([f"depth/{s}" for s in scene.sources] if unit == "depth" else [unit])]
    records = [record for unit in units if (record := workspace.record(unit)) is not None]
    lines = [summary_line(r) + (f"; out of date: {stale[r.unit]}" if r.unit in stale else "") for r in records]
    return about_markdown(scene, lines, [warning for record in records for warning in record.warnings])


def run_view(
    workspace: Workspace, options: ViewOptions, stale: Mapping[str, str], say: Callable[[str], None] = print
) -> None:
    """Serve until Ctrl-C. Raises as `start_view`."""
    view = start_view(workspace, options, stale)
    port = view.server.get_port()
    # A library that reads models has SIGTERM print its stack, and a shell may start us deaf to Ctrl-C.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if options.port is None and port != DEFAULT_PORT:
            say(f"port {DEFAULT_PORT} is taken, {port} is used")
        if options.host not in LOOPBACK:
            say(f"everyone who can reach {options.host} port {port} on the network sees this scene")
        address = address_of(options.host, port)
        say(f"recon4d view: {address} (Ctrl-C ends it)")
        if options.open and not webbrowser.open(address):
            say("no browser could be opened: open the address by hand")
        while view.running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # viser prints when it ends
            view.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    if view.failure is not None:
        raise view.failure


def address_of(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def free_port(host: str, port: int | None) -> int:
    """The wanted port if it can be had on that host, or without a wish the first from 8080 on. Raises OptionsError."""
    wanted = range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED) if port is None else [port]
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise OptionsError(
            f"view: --host {host} is not known ({first_line(error)}): 127.0.0.1 is this machine"
        ) from None
    for candidate in wanted:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server has it
            try:
                probe.bind((host, candidate))
                return int(probe.getsockname()[1])
            except OSError as error:
                last = error
    if port is None:
        raise OptionsError(
            f"view: no port from {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED - 1} can be had on {host} "
            f"({first_line(last)}): choose another --host, or a --port"
        )
    raise OptionsError(f"view: port {port} cannot be had on {host} ({first_line(last)}): choose another --port")
