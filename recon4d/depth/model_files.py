"""The files of a network: a folder or file that lies here, or a repository of the Hugging Face hub."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recon4d.errors import InputError, first_line

HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies, and what tells it from every other one."""

    name: str  # for people: the id on the hub, or the name of the folder or file
    place: Path  # folder, or one file
    identity: str  # the revision on the hub, or a hash of the content


def find_model(text: str, patterns: Sequence[str]) -> ModelFiles:
    """Find a model here, in the hub's cache on this machine, or on the hub, in this order.

    Args:
        text: path of a folder or file, or ``ID[@REVISION]`` of the hub.
        patterns: the files that are read, as paths within the folder with ``*``; others are not downloaded and do not
            count for the identity.

    Raises:
        InputError: there is no such model, or it has no weights in the safetensors format.
    """
    check_model(text)
    path = Path(text).expanduser()
    if path.exists():
        return ModelFiles(path.name, path, _content(path, tuple(patterns)))
    name, revision = HUB_ID.fullmatch(text).groups()
    folder = _from_hub(name, revision, list(patterns))
    if not any(folder.rglob(WEIGHTS)):
        raise InputError(
            f"depth: the model {text} has no weights in the safetensors format in its cache {folder}, and others are "
            "not read: remove that folder to download it again, or choose another revision"
        )
    return ModelFiles(name, folder, f"{name}@{folder.name}")


def check_model(text: str) -> None:
    """Refuse what is neither here nor looks like the id of a model on the hub. Raises InputError."""
    if not Path(text).expanduser().exists() and HUB_ID.fullmatch(text) is None:
        raise InputError(f"depth: the model {text} was not found: correct the path, or give the id of one on the hub")


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder of a repository in the hub's cache, downloaded where it is not there yet."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"repo_id": name, "revision": revision, "allow_patterns": patterns}
    try:
        cached = Path(huggingface_hub.snapshot_download(**wanted, local_files_only=True))
        if any(cached.rglob(WEIGHTS)):
            return cached
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(huggingface_hub.snapshot_download(**wanted))
    except Exception as error:  # of the hub, of the network, of the disk: all mean that the model cannot be had
        raise InputError(
            f"depth: the model {name} is no folder here, not in the cache of this machine, and cannot be downloaded "
            f"({first_line(error)}): correct --depth.model, or give the path of a folder with its files"
        ) from error


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the bars and warnings of diffusers and transformers while weights are loaded."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    levels = of_diffusers.get_verbosity(), of_transformers.get_verbosity()
    bars = of_transformers.is_progress_bar_enabled()
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_diffusers.set_verbosity(levels[0])
        of_transformers.set_verbosity(levels[1])
        if bars:
            of_transformers.enable_progress_bar()


def _content(path: Path, patterns: tuple[str, ...]) -> str:
    files = [path] if path.is_file() else sorted({file for p in patterns for file in path.glob(p) if file.is_file()})
    if not files:
        raise InputError(f"depth: the folder {path} holds none of {', '.join(patterns)}: give the folder of a model")
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _hash(path, stamps)


@functools.lru_cache(maxsize=16)
def _hash(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Hash of the files' bytes and names; gigabytes, so that a file that has not changed is read once."""
    digest = hashlib.blake2b(digest_size=20)
    for name, _, _ in stamps:
        if Path(name) != path:
            digest.update(Path(name).relative_to(path).as_posix().encode())
        with open(name, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
