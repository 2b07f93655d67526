"""Depth of single pictures by a network: of the Hugging Face library, or in an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np

from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.stages.common import NOT_IN_KEY, PATH_OR_HUB_ID, check_range, content_hash
from recon4d.stages.depth_check import confirmed_kind
from recon4d.stages.depth_files import check_metres_per_value
from recon4d.stages.depth_frames import DepthFrames, at_picture_size
from recon4d.stages.depth_options import KINDS, ONNX, TRANSFORMERS, DepthOptions, fields_of
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.depth.model_files import ModelFiles
    from recon4d.depth.model_terms import ModelTerms


class PictureNetwork(Protocol):
    """A network that sees one picture at a time."""

    kind: DepthKind
    remarks: tuple[str, ...]
    device: str
    field_of_view_deg: float | None  # across the picture, median so far; None where the network does not tell

    def estimate(self, pictures: Sequence[np.ndarray]) -> list[DepthMap]:
        """Depth of each (H, W, 3) uint8 RGB picture, on a grid of the network's own size that covers it."""


@dataclass(frozen=True)
class TransformersDepth:
    """What of the depth options concerns depth/transformers."""

    version: ClassVar[int] = 1

    kind: KINDS
    device: Literal["auto", "cpu", "cuda", "mps"] = field(metadata=NOT_IN_KEY)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = field(metadata=NOT_IN_KEY)  # resolved, in extra_key
    resolution: Literal["source", "model"]
    batch: int
    model: tuple[str, ...] = field(metadata=PATH_OR_HUB_ID)

    @classmethod
    def of(cls, options: DepthOptions) -> TransformersDepth:
        return replace(cls(**fields_of(cls, options)), model=(options.model_of(TRANSFORMERS),))

    def check(self) -> None:
        from recon4d.depth.devices import check_place
        from recon4d.depth.model_files import check_model

        check_range("depth", "batch", self.batch, low=1)
        check_model(self.model[0])
        check_place(self.device, self.dtype)

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        from recon4d.depth.devices import chosen_device, chosen_dtype
        from recon4d.depth.model_files import identity_of
        from recon4d.depth.transformers_depth import FILES

        before = before or {}
        return {
            "model": identity_of(self.model[0], FILES, before.get("model")),
            "dtype": before.get("dtype") or chosen_dtype(self.dtype, chosen_device(self.device)),
        }

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        from recon4d.depth.model_terms import terms_of
        from recon4d.depth.transformers_depth import TransformersRequest, open_transformers_depth

        files = self._files()
        request = TransformersRequest(files.place, self.device, self.dtype, _told(self.kind))
        terms = terms_of(files.title, files.place)
        return _walk(workspace, part, lambda: open_transformers_depth(request), terms, self)

    def _files(self) -> ModelFiles:
        from recon4d.depth.model_files import find_model
        from recon4d.depth.transformers_depth import FILES

        return find_model(self.model[0], FILES)


@dataclass(frozen=True)
class OnnxDepth:
    """What of the depth options concerns depth/onnx."""

    version: ClassVar[int] = 1

    kind: KINDS
    metres_per_value: float | None
    device: Literal["auto", "cpu", "cuda", "mps"] = field(metadata=NOT_IN_KEY)
    resolution: Literal["source", "model"]
    batch: int
    preset: str | None
    input_size: str | None
    input_values: str | None
    model: tuple[str, ...] = field(metadata=PATH_OR_HUB_ID)

    @classmethod
    def of(cls, options: DepthOptions) -> OnnxDepth:
        return replace(cls(**fields_of(cls, options)), model=(options.model_of(ONNX) or "",))

    def check(self) -> None:
        from recon4d.depth.onnx_recipe import PRESETS, parse_size

        check_range("depth", "batch", self.batch, low=1)
        check_metres_per_value(self.metres_per_value)
        if self.preset is not None and self.preset not in PRESETS:
            raise OptionsError(f"depth: --depth.preset is '{self.preset}', known are {', '.join(sorted(PRESETS))}")
        if self.input_size is not None:
            parse_size(self.input_size)
        if not self._path().is_file():
            raise InputError(
                f"depth: there is no file {self._path()}: correct --depth.model, an .onnx file is expected"
            )

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        from recon4d.depth.onnx_recipe import sidecar_of

        beside = sidecar_of(self._path())
        return [content_hash(self._path()), None if beside is None else content_hash(beside)]

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        from recon4d.depth.model_terms import terms_of
        from recon4d.depth.onnx_depth import OnnxRequest, open_onnx_depth
        from recon4d.depth.onnx_recipe import parse_size

        request = OnnxRequest(
            path=self._path(),
            device=self.device,
            kind=_told(self.kind),
            preset=self.preset,
            input_size=None if self.input_size is None else parse_size(self.input_size),
            input_values=self.input_values,
            metres_per_value=self.metres_per_value,
        )
        terms = terms_of(self._path().name, self._path())
        return _walk(workspace, part, lambda: open_onnx_depth(request), terms, self)

    def _path(self) -> Path:
        return Path(self.model[0])


def _told(kind: str) -> DepthKind | None:
    return None if kind == "auto" else DepthKind(kind)


def _walk(
    workspace: Workspace,
    part: StagePart,
    opened: Callable[[], PictureNetwork],
    terms: ModelTerms,
    options: TransformersDepth | OnnxDepth,
) -> dict[str, object]:
    """Estimate and write the depth of all frames, batch by batch."""
    from recon4d.depth.devices import fitting_memory

    with fitting_memory("choose another --depth.dtype, a smaller model, or --depth.device cpu"):
        frames, network = DepthFrames(workspace, part), opened()
    for remark in (*network.remarks, terms.sentence()):
        part.progress.say(f"  {remark}")
    names = frames.names
    # Batches are the same ones after an interruption: how many pictures run together changes the last bits.
    batches = [names[first : first + options.batch] for first in range(0, len(names), options.batch)]
    with part.progress.bar("estimating depth", len(names)) as bar:
        for batch in batches:
            if not all(part.is_done(name) for name in batch):
                pictures = [frames.picture(name) for name in batch]
                for name, picture, depth in zip(batch, pictures, network.estimate(pictures)):
                    _refuse_empty(name, depth)
                    frames.write(name, at_picture_size(depth, picture) if options.resolution == "source" else depth)
                    part.mark_done(name)
            bar.advance(len(batch))
    kind = confirmed_kind(workspace, part, network.kind, told=options.kind != "auto")
    return {
        "kind": kind.value,
        "sensor": False,
        "frames": len(names),
        "windows": 0,
        "remarks": list(network.remarks),
        "device": network.device,
        "field_of_view_deg": network.field_of_view_deg,
        **terms.record(),
    }


def _refuse_empty(name: str, depth: DepthMap) -> None:
    if not depth.valid.any():
        raise DepthError(
            f"depth: frame {name}: the network gives the same number everywhere, or none that can be a depth: check "
            "the model, and what it is fed (--depth.preset, --depth.input-values)"
        )
