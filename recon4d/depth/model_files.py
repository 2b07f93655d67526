"""The files of a network: a folder or file that lies here, or a repository of the Hugging Face hub."""

from __future__ import annotations

import functools
import hashlib
import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from recon4d.depth.devices import DEPTH, Asker
from recon4d.errors import InputError, first_line

# The owner and name of a repository as the hub allows them, and a revision.
HUB_ID = re.compile(r"(\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?)(?:@(\w(?:[\w./-]*\w)?))?", re.ASCII)
TERMS = ("README.md", "LICENSE*")  # fetched to tell the terms of use; no part of the network


@dataclass(frozen=True)
class Wanted:
    """What is read of a model. Patterns are paths within its folder; a ``*`` stays within a name."""

    needed: tuple[tuple[str, ...], ...]  # of each group, the files of the first pattern that has any
    also: tuple[str, ...] = ()  # where they are there


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies, and what tells it from every other one."""

    name: str  # for people: the id on the hub, or the name of the folder or file
    place: Path  # folder, or one file
    identity: str  # ID@REVISION of the hub, or a hash of the content

    @property
    def title(self) -> str:
        """The name, of the hub with the revision."""
        return self.identity if "@" in self.identity else self.name


def find_model(text: str, wanted: Wanted, asker: Asker = DEPTH) -> ModelFiles:
    """Find a model here, in the hub's cache on this machine, or on the hub, in this order.

    Args:
        text: path of a folder or file, or ``ID[@REVISION]`` of the hub.
        wanted: others are not downloaded and do not count for the identity.
        asker: who is named in messages, here and below.

    Raises:
        InputError: there is no such model, or it lacks what is needed.
    """
    check_model(text, asker)
    path = Path(text).expanduser()
    if path.exists():
        return ModelFiles(path.name, path, _content(path, wanted, asker))
    name, revision = HUB_ID.fullmatch(text).groups()
    folder = _from_hub(name, revision, wanted, asker)
    return ModelFiles(name, folder, f"{name}@{folder.name}")


def identity_of(text: str, wanted: Wanted, before: str | None, asker: Asker = DEPTH) -> str:
    """The identity of a model; ``before`` is that of the one of this name that made a finished result.

    Where the model lies neither here nor in the cache, ``before`` counts: nothing is downloaded only to find out that
    nothing has to be done. Raises InputError as `find_model` does.
    """
    match = HUB_ID.fullmatch(text)
    away = not Path(text).expanduser().exists() and match is not None and _cached(*match.groups(), wanted) is None
    return before if away and before is not None else find_model(text, wanted, asker).identity


def check_model(text: str, asker: Asker = DEPTH) -> None:
    """Refuse what is neither here nor can be the id of a model on the hub. Raises InputError."""
    if Path(text).expanduser().exists():
        return
    found = HUB_ID.fullmatch(text)
    if found is None or "--" in found[1] or ".." in text or found[1].endswith(".git"):
        raise InputError(
            f"{asker.stage}: the model {text} was not found: correct the path, or give the id of one on the hub"
        )
    owner, _, rest = found[1].partition("/")
    if found[2] is None and Path(owner).is_dir():
        raise InputError(
            f"{asker.stage}: the folder {owner} here has no {rest}: correct the path of the model, or write "
            f"{text}@main for the one that is called so on the hub"
        )


def _chosen(names: Sequence[str], wanted: Wanted) -> tuple[list[str], list[tuple[str, ...]]]:
    """The files that are read of those there are, and the groups that have none or not all of their shards."""
    chosen, lacking = [], []
    for group in wanted.needed:
        fitting = next((found for pattern in group if (found := _fitting(names, pattern))), [])
        chosen += fitting
        if not fitting or not _has_all_shards(fitting):
            lacking.append(group)
    return sorted({*chosen, *(name for pattern in wanted.also for name in _fitting(names, pattern))}), lacking


def _fitting(names: Sequence[str], pattern: str) -> list[str]:
    parts = pattern.split("/")
    pairs = ((name, name.split("/")) for name in names)
    return [name for name, own in pairs if len(own) == len(parts) and all(map(fnmatchcase, own, parts))]


def _has_all_shards(names: Sequence[str]) -> bool:
    """Whether files called ``...-00001-of-00003...`` are all there."""
    ends = [found for name in names if (found := re.fullmatch(r"(.*)-[0-9]+-of-([0-9]+)(\.\w+)", name))]
    return all(sum(other.groups() == end.groups() for other in ends) == int(end[2]) for end in ends)


def _from_hub(name: str, revision: str | None, wanted: Wanted, asker: Asker) -> Path:
    """The folder of a repository in the hub's cache, downloaded where it is not there as a whole."""
    import huggingface_hub

    cached = _cached(name, revision, wanted)
    if cached is not None:
        return cached
    where = {"repo_id": name, "revision": revision}
    try:
        there = huggingface_hub.list_repo_files(**where)
        files, lacking = _chosen(there, wanted)
        if not lacking:
            return Path(huggingface_hub.snapshot_download(**where, allow_patterns=[*files, *TERMS]))
    except Exception as error:  # of the hub, of the network, of the disk: all mean that the model cannot be had
        raise InputError(
            f"{asker.stage}: the model {name} is no folder here, not as a whole in the cache of this machine, and "
            f"cannot be downloaded ({first_line(error)}): correct {asker.flag('model')}, or give the path of a folder "
            "with its files"
        ) from error
    raise InputError(
        f"{asker.stage}: the model {name} on the hub has no {' or '.join(lacking[0])}, and weights in other formats, "
        "which can run code, are not read: choose another model or revision"
    )


def _cached(name: str, revision: str | None, wanted: Wanted) -> Path | None:
    """The folder of a repository in the hub's cache; None where it is not there as a whole."""
    import huggingface_hub

    where = {"repo_id": name, "revision": revision}
    try:
        # Without patterns: the hub's own check of its cache asks for all that fits them, of which we need a part.
        cached = huggingface_hub.snapshot_download(**where, allow_patterns=[], local_files_only=True)
    except (OSError, ValueError):  # not there, or the hub knows no such revision
        return None
    return None if _chosen(_names_in(Path(cached), wanted), wanted)[1] else Path(cached)


@contextmanager
def quiet_loading(*libraries: str) -> Iterator[None]:
    """Without the bars and warnings of ``diffusers`` or ``transformers`` while weights are loaded."""
    with ExitStack() as after:
        for library in libraries:
            logging = importlib.import_module(f"{library}.utils.logging")
            after.callback(logging.set_verbosity, logging.get_verbosity())
            logging.set_verbosity_error()
            if logging.is_progress_bar_enabled():
                after.callback(logging.enable_progress_bar)
                logging.disable_progress_bar()
        yield


def _names_in(folder: Path, wanted: Wanted) -> list[str]:
    patterns = {pattern for group in (*wanted.needed, wanted.also) for pattern in group}
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _content(path: Path, wanted: Wanted, asker: Asker) -> str:
    files = [path] if path.is_file() else [path / name for name in _chosen(_names_in(path, wanted), wanted)[0]]
    if not files:
        usual = ", ".join(group[0] for group in wanted.needed)
        raise InputError(f"{asker.stage}: the folder {path} holds none of {usual}: give the folder of a model")
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
