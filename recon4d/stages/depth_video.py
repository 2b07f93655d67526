"""Depth by DepthCrafter: a video diffusion model that sees the recorded frames window by window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from recon4d.errors import DepthError, InputError
from recon4d.formats.options_toml import read_options_toml
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.stage_part import STATE
from recon4d.stages.common import NOT_IN_KEY, PATH_OR_HUB_ID, check_range
from recon4d.stages.depth_check import confirmed_kind
from recon4d.stages.depth_frames import DepthFrames, at_picture_size
from recon4d.stages.depth_options import DEPTHCRAFTER, DepthOptions, fields_of
from recon4d.stages.frames import made_from
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.depth.depthcrafter import ClipDenoiser, DiffusionSettings, Read, Seam, WindowDepth, WindowState
    from recon4d.depth.depthcrafter_model import Placement
    from recon4d.depth.model_files import ModelFiles

TOO_LARGE = (
    "lower --depth.max-res or --depth.window, or take --depth.offload sequential (windows that are done are kept where "
    "only that changes)"
)
SAME_EVERYWHERE = 1e-6  # of the range 0..1


@dataclass(frozen=True)
class CrafterDepth:
    """What of the depth options concerns depth/depthcrafter."""

    version: ClassVar[int] = 1

    model: tuple[str, ...] = field(metadata=PATH_OR_HUB_ID)
    base_model: str = field(metadata=PATH_OR_HUB_ID)
    device: Literal["auto", "cpu", "cuda", "mps"] = field(metadata=NOT_IN_KEY)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = field(metadata=NOT_IN_KEY)  # resolved, in extra_key
    offload: Literal["none", "model", "sequential"] = field(metadata=NOT_IN_KEY)
    steps: int
    guidance: float
    window: int
    overlap: int
    seed: int
    max_res: int
    decode_chunk: int
    noise_strength: float
    pixels: Literal["recorded", "source"]
    resolution: Literal["source", "model"]

    @classmethod
    def of(cls, options: DepthOptions) -> CrafterDepth:
        return replace(cls(**fields_of(cls, options)), model=(options.model_of(DEPTHCRAFTER),))

    def check(self) -> None:
        from recon4d.depth.devices import check_place
        from recon4d.depth.model_files import check_model

        check_range("depth", "steps", self.steps, low=1)
        check_range("depth", "guidance", self.guidance, low=0)
        check_range("depth", "max_res", self.max_res, low=64)
        check_range("depth", "decode_chunk", self.decode_chunk, low=1)
        check_range("depth", "noise_strength", self.noise_strength, low=0)
        check_range("depth", "seed", self.seed, low=0, high=2**64 - 1)
        self.settings()
        check_model(self.model[0])
        check_model(self.base_model)
        check_place(self.device, self.dtype)

    def settings(self) -> DiffusionSettings:
        """The same for the model. Raises OptionsError."""
        from recon4d.depth.depthcrafter import DiffusionSettings

        return DiffusionSettings(**fields_of(DiffusionSettings, self))

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        from recon4d.depth.depthcrafter_model import BASE_FILES, UNET_FILES
        from recon4d.depth.model_files import identity_of

        before = before or {}
        return {
            "model": identity_of(self.model[0], UNET_FILES, before.get("model")),
            "base_model": identity_of(self.base_model, BASE_FILES, before.get("base_model")),
            "dtype": before.get("dtype") or self.placement().dtype,
        }

    def files(self) -> tuple[ModelFiles, ModelFiles]:
        """Those of the UNet, and of the base model. Raises InputError."""
        from recon4d.depth.depthcrafter_model import BASE_FILES, UNET_FILES
        from recon4d.depth.model_files import find_model

        return find_model(self.model[0], UNET_FILES), find_model(self.base_model, BASE_FILES)

    def placement(self) -> Placement:
        """Where to run. Raises OptionsError."""
        from recon4d.depth.depthcrafter_model import Placement
        from recon4d.depth.devices import chosen_device, chosen_dtype

        device = chosen_device(self.device)
        return Placement(device, chosen_dtype(self.dtype, device), self.offload)

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        from recon4d.depth.depthcrafter import ClipDenoiser
        from recon4d.depth.depthcrafter_input import working_size
        from recon4d.depth.depthcrafter_model import load_depthcrafter
        from recon4d.depth.devices import fitting_memory
        from recon4d.depth.model_terms import terms_of

        frames, placement, (unet, base) = DepthFrames(workspace, part), self.placement(), self.files()
        names = frames.recording.names
        size = working_size(*frames.size, self.max_res)
        read = self._pixels(workspace, frames, size)
        terms, base_terms = terms_of(unet.title, unet.place), terms_of(base.title, base.place)
        part.progress.say(f"  {terms.sentence()}")
        part.progress.say(f"  base model: {base_terms.sentence()}")
        with fitting_memory(TOO_LARGE):
            model = load_depthcrafter(unet.place, base.place, placement)
        clip = ClipDenoiser(
            model,
            read,
            (len(names), size[1], size[0]),
            self.settings(),
        )
        walk = _Walk(frames, part, clip, self.resolution == "source")
        part.progress.say(
            f"  {_counted(len(names), 'frame')} at {size[0]}x{size[1]} in {_counted(len(clip.plan), 'window')} on "
            f"{placement.device} ({placement.dtype})"
        )
        walk.go_on()
        confirmed_kind(workspace, part, DepthKind.AFFINE_DISPARITY, told=True)
        windows = frames.write_windows([names[first:end] for first, end in clip.plan]) if len(clip.plan) > 1 else 0
        return walk.summary() | {
            "windows": windows,
            "remarks": [],
            "size": f"{size[0]}x{size[1]}",
            "device": placement.device,
            "dtype": placement.dtype,
            **terms.record(),
            "base_model": base.title,
            "base_licence": base_terms.licence,
            "base_commercial_use": base_terms.commercial_use,
        }

    def _pixels(self, workspace: Workspace, frames: DepthFrames, size: tuple[int, int]) -> Read:
        """What reads frames at the working size. Raises InputError where the video cannot be decoded anew."""
        from recon4d.depth.depthcrafter_input import VideoPixels, resized_pictures

        recording = frames.recording
        if self.pixels == "recorded":
            return lambda first, end: resized_pictures([frames.picture(n) for n in recording.names[first:end]], size)
        facts = workspace.record("frames").summary
        source = Path(read_options_toml(workspace.root / "options.toml").get("input", {}).get("path", ""))
        if facts["kind"] != "video" or not source.is_file():
            raise InputError(
                f"depth: --depth.pixels source reads the video anew, and {source} is none: leave the option out"
            )
        if not made_from(workspace, source):
            raise InputError(
                f"depth: {source} is no longer the video that the frames were made from: run recon4d frames again"
            )
        if facts.get("rotation_deg"):
            raise InputError(
                f"depth: {source} is stored turned by {facts['rotation_deg']} degrees, and the authors' program does "
                "not turn it back: leave --depth.pixels source out"
            )
        return VideoPixels(source, [frame.source_index for frame in recording.frames], size).read


def _counted(count: int, what: str) -> str:
    return f"one {what}" if count == 1 else f"{count} {what}s"


class _Walk:
    """Through the windows of a clip: what is final is written, and what is kept in between lies in a file."""

    def __init__(self, frames: DepthFrames, part: StagePart, clip: ClipDenoiser, to_source: bool) -> None:
        self._frames, self._part, self._clip, self._to_source = frames, part, clip, to_source
        self._posed = set(frames.names)
        self._flat = 0  # frames with the same number everywhere
        self._seams: list[tuple[int, int, float]] = []  # shared frames of two windows, and how far they agree, 0..1
        self._maps: dict[int, np.ndarray] = {}  # confidence of compared frames, by row, as (h, w)

    def go_on(self) -> None:
        """Work on the windows that are not done yet. Raises DepthError where a window does not fit into memory."""
        from recon4d.depth.devices import fitting_memory

        state = self._read_state()
        units, windows = self._clip.work_of_window(), len(self._clip.plan)
        if state is not None:
            self._part.progress.say(f"  {state.done} of {windows} windows are done already")
        done = state.done if state else 0
        label = f"steps of {_counted(windows, 'window')}"  # encoding and decoding count as one each
        with fitting_memory(TOO_LARGE), self._part.progress.bar(label, units * windows, units * done) as bar:
            for window in self._clip.windows(state, bar.advance):
                self._write(window)
                self._write_state(window.state)

    def summary(self) -> dict[str, object]:
        """Kind, frames, and how far the windows agree; warns of what looks wrong."""
        count = len(self._frames.names)
        if self._flat:
            self._part.warn(
                f"depth: depthcrafter: {self._flat} of {count} frames have the same depth everywhere: look at their "
                "pictures, and at the model"
            )
        agreement = [round(seam[2], 3) for seam in self._seams]
        return {
            "kind": DepthKind.AFFINE_DISPARITY.value,
            "sensor": False,
            "frames": count,
            "agreement_of_windows": agreement,
        }

    def _write(self, window: WindowDepth) -> None:
        names = self._frames.recording.names
        for first, frames in [(window.first, window.disparity)] + ([window.seam[1:3]] if window.seam else []):
            bad = ~np.isfinite(frames).all(axis=(1, 2))
            if bad.any():
                raise DepthError(
                    f"depth: depthcrafter: the network gives no numbers (NaN) for frame {names[first + bad.argmax()]}: "
                    "take --depth.dtype float32, or check the weights and --depth.noise-strength"
                )
        if window.seam is not None:
            self._take_seam(window.seam)
        for row, disparity in enumerate(window.disparity, window.first):
            confidence = self._maps.pop(row, None)
            if names[row] not in self._posed:
                continue
            if confidence is None:
                usual = min((share for first, end, share in self._seams if first <= row < end), default=1.0)
                confidence = np.full(disparity.shape, usual, dtype=np.float32)
            self._flat += float(np.ptp(disparity)) < SAME_EVERYWHERE
            depth = _depth_map(disparity, confidence)
            if self._to_source:
                depth = at_picture_size(depth, self._frames.picture(names[row]))
            self._frames.write(names[row], depth)

    def _take_seam(self, seam: Seam) -> None:
        """Write what two windows said of the same frames, and remember how far they agree."""
        maps = seam.confidence()
        self._seams.append((*seam.shared, float(np.median(maps))))
        for row, confidence, earlier, later in zip(range(seam.first, len(maps) + seam.first), maps, *seam[2:]):
            self._maps[row] = confidence
            name = self._frames.recording.names[row]
            if name in self._posed:
                self._frames.write_overlap(name, _depth_map(earlier, confidence), _depth_map(later, confidence))

    def _write_state(self, state: WindowState) -> None:
        from recon4d.formats.arrays import write_arrays

        rows = sorted(self._maps)
        half_written = self._part.path / f"{STATE}.new"
        write_arrays(
            half_written,
            counts=np.array([state.done, state.decoded, self._flat]),
            latents=state.latents,
            seams=np.array(self._seams, dtype=np.float64).reshape(-1, 3),
            rows=np.array(rows, dtype=np.int64),
            maps=np.array([self._maps[row] for row in rows], dtype=np.float32),
        )
        half_written.replace(self._part.path / STATE)

    def _read_state(self) -> WindowState | None:
        """What an interrupted run left; None where there is none, or it is damaged: all windows are done again."""
        from recon4d.depth.depthcrafter import WindowState
        from recon4d.formats.arrays import read_arrays

        try:
            kept = read_arrays(self._part.path / STATE)
            done, decoded, self._flat = map(int, kept["counts"])
            self._seams = [(int(first), int(end), float(share)) for first, end, share in kept["seams"]]
            self._maps = dict(zip(map(int, kept["rows"]), kept["maps"]))
            return WindowState(done, decoded, kept["latents"])
        except (InputError, KeyError, ValueError):
            return None


def _depth_map(disparity: np.ndarray, confidence: np.ndarray) -> DepthMap:
    everywhere = np.ones(disparity.shape, dtype=bool)
    provenance = np.full(disparity.shape, Provenance.FITTED, dtype=np.uint8)
    return DepthMap(DepthKind.AFFINE_DISPARITY, disparity, everywhere, confidence, provenance)
