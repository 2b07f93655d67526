"""Verb layers: each frame as layers of depth, with what lies behind its nearer surfaces."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from recon4d.errors import OptionsError, require
from recon4d.progress import Progress
from recon4d.stages.common import NOT_IN_KEY, check_range, check_types, execute
from recon4d.stages.fill_model import FillModelOptions, find_fill_model, load_filler
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.fill.layers import Built, Filler, OwnView
    from recon4d.fill.other_frames import Donor
    from recon4d.scene.layered import LayeredDepth

VERSION = 1
SAMPLED = 40  # frames whose depths decide where slabs meet
STRIDE = 8  # of their pixels, in both axes
RIM = 0.01  # of the longer side: so far around what moves, pixels are not given to other frames
CACHE_BYTES = 800e6  # of donors kept in memory
BYTES_PER_PIXEL = 400  # a thread needs, about


@dataclass(frozen=True)
class LayersOptions:
    """How frames are taken apart into layers, and how what they hide is filled."""

    k: int = 3
    """Layers of a frame at most; fewer come out where the clip has fewer distinct depths."""
    border: float = 0.1
    """How much is added around the picture, as a share of its width and height on each side; 0 for nothing."""
    donors: int = 6
    """So many other frames are asked for what a frame hides, and then the fused background."""
    fill: tuple[Literal["frames", "diffusion", "classical"], ...] = field(
        default=("frames", "diffusion", "classical"), metadata={"commas": True}
    )
    """What fills, always in this order: frames (other frames saw it), diffusion (a generative model, where one is
    named), classical (its surroundings)."""
    fill_model: Annotated[FillModelOptions, tyro.conf.arg(name="fill-model", prefix_name=False)] = field(
        default_factory=FillModelOptions
    )
    every: int = 1
    """Only every so many-th frame."""
    png: bool = False
    """Write each layer as a PNG with transparency, too."""
    exr: bool = False
    """Write the depth of each layer as OpenEXR, too (pip install 'recon4d[exr]')."""
    workers: int | None = field(default=None, metadata=NOT_IN_KEY)
    """Frames made at once; without it one per core. No other result."""


def check_options(options: LayersOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError, MissingDependency."""
    check_types("layers", options, prefix="")
    _check("k", options.k, low=1, high=16)
    _check("border", options.border, low=0, high=1)
    _check("donors", options.donors, low=0)
    _check("every", options.every, low=1)
    if options.workers is not None:
        _check("workers", options.workers, low=1)
    if len(set(options.fill)) != len(options.fill):
        raise OptionsError(f"layers: --fill {','.join(options.fill)} names a step twice: name each once")
    if options.fill_model.model:
        if "diffusion" not in options.fill:
            raise OptionsError("layers: a model is named, but --fill leaves diffusion out: add it, or name no model")
        options.fill_model.check()
    if options.exr:
        require("OpenEXR", "exr")


def _check(option: str, value: float, **bounds: float) -> None:
    """The flags of a verb have no prefix, but its errors begin with its name."""
    try:
        check_range("", option, value, **bounds)
    except OptionsError as error:
        raise OptionsError(f"layers{error}") from None


def clip_edges(workspace: Workspace, k: int) -> tuple[float, ...]:
    """Where the slabs of a clip meet: up to k - 1 z, scene units, rising. The same for all its frames."""
    from recon4d.fill.depth_edges import depth_edges

    names = workspace.trajectory().names
    chosen = [names[row] for row in np.unique(np.linspace(0, len(names) - 1, min(SAMPLED, len(names))).astype(int))]
    samples = []
    for name in chosen:
        surface = workspace.depth_mesh(name).surface
        middle = slice(STRIDE // 2, None, STRIDE)
        samples.append(surface.depth[middle, middle][surface.valid[middle, middle]])
    return depth_edges(np.concatenate(samples), k)


class LayerMaker:
    """Makes the layers of one frame after the other, and remembers what frames gave to others. Threads may share it."""

    def __init__(
        self,
        workspace: Workspace,
        options: LayersOptions | None = None,
        edges: Sequence[float] | None = None,
        filler: Filler | None = None,
    ) -> None:
        self.workspace, self.options, self.filler = workspace, options or LayersOptions(), filler
        check_options(self.options)
        self.edges = clip_edges(workspace, self.options.k) if edges is None else tuple(edges)
        self.trajectory = workspace.trajectory()
        self._kept: OrderedDict[str, Donor] = OrderedDict()
        self._lock = threading.Lock()
        self._background: Donor | None = None
        if "frames" in self.options.fill and len(self.trajectory) > 1:
            from recon4d.fill.other_frames import cloud_donor

            spacing = workspace.need("fuse", "layers").summary.get("voxel_size")
            cloud = workspace.static_cloud()
            self._background = cloud_donor(cloud, spacing or _usual_spacing(cloud.points))

    def make(self, name: str) -> Built:
        """The layers of a frame and how they came about."""
        from recon4d.fill.layers import build_layers

        own, fill = self._own(name), self.options.fill
        donors = self._donors(name, own) if "frames" in fill else []
        filler = self.filler if "diffusion" in fill else None
        return build_layers(own, self.edges, donors, self.options.border, filler, "classical" in fill)

    def _own(self, name: str) -> OwnView:
        from recon4d.fill.layers import OwnView

        moving = self.workspace.motion(name).mask
        return OwnView(self.trajectory[name], self.workspace.picture(name), self.workspace.depth_mesh(name), moving)

    def _donors(self, name: str, own: OwnView) -> list[Donor]:
        from recon4d.fill.other_frames import choose_donors

        surface = own.mesh.surface
        if not surface.valid.any():
            return []
        depth = float(np.median(surface.depth[surface.valid]))
        chosen = choose_donors(self.trajectory, name, self.options.donors, depth)
        donors = [self._donor(other) for other in chosen]
        return donors if self._background is None else [*donors, self._background]

    def _donor(self, name: str) -> Donor:
        from recon4d.fill.other_frames import frame_donor
        from recon4d.stages.working_pictures import no_part_of_background

        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        mesh, left_out = self.workspace.depth_mesh(name), no_part_of_background(self.workspace, name, RIM)
        still = np.ones(mesh.surface.depth.shape, dtype=bool) if left_out is None else ~left_out
        made = frame_donor(mesh, self.workspace.picture(name), self.trajectory[name], still)
        with self._lock:
            self._kept[name] = made
            while len(self._kept) > 1 and sum(donor.nbytes for donor in self._kept.values()) > CACHE_BYTES:
                self._kept.popitem(last=False)
        return made


def _usual_spacing(points: np.ndarray) -> float:
    """Typical distance of neighbours in a cloud, scene units."""
    from recon4d.geometry.point_squares import local_spacing

    return float(np.median(local_spacing(points))) if len(points) > 1 else 1.0


def make_layers(
    workspace: Workspace,
    name: str,
    edges: Sequence[float] | None = None,
    options: LayersOptions | None = None,
    filler: Filler | None = None,
) -> LayeredDepth:
    """The layers of one frame. For several frames keep a `LayerMaker`: it is much faster.

    Args:
        edges: where slabs meet, see `clip_edges`; None to find them.
    """
    return LayerMaker(workspace, options, edges, filler).make(name).layered


def run(
    workspace: Workspace,
    options: LayersOptions,
    progress: Progress | None = None,
    filler: Filler | None = None,
    filler_key: object = None,
) -> StageRecord:
    """Write the layers of all frames.

    Args:
        filler: one of your own; None for that of the options, or none.
        filler_key: what identifies your own filler's results, such as its model and prompt; JSON.
    """
    check_options(options)
    reads = (workspace.surface_unit(), "motion", "fuse", "align", "poses")
    found = find_fill_model(options.fill_model) if filler is None and options.fill_model.model else None
    if found is not None:
        filler_key = found.key()

    def work(part: StagePart) -> dict[str, object]:
        return _work(workspace, options, filler or (found and load_filler(options.fill_model, found)), part)

    return execute(workspace, "layers", VERSION, options, reads, work, progress, filler_key)


def run_verb(workspace: Workspace, options: LayersOptions, progress: Progress) -> list[str]:
    """For the command line; returns what is told at the end."""
    record = run(workspace, options, progress)
    return told(record, workspace.unit_dir("layers"))


def told(record: StageRecord, folder: object) -> list[str]:
    """The result in sentences."""
    found = record.summary
    edges = ", ".join(f"{edge:.3g}" for edge in found["edges"]) or "nowhere"
    lines = [f"layers: {found['frames']} frames in {found['layers']} layers, cut at z = {edges}"]
    for number, share in enumerate(found["shares"]):
        steps = " -> ".join(f"{100 * share[step]:.1f}" for step in share)
        lines.append(f"  layer {number}: open {steps} % (start, other frames, diffusion, classical)")
    return [*lines, f"  {folder}"]


def _work(workspace: Workspace, options: LayersOptions, filler: Filler | None, part: StagePart) -> dict[str, object]:
    from recon4d.formats.layer_files import write_layer_depths, write_layer_pictures, write_layers
    from recon4d.stages.layers_page import write_layers_page
    from recon4d.stages.working_pictures import usual_workers

    maker = LayerMaker(workspace, options, filler=filler)
    names = maker.trajectory.names[:: options.every]
    camera = maker.trajectory.cameras[0]
    # A model has one set of weights and one device.
    workers = (
        1 if filler is not None else options.workers or usual_workers(camera.width * camera.height, BYTES_PER_PIXEL)
    )
    (part.path / "shares").mkdir(exist_ok=True)

    def write(name: str, built: Built) -> None:
        write_layers(part.path / f"{name}.npz", built.layered)
        if options.png:
            write_layer_pictures(part.path, name, built.layered)
        if options.exr:
            write_layer_depths(part.path, name, built.layered)
        facts = {"donors": built.donors, "shares": [asdict(share) for share in built.shares]}
        (part.path / "shares" / f"{name}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")

    part.each(names, "taking apart", maker.make, write, workers)
    facts = [json.loads((part.path / "shares" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    write_layers_page(part.path / "layers.png", workspace, part.path, names)
    return {
        "frames": len(names),
        "layers": len(maker.edges) + 1,
        "edges": [float(edge) for edge in maker.edges],
        "donors": round(float(np.mean([fact["donors"] for fact in facts])), 2),
        "shares": _mean_shares([fact["shares"] for fact in facts]),
    }


def _mean_shares(frames: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Per layer the mean over the frames."""
    return [
        {step: round(float(np.mean([frame[number][step] for frame in frames])), 5) for step in frames[0][number]}
        for number in range(len(frames[0]))
    ]
