"""DepthCrafter window by window: disparity of a video of any length in the memory that one window takes.

Every window is encoded, denoised and decoded before the next one begins; only the frames it shares with the next one
are kept, as latents. The numbers are those of working on the whole clip at once, to the bit: the noise of a frame comes
from the same place of the same sequence, and the networks see frames in the same chunks.

Source: Hu et al., DepthCrafter, arXiv 2409.02095, section 3.3 (windows), and measurements of its public program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recon4d.depth.depthcrafter_model import FPS_ID, MOTION_ID
from recon4d.depth.windows import counted_windows
from recon4d.errors import DepthError, OptionsError

if TYPE_CHECKING:
    import torch

    from recon4d.depth.depthcrafter_model import DepthCrafterModel

ENCODE_CHUNK = 8  # frames the image encoder and the VAE see at once; counted from the first frame of the clip
SAME = 0.05  # of the range of disparity: two windows that differ by more are more likely wrong than right
COMPARED = 4  # frames of an overlap, at most, that are decoded as both windows have them: decoding takes time

Read = Callable[[int, int], np.ndarray]  # (first, end) -> (end - first, h, w, 3) uint8 RGB at the working size


@dataclass(frozen=True)
class DiffusionSettings:
    """How a clip is denoised; the defaults are those of the authors' program."""

    steps: int = 5
    guidance: float = 1.0  # up to 1: off
    window: int = 110
    overlap: int = 25
    seed: int = 42
    decode_chunk: int = 8
    noise_strength: float = 0.02

    def __post_init__(self) -> None:
        if self.steps < 1 or self.decode_chunk < 1 or not 0 <= self.seed < 2**64:
            raise OptionsError(
                f"depth: steps {self.steps}, decode_chunk {self.decode_chunk}, seed {self.seed}: at least one step and "
                "one frame, and a seed from 0 to 2^64 - 1 are expected"
            )
        if not all(math.isfinite(value) and value >= 0 for value in (self.guidance, self.noise_strength)):
            raise OptionsError(
                f"depth: guidance {self.guidance}, noise_strength {self.noise_strength}: finite numbers from 0 on are "
                "expected"
            )
        if self.window < 1 or not 0 <= self.overlap < self.window:
            raise OptionsError(
                f"depth: --depth.overlap is {self.overlap} and --depth.window {self.window}: an overlap from 0 to one "
                "less than the window is expected, or the windows make no headway"
            )


@dataclass(frozen=True)
class WindowState:
    """What must be kept between two windows, and of an interrupted run."""

    done: int  # windows
    decoded: int  # frames
    latents: np.ndarray  # (m, 4, h/8, w/8) float32 of the frames from `decoded` on, stitched


class Seam(NamedTuple):
    """What a window and the one before it said of frames they share."""

    shared: tuple[int, int]  # first frame, and the one after the last
    first: int  # of the compared frames
    earlier: np.ndarray  # (n, h, w) float32 disparity
    later: np.ndarray  # (n, h, w)

    def confidence(self) -> np.ndarray:
        """(n, h, w) float32: 1 where both windows agree, a half where they differ by a twentieth of the range.

        A positive gain and a shift of the whole window do not count: they are found again by who aligns the windows.
        """
        off = np.maximum(_misfit(self.earlier, self.later), _misfit(self.later, self.earlier))
        return (1 / (1 + (off / SAME) ** 2)).astype(np.float32)


def _misfit(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """How far ``given``, with the best shift and gain that is not negative, is from ``wanted``: shares of its range."""
    x, y = (grids - grids.mean() for grids in (given.astype(np.float64), wanted.astype(np.float64)))
    low, high = np.quantile(y.ravel()[:: max(1, y.size // 100_000)], [0.05, 0.95])
    gain = max(float((x * y).sum()) / max(float((x * x).sum()), 1e-12), 0.0)
    return np.abs(y - gain * x) / max(high - low, 1e-6)


@dataclass(frozen=True)
class WindowDepth:
    """Frames that are final after a window."""

    first: int
    disparity: np.ndarray  # (n, h, w) float32, 0..1, larger is nearer
    seam: Seam | None  # with the window before
    state: WindowState


def plan_windows(frames: int, settings: DiffusionSettings) -> list[tuple[int, int]]:
    """First frame and the one after the last of every window."""
    return [(first, last + 1) for first, last in counted_windows(frames, settings.window, settings.overlap)]


def clip_disparity(
    model: DepthCrafterModel, frames: np.ndarray, settings: DiffusionSettings | None = None
) -> np.ndarray:
    """(T, h, w) float32 disparity, 0..1 and larger nearer, of a clip (T, h, w, 3) uint8 with sides in multiples of 64.

    The scale and the shift of the clip are unknown. Raises OptionsError, DepthError.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise DepthError(
            f"depth: a clip is {frames.dtype} {frames.shape}, uint8 (frames, height, width, 3) is expected"
        )
    clip = ClipDenoiser(model, lambda first, end: frames[first:end], frames.shape[:3], settings or DiffusionSettings())
    return np.concatenate([window.disparity for window in clip.windows()])


class ClipDenoiser:
    """The disparity of one clip, window after window."""

    def __init__(
        self,
        model: DepthCrafterModel,
        read: Read,
        shape: Sequence[int],
        settings: DiffusionSettings,
    ) -> None:
        """
        Args:
            shape: frames, height and width of the clip at the working size.

        Raises:
            DepthError: no frame, or sides that are no multiples of what the VAE takes.
        """
        self._model, self._read, self._settings = model, read, settings
        self._frames, height, width = shape
        self._advance: Callable[[], None] = lambda: None
        scale = model.latent_scale
        if self._frames < 1 or min(height, width) < scale or height % scale or width % scale:
            raise DepthError(
                f"depth: a clip of {self._frames} frames with {width}x{height} pixels cannot be denoised: at least one "
                f"frame and sides in multiples of {scale} are expected"
            )
        self.plan = plan_windows(self._frames, settings)
        self._overlap = settings.overlap if len(self.plan) > 1 else 0
        window = min(settings.window, self._frames)
        self._noise = _ClipNoise(
            settings.seed,
            self._frames,
            (3, height, width),
            (window, model.latent_channels, height // scale, width // scale),
            model.dtype,
        )
        self._conditions: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # embedding and latents by frame

    def windows(
        self, state: WindowState | None = None, advance: Callable[[], None] | None = None
    ) -> Iterator[WindowDepth]:
        """Work on all windows, or on those that come after ``state``. Frames come in order, each once.

        Args:
            advance: called after every unit of work, of which a window has `work_of_window`.
        """
        import torch

        self._advance = advance or self._advance

        done, decoded = (state.done, state.decoded) if state else (0, 0)
        # Latents of the frames from `decoded` on. In between they lie in the memory of the CPU.
        kept = torch.from_numpy(state.latents).to(self._model.device, self._model.dtype) if state else None
        for number in range(done, len(self.plan)):
            end = self.plan[number][1]
            fresh = self._denoised(number, None if kept is None else kept[len(kept) - self._overlap :])
            seam = self._seam(number, kept, fresh) if number and self._overlap else None
            kept = fresh if kept is None else self._stitched(kept, fresh)
            final = end if number == len(self.plan) - 1 else self.plan[number + 1][0]
            count = final - decoded
            if final < end or number < len(self.plan) - 1:
                count -= count % self._settings.decode_chunk  # chunks begin at multiples, counted from the first frame
            disparity = self._decoded(kept[:count])
            self._advance()
            first, decoded, kept = decoded, decoded + count, kept[count:]
            yield WindowDepth(
                first, disparity, seam, WindowState(number + 1, decoded, kept.float().cpu().numpy().copy())
            )

    def work_of_window(self) -> int:
        """Units of work of one window: one for encoding, one for each step, one for decoding."""
        return self._settings.steps + 2

    def _denoised(self, number: int, before: torch.Tensor | None) -> torch.Tensor:
        """(t, 4, h, w) latents of a window, not yet stitched.

        Args:
            before: (overlap, 4, h, w) stitched latents of the frames it shares with the window before.
        """
        import torch

        model, settings = self._model, self._settings
        start, end = self.plan[number]
        with model.at_work(model.image_encoder, model.vae):
            embeddings, conditions = self._conditioned(start, end)
        self._advance()
        model.scheduler.set_timesteps(settings.steps, device=model.device)
        sigma = model.scheduler.sigmas[0]
        unit = model.scheduler.init_noise_sigma
        z = self._noise.initial(number, end - start, self._overlap).to(model.device)[None] * unit
        if before is not None and self._overlap:
            z[:, : self._overlap] = before[None] + z[:, : self._overlap] / unit * sigma
        ids = torch.tensor([[FPS_ID, MOTION_ID, settings.noise_strength]], dtype=model.dtype, device=model.device)
        with model.at_work(model.unet):
            for timestep in model.scheduler.timesteps:
                scaled = model.scheduler.scale_model_input(z, timestep)
                velocity = model.predict(torch.cat([scaled, conditions], dim=2), timestep, embeddings, ids)
                if settings.guidance > 1:
                    blind = torch.cat([scaled, torch.zeros_like(conditions)], dim=2)
                    free = model.predict(blind, timestep, torch.zeros_like(embeddings), ids)
                    velocity = free + settings.guidance * (velocity - free)
                z = model.scheduler.step(velocity, timestep, z).prev_sample
                self._advance()
        return z[0]

    def _conditioned(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(t, C) embeddings and (1, t, 4, h, w) conditioning latents of frames; what comes before them is forgotten."""
        import torch

        self._conditions = {frame: known for frame, known in self._conditions.items() if frame >= start}
        first = min((frame for frame in range(start, end) if frame not in self._conditions), default=end)
        for chunk in range(first - first % ENCODE_CHUNK, end, ENCODE_CHUNK):
            stop = min(chunk + ENCODE_CHUNK, self._frames)
            pictures = torch.from_numpy(np.ascontiguousarray(self._read(chunk, stop))).to(self._model.device)
            clip = pictures.permute(0, 3, 1, 2).float().div(255).to(self._model.dtype) * 2 - 1
            noise = self._noise.of_frames(chunk, stop).to(self._model.device)
            latents = self._model.encode(clip + self._settings.noise_strength * noise)
            for frame, *known in zip(range(chunk, stop), self._model.embed(clip), latents):
                if frame >= start:
                    self._conditions[frame] = tuple(known)
        embeddings, latents = zip(*(self._conditions[frame] for frame in range(start, end)))
        return torch.stack(embeddings), torch.stack(latents)[None]

    def _stitched(self, kept: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Latents of the window before and of this one, cross-faded where they overlap (both ends included)."""
        import torch

        if not self._overlap:
            return torch.cat([kept, fresh])
        weight = torch.linspace(0, 1, self._overlap, dtype=fresh.dtype, device=fresh.device)[:, None, None, None]
        shared = fresh[: self._overlap] * weight + kept[-self._overlap :] * (1 - weight)
        return torch.cat([kept[: -self._overlap], shared, fresh[self._overlap :]])

    def _seam(self, number: int, kept: torch.Tensor, fresh: torch.Tensor) -> Seam:
        """The frames in the middle of an overlap as both windows see them."""
        start = self.plan[number][0]
        count = min(COMPARED, self._overlap)
        skipped = (self._overlap - count) // 2
        earlier = kept[len(kept) - self._overlap + skipped :][:count]
        later = fresh[skipped : skipped + count]
        return Seam((start, start + self._overlap), start + skipped, self._decoded(earlier), self._decoded(later))

    def _decoded(self, latents: torch.Tensor) -> np.ndarray:
        """(n, h, w) float32 disparity, decoded in chunks."""
        chunk = self._settings.decode_chunk
        with self._model.at_work(self._model.vae):
            parts = [self._model.decode(latents[i : i + chunk]).cpu().numpy() for i in range(0, len(latents), chunk)]
        shape = [side * self._model.latent_scale for side in latents.shape[2:]]
        return np.concatenate(parts) if parts else np.zeros((0, *shape), dtype=np.float32)


class _ClipNoise:
    """The noise of a clip: first that of all its frames, then that of its latents, of one generator.

    Only the generator's states are kept. Drawing frame by frame gives what one large draw gives, since a frame has a
    multiple of 16 numbers.
    """

    def __init__(
        self, seed: int, frames: int, frame: tuple[int, int, int], latents: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        """
        Args:
            frame: (3, h, w) of the pictures.
            latents: (W, 4, h/8, w/8) of a window.
        """
        import torch

        self._shape, self._frames, self._dtype = frame, frames, dtype
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._states: list[torch.Tensor] = []  # before every chunk of frames
        for chunk in range(0, frames, ENCODE_CHUNK):
            self._states.append(self._generator.get_state())
            self._draw(min(ENCODE_CHUNK, frames - chunk))
        self._initial = torch.randn(latents, generator=self._generator, dtype=dtype)

    def of_frames(self, start: int, end: int) -> torch.Tensor:
        """(n, 3, h, w) of the frames of one chunk."""
        self._generator.set_state(self._states[start // ENCODE_CHUNK])
        return self._draw(end - start)

    def initial(self, number: int, count: int, overlap: int) -> torch.Tensor:
        """(count, 4, h/8, w/8) of a window: frames that two windows share have the same noise in both."""
        import torch

        return torch.roll(self._initial, number * overlap, dims=0)[:count].clone()

    def _draw(self, count: int) -> torch.Tensor:
        import torch

        return torch.randn((count, *self._shape), generator=self._generator, dtype=self._dtype)
