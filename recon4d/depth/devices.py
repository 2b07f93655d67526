"""Where networks run, and with which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recon4d.errors import DepthError, OptionsError


@dataclass(frozen=True)
class Asker:
    """Who wants a network, for messages: ``stage: ... --stage.device ...``."""

    stage: str

    def flag(self, name: str) -> str:
        return f"--{self.stage}.{name}"


DEPTH = Asker("depth")


def check_place(device: str, dtype: str, asker: Asker = DEPTH) -> None:
    """Refuse a device that is not there, and numbers it is no good with. Raises OptionsError."""
    if device != "auto" or dtype == "float16":  # else PyTorch need not be loaded to know
        chosen_dtype(dtype, chosen_device(device, asker), asker)


@contextmanager
def fitting_memory(advice: str) -> Iterator[None]:
    """Say what to do where the memory of a device does not suffice. Raises DepthError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DepthError(f"depth: the memory of the device does not suffice: {advice}") from error


def chosen_device(wanted: str, asker: Asker = DEPTH) -> str:
    """``cpu``, ``cuda`` or ``mps``; auto is the GPU where PyTorch sees one. Raises OptionsError where it sees none."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        raise OptionsError(
            f"{asker.stage}: {asker.flag('device')} is {wanted}, and PyTorch sees no such device here: use auto or cpu"
        )
    return wanted


def chosen_dtype(wanted: str, device: str, asker: Asker = DEPTH) -> str:
    """Name of a dtype of PyTorch; auto is float16 on cuda, else float32."""
    if wanted == "auto":
        return "float16" if device == "cuda" else "float32"
    if wanted == "float16" and device == "cpu":
        raise OptionsError(
            f"{asker.stage}: {asker.flag('dtype')} is float16, which CPUs are slow and coarse with: use float32 or "
            "bfloat16"
        )
    return wanted
