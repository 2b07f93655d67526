"""A diffusion model that paints holes: its options, its files, and the function that the verbs call."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recon4d.errors import InputError, OptionsError, Recon4dError, first_line, require
from recon4d.stages.common import NOT_IN_KEY, PATH_OR_HUB_ID, check_range

if TYPE_CHECKING:
    from recon4d.depth.devices import Asker
    from recon4d.depth.model_files import ModelFiles, Wanted
    from recon4d.fill.inpainting import Painter, Recipe

INDEX = "model_index.json"
# Where the parts of a pipeline come from. Anything else is code that lies beside the weights, which is not run.
LIBRARIES = {
    "diffusers": "diffusion_pytorch_model",
    "transformers": "model",
    "stable_diffusion": "model",  # diffusers' own, of the safety checker
}
WORDS = ("text_encoder", "tokenizer")
PictureFiller = Callable[[np.ndarray, np.ndarray], np.ndarray]  # color (H, W, 3) uint8, mask (H, W) bool -> color
VideoFiller = Callable[[np.ndarray, np.ndarray], np.ndarray]  # colors (T, H, W, 3), masks (T, H, W) -> colors


@dataclass(frozen=True)
class FillModelOptions:
    """The diffusion model that paints what nothing of the scene tells."""

    model: str = field(default="", metadata=PATH_OR_HUB_ID)
    """Folder with a model that repaints, as diffusers saves it, or its id on the hub; without it no model is used."""
    prompt: str = ""
    """What is to be seen in the holes; without it the model goes by what is around them."""
    negative_prompt: str = ""
    """What is not to be seen there."""
    steps: int | None = None
    """Steps of the diffusion; without it as the kind of model is usually run."""
    guidance: float | None = None
    """How closely the prompt is followed; without it as the kind of model is usually run."""
    seed: int = 0
    """Of the noise: the same number paints the same."""
    device: Literal["auto", "cpu", "cuda", "mps"] = field(default="auto", metadata=NOT_IN_KEY)
    """Where the model runs; auto is the GPU where there is one."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = field(default="auto", metadata=NOT_IN_KEY)
    """Numbers it runs with; auto is float32 on a CPU, else the 16 bits that the kind of model was made for."""
    max_side: int | None = None
    """Pixels; larger pictures are painted at this size. Without it at the size the kind of model was made for."""

    def check(self) -> None:
        """Refuse what cannot work, without loading anything large. Raises InputError or OptionsError."""
        from recon4d.depth.devices import check_place
        from recon4d.depth.model_files import check_model

        if self.steps is not None:
            check_range("fill", "steps", self.steps, low=1)
        if self.guidance is not None:
            check_range("fill", "guidance", self.guidance, low=0)
        if self.max_side is not None:
            check_range("fill", "max_side", self.max_side, low=16)
        check_range("fill", "seed", self.seed, low=0, high=2**63 - 1)
        if not self.model:
            raise OptionsError("fill: no model is named: give --fill.model a folder or an id on the hub")
        check_place(self.device, self.dtype, _asker())
        check_model(self.model, _asker())


@dataclass(frozen=True)
class FoundModel:
    """A pipeline on disk and how it is to be run."""

    files: ModelFiles
    kind: str  # class of the pipeline that repaints
    device: str
    dtype: str

    @property
    def recipe(self) -> Recipe:
        from recon4d.fill.inpainting import RECIPES

        return RECIPES[self.kind]

    def key(self) -> dict[str, str]:
        """What of it can change the result, for the key of a unit; prompt, seed and sizes are in the options."""
        return {"model": self.files.identity, "kind": self.kind, "dtype": self.dtype}


def find_fill_model(options: FillModelOptions) -> FoundModel:
    """Check the options and find the model's files, downloaded where they are not here.

    Raises:
        InputError: there is no such model, it lacks parts, or its kind is not supported.
        OptionsError: a value that cannot be.
    """
    from recon4d.depth.devices import chosen_device, chosen_dtype
    from recon4d.depth.model_files import Wanted, find_model
    from recon4d.fill.inpainting import RECIPES

    options.check()
    asker = _asker()
    device = chosen_device(options.device, asker)
    index = find_model(options.model, Wanted(((INDEX,),)), asker)
    content = _index(index.place)
    kind = _kind(content, options.model)
    dtype = options.dtype
    if dtype == "auto" and device == "cuda":
        dtype = RECIPES[kind].half
    dtype = chosen_dtype(dtype, device, asker)
    here = Path(options.model).expanduser().exists()
    wanted = _wanted(content, options.model, dtype)
    files = find_model(options.model if here else index.identity, wanted, asker)
    if here:
        _refuse_incomplete(files, wanted)
    return FoundModel(files, kind, device, dtype)


def load_filler(options: FillModelOptions, found: FoundModel | None = None) -> PictureFiller:
    """The function that paints the holes of one picture. A model for videos paints a video of one frame.

    Raises as `find_fill_model` does; the function raises InputError where the model fails on a picture, and
    Recon4dError where memory does not suffice.
    """
    painter = _painter(options, found or find_fill_model(options))

    def fill(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with _failing(color.shape):
            return painter.picture(color, mask)

    return fill


def load_video_filler(options: FillModelOptions, found: FoundModel | None = None) -> VideoFiller:
    """The function that paints the holes of a video: together with a model for videos, else picture by picture.

    Raises as `load_filler` does.
    """
    painter = _painter(options, found or find_fill_model(options))

    def fill(colors: np.ndarray, masks: np.ndarray) -> np.ndarray:
        with _failing(colors.shape[1:]):
            return painter.video(colors, masks)

    return fill


def _asker() -> Asker:
    from recon4d.depth.devices import Asker

    return Asker("fill")


def _index(place: Path) -> dict[str, object]:
    path = place / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"fill: {path} cannot be read ({first_line(error)}): get the model again") from error
    if not isinstance(content, dict):
        raise InputError(f"fill: {path} tells no parts of a pipeline: get the model again")
    return content


def _kind(content: dict[str, object], model: str) -> str:
    """The class that repaints with these parts."""
    import diffusers

    from recon4d.fill.inpainting import ALSO, RECIPES

    told = content.get("_class_name")
    kind = ALSO.get(told, told) if isinstance(told, str) else None
    if kind not in RECIPES or not hasattr(diffusers, kind):
        raise InputError(
            f"fill: the model {model} is a pipeline of the class {told}, and those that can paint here, as far as the "
            f"installed diffusers has them, are {', '.join(sorted(RECIPES))}: choose a model of one of them"
        )
    return kind


def _wanted(content: dict[str, object], model: str, dtype: str) -> Wanted:
    """The files of all parts of a pipeline, weights in one precision and in the safetensors format."""
    from recon4d.depth.model_files import Wanted

    needed, also = [(INDEX,)], []
    parts = {name: value for name, value in content.items() if isinstance(value, list) and len(value) == 2}
    lacking = [name for name in WORDS if parts.get(name, [None])[0] is None]
    if lacking:
        raise InputError(
            f"fill: the model {model} was saved without {' and '.join(lacking)}, so that it cannot read a prompt: get "
            "the whole model"
        )
    for name, (library, _) in parts.items():
        if library is None:
            continue
        if library not in LIBRARIES:
            raise InputError(
                f"fill: the part {name} of the model {model} comes with code of its own ({library}), which is not run: "
                "choose a model whose parts are all of diffusers and transformers"
            )
        if name.startswith("tokenizer"):
            needed.append((f"{name}/tokenizer_config.json",))
            also += [f"{name}/*.{ending}" for ending in ("json", "txt", "model", "jinja")]
        elif name == "scheduler":
            needed.append((f"{name}/scheduler_config.json",))
        elif name in ("feature_extractor", "image_processor"):
            needed.append((f"{name}/preprocessor_config.json",))
        else:
            needed += [(f"{name}/config.json",), _weights(name, LIBRARIES[library], dtype)]
            also += [f"{name}/*.safetensors.index*.json"]
    return Wanted(tuple(needed), tuple(also))


def _weights(part: str, stem: str, dtype: str) -> tuple[str, ...]:
    """Files of weights in the order in which they are wanted: one file, or one in several pieces."""
    full = (f"{part}/{stem}.safetensors", f"{part}/{stem}-*.safetensors")
    half = (f"{part}/{stem}.fp16.safetensors", f"{part}/{stem}.fp16-*.safetensors")
    return (*half, *full) if dtype == "float16" else (*full, *half)


def _refuse_incomplete(files: ModelFiles, wanted: Wanted) -> None:
    """A folder that lies here counts as found with any of its files: name the part that is not there."""
    for group in wanted.needed:
        if not any(any(files.place.glob(pattern)) for pattern in group):
            raise InputError(
                f"fill: the model {files.place} has no {' or '.join(group)}, and weights in other formats, which can "
                "run code, are not read: get the whole model"
            )


def _painter(options: FillModelOptions, found: FoundModel) -> Painter:
    from recon4d.fill.inpainting import Painter, Request

    request = Request(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        steps=options.steps,
        guidance=options.guidance,
        max_side=options.max_side,
        seed=options.seed,
    )
    if request.negative_prompt and not found.recipe.negative:
        raise OptionsError(f"fill: {found.kind} takes no negative prompt: leave --fill.negative-prompt out")
    return Painter(_pipeline(found), found.recipe, request)


def _pipeline(found: FoundModel) -> Callable[..., object]:
    """The pipeline on its device, without bars of its own."""
    import diffusers
    import torch

    from recon4d.depth.model_files import quiet_loading

    if found.kind.startswith("Wan"):
        require("ftfy", "fill")  # its pipeline cleans every prompt with it, and fails without
    place = found.files.place
    dtype = getattr(torch, found.dtype)
    precision = {"torch_dtype": dtype}
    if found.recipe.video and found.dtype != "float32":
        precision["torch_dtype"] = {"vae": torch.float32, "default": dtype}  # as the model's card asks for
    if _halves(found):
        precision["variant"] = "fp16"
    try:
        with quiet_loading("diffusers", "transformers"), warnings.catch_warnings(), _memory():
            warnings.simplefilter("ignore", FutureWarning)  # of names that later releases change
            pipeline = getattr(diffusers, found.kind).from_pretrained(
                str(place), local_files_only=True, use_safetensors=True, **precision
            )
            pipeline.set_progress_bar_config(disable=True)
            return pipeline.to(found.device)
    except Recon4dError:
        raise
    except Exception as error:  # diffusers, transformers, safetensors and PyTorch each have errors of their own
        raise InputError(
            f"fill: {place} is not a usable {found.kind} ({first_line(error)}): get the model again"
        ) from error


def _halves(found: FoundModel) -> bool:
    """Whether the weights of 16 bits are read: with such numbers, or where there are no others."""
    names = [file.name for file in found.files.place.glob("*/*.safetensors")]
    halves = [name for name in names if ".fp16" in name]
    return bool(halves) and (found.dtype == "float16" or len(halves) == len(names))


@contextmanager
def _memory() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Recon4dError(
            "fill: the memory of the device does not suffice: choose another --fill.dtype, a smaller "
            "--fill.max-side or model, or --fill.device cpu"
        ) from error


@contextmanager
def _failing(shape: tuple[int, ...]) -> Iterator[None]:
    """Say which picture a model fails on; the library itself keeps quiet."""
    from recon4d.depth.model_files import quiet_loading

    with _memory(), quiet_loading("diffusers"):
        try:
            yield
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            if "OutOfMemory" in type(error).__name__:  # a RuntimeError too, and told above
                raise
            raise InputError(
                f"fill: the model fails on pictures of {shape[1]}x{shape[0]} pixels ({first_line(error)}): choose "
                "another model, or another --fill.max-side"
            ) from error
