"""Holes in pictures painted by a diffusion pipeline: what each class of pipeline is fed, and what of its result counts.

Pixels outside the holes stay as they are, to the bit: a pipeline sends the whole picture through its autoencoder, which
changes them too, so that what it painted is laid into the holes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.geometry.picture_sizes import at_size

CELL = 8  # pixels; the latents of every pipeline here are so far apart
GREY = 128  # what a video pipeline expects to find in holes
SEAM = 6  # pixels into a hole within which its colours are brought to those around it


@dataclass(frozen=True)
class Recipe:
    """What a class of pipeline is fed. White of a mask means repaint in all of them."""

    multiple: int  # pixels; both sides of what it is fed divide by it
    min_side: int  # pixels; smaller pictures are enlarged, for it was trained on none
    max_side: int  # pixels; larger pictures are made smaller
    steps: int
    guidance: float
    half: str = "bfloat16"  # name of the dtype of 16 bits that it was made for
    guidance_word: str = "guidance_scale"
    unguided: float = 1.0  # guidance with which the negative prompt is not looked at
    negative: bool = True  # takes a negative prompt
    video: bool = False
    max_frames: int = 1  # of a video at once; one more than a multiple of four
    more: Mapping[str, object] = field(default_factory=dict)  # further arguments


WHOLLY = {"strength": 1.0}  # what lies in a hole is not looked at
# By the class of the pipeline. Steps and guidance are those of the models' cards.
RECIPES: dict[str, Recipe] = {
    "StableDiffusionInpaintPipeline": Recipe(8, 384, 768, 30, 7.5, "float16", more=WHOLLY),
    "StableDiffusionXLInpaintPipeline": Recipe(8, 768, 1280, 30, 7.0, "float16", more=WHOLLY),
    "FluxFillPipeline": Recipe(16, 512, 1280, 50, 30.0, negative=False, more=WHOLLY),
    "Flux2KleinInpaintPipeline": Recipe(16, 512, 1280, 4, 1.0, negative=False, more=WHOLLY),
    "QwenImageInpaintPipeline": Recipe(
        16, 512, 1280, 50, 4.0, guidance_word="true_cfg_scale", more={**WHOLLY, "guidance_scale": None}
    ),
    "ZImageInpaintPipeline": Recipe(16, 512, 1280, 9, 0.0, unguided=0.0, more=WHOLLY),
    "WanVACEPipeline": Recipe(16, 480, 832, 30, 5.0, video=True, max_frames=81),
}
# Models that were published for pictures from words, and whose parts are those of the class that repaints.
ALSO = {
    "StableDiffusionPipeline": "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLInpaintPipeline",
    "Flux2KleinPipeline": "Flux2KleinInpaintPipeline",
    "QwenImagePipeline": "QwenImageInpaintPipeline",
    "ZImagePipeline": "ZImageInpaintPipeline",
}


@dataclass(frozen=True)
class Request:
    """What is to be painted, and how."""

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = None  # None: as the recipe says, like the next two
    guidance: float | None = None
    max_side: int | None = None  # pixels
    seed: int = 0


@dataclass(frozen=True)
class Painter:
    """A pipeline of diffusers, or what is called like one, and the recipe of its class."""

    pipeline: Callable[..., object]
    recipe: Recipe
    request: Request = Request()

    def __post_init__(self) -> None:
        if self.request.negative_prompt and not self.recipe.negative:
            raise OptionsError("fill: this kind of model takes no negative prompt: leave --fill.negative-prompt out")

    def picture(self, color: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 RGB with the pixels of ``mask`` (H, W) bool painted; all others are the same.

        Raises:
            InputError: shapes do not fit, or the pipeline gives something that is no picture.
        """
        return self.video(color[None], mask[None])[0]

    def video(self, colors: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """A video (T, H, W, 3) uint8 RGB with the pixels of ``masks`` (T, H, W) bool painted.

        A pipeline for stills paints picture by picture, with the same noise. One for videos gets as many frames as it
        was made for; the next ones are fed together with the last that it has painted, so that these carry on.
        Raises InputError as `picture` does.
        """
        if colors.ndim != 4 or colors.shape[3] != 3 or colors.dtype != np.uint8 or masks.shape != colors.shape[:3]:
            raise InputError(
                f"fill: pictures {colors.shape} {colors.dtype} and holes {masks.shape} do not fit together: give "
                "(T, H, W, 3) uint8 and (T, H, W) bool"
            )
        painted, open_yet = colors.copy(), masks.astype(bool)
        for first, after in spans(len(colors), self.recipe.max_frames):
            window = slice(first, after)
            if open_yet[window].any():
                painted[window] = self._window(painted[window], open_yet[window])
                open_yet[window] = False
        return painted

    def _window(self, colors: np.ndarray, masks: np.ndarray) -> np.ndarray:
        height, width = masks.shape[1:]
        side = self.request.max_side or self.recipe.max_side
        size = fed_size((height, width), self.recipe, side)
        pictures = [_fed_picture(color, size, self.recipe.multiple) for color in colors]
        holes = [_fed_mask(mask, size, self.recipe.multiple) for mask in masks]
        if self.recipe.video:
            more = -(len(pictures) - 1) % 4  # its autoencoder takes one frame and then fours
            pictures += [pictures[-1]] * more
            holes += [holes[-1]] * more
        frames = self._call(pictures, holes)
        if frames is None:  # the model's own checker declined
            return colors
        fine = (at_size(frame[: size[0], : size[1]], (width, height)) for frame in frames[: len(colors)])
        return np.stack([laid_into(color, mask, frame) for color, mask, frame in zip(colors, masks, fine)])

    def _call(self, pictures: list[np.ndarray], holes: list[np.ndarray]) -> np.ndarray | None:
        """(T, h, w, 3) float32, 0 to 255, of one call; None where the safety checker of the model withheld it."""
        import torch
        from PIL import Image

        height, width = holes[0].shape
        masks = [Image.fromarray(hole.astype(np.uint8) * 255) for hole in holes]
        if self.recipe.video:
            greyed = [np.where(hole[..., None], np.uint8(GREY), picture) for hole, picture in zip(holes, pictures)]
            what = {"video": [Image.fromarray(picture) for picture in greyed], "mask": masks, "num_frames": len(masks)}
        else:
            what = {"image": Image.fromarray(pictures[0]), "mask_image": masks[0]}
        out = self.pipeline(
            **what,
            **self._arguments(),
            height=height,
            width=width,
            generator=torch.Generator("cpu").manual_seed(self.request.seed),  # the same noise on every device
            output_type="np",
        )
        if any(getattr(out, "nsfw_content_detected", None) or ()):
            return None
        frames = np.asarray(out.frames[0] if self.recipe.video else out.images, dtype=np.float32)
        if frames.shape != (len(pictures), height, width, 3) or not np.isfinite(frames).all():
            raise InputError(
                f"fill: the model gives {frames.shape} for {len(pictures)} pictures of {width}x{height} pixels, or "
                "numbers that are none: choose another --fill.dtype or model"
            )
        return frames * 255

    def _arguments(self) -> dict[str, object]:
        request, recipe = self.request, self.recipe
        guidance = recipe.guidance if request.guidance is None else request.guidance
        if recipe.negative and request.prompt == request.negative_prompt:
            guidance = recipe.unguided  # the two would cancel, at twice the time
        words = {"prompt": request.prompt, recipe.guidance_word: guidance}
        if recipe.negative:
            words["negative_prompt"] = request.negative_prompt
        return {**words, "num_inference_steps": request.steps or recipe.steps, **recipe.more}


def spans(count: int, most: int) -> list[tuple[int, int]]:
    """First frame and the one after the last of each run: at most ``most`` frames, a fourth of it run before."""
    step = max(most - most // 4, 1)
    return [(first, min(first + most, count)) for first in range(0, max(count - (most - step), 1), step)]


def fed_size(shape: tuple[int, int], recipe: Recipe, max_side: int) -> tuple[int, int]:
    """(height, width) at which a picture is fed, before it is padded; sides change together, by rounding apart."""
    scale = min(max(recipe.min_side / min(shape), 1), max_side / max(shape))
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def _fed_picture(color: np.ndarray, size: tuple[int, int], multiple: int) -> np.ndarray:
    resized = np.rint(at_size(color, size[::-1])).astype(np.uint8)
    return _padded(resized, multiple, "symmetric")


def _fed_mask(mask: np.ndarray, size: tuple[int, int], multiple: int) -> np.ndarray:
    """Every cell that has some of a hole, wholly: a mask is looked at in one pixel of each cell."""
    touched = at_size(np.repeat(mask[..., None].astype(np.uint8), 3, axis=2), size[::-1])[..., 0] > 0
    whole = _padded(touched, multiple, "edge")
    height, width = whole.shape
    cells = whole.reshape(height // CELL, CELL, width // CELL, CELL).any(axis=(1, 3))
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)


def _padded(values: np.ndarray, multiple: int, mode: str) -> np.ndarray:
    """More rows below and columns on the right, until both sides divide by ``multiple``."""
    more = [(0, -side % multiple) for side in values.shape[:2]]
    return np.pad(values, more + [(0, 0)] * (values.ndim - 2), mode=mode)


def laid_into(color: np.ndarray, mask: np.ndarray, painted: np.ndarray, seam: int = SEAM) -> np.ndarray:
    """What was painted, in the pixels of ``mask`` (H, W) only, without a step of brightness where it begins.

    The painted picture differs from the known one around a hole too. That difference, smoothed, is added to the hole's
    first ``seam`` pixels, fading linearly inwards.

    Args:
        color: (H, W, 3) uint8, known outside the mask.
        painted: (H, W, 3) float32, 0 to 255, the whole picture.
    """
    import cv2

    known = (~mask).astype(np.float32)
    if mask.any() and known.any() and seam > 0:
        difference = (color - painted) * known[..., None]
        sigma = seam / 2
        near = cv2.GaussianBlur(known, (0, 0), sigma)[..., None]
        smooth = cv2.GaussianBlur(difference, (0, 0), sigma) / np.maximum(near, 1e-6)
        depth_px = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        painted = painted + smooth * np.clip(1 - depth_px / (seam + 1), 0, 1)[..., None]
    return np.where(mask[..., None], np.clip(np.rint(painted), 0, 255).astype(np.uint8), color)
