"""Sources that the frames stage cannot take, refused in one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon4d.errors import InputError, OptionsError
from recon4d.formats.path_text import is_text, shown
from recon4d.formats.photos import list_pictures
from recon4d.stages.frames import FramesOptions, check_options, run
from recon4d.workspace import Workspace

NOT_UTF8 = os.fsdecode(b"caf\xe9")  # Latin-1, as old archives have it


@pytest.fixture
def odd_names(tmp_path):
    """A folder in which names may be any bytes."""
    try:
        (tmp_path / NOT_UTF8).mkdir()
    except OSError:
        pytest.skip("this file system holds text only")
    (tmp_path / NOT_UTF8).rmdir()
    return tmp_path


def refused(source: Path, scene: Path) -> str:
    with pytest.raises(InputError, match=r"^frames: ") as caught:
        run(Workspace.create(scene), FramesOptions(), source)
    assert "\n" not in str(caught.value)
    assert is_text(str(caught.value))
    return str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no device files")
def test_device_is_neither_a_file_nor_a_folder(tmp_path):
    text = refused(Path(os.devnull), tmp_path / "scene")
    assert f"{os.devnull} is neither a file nor a folder" in text


def test_picture_whose_name_is_no_text_is_refused_by_a_name_that_can_be_shown(odd_names):
    folder = odd_names / "pictures"
    folder.mkdir()
    for name in ("a", NOT_UTF8):
        Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    assert "caf\\xe9.png" in refused(folder, odd_names / "scene")


def test_other_file_whose_name_is_no_text_can_be_told(odd_names):
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(odd_names / "a.png")
    (odd_names / f"{NOT_UTF8}.txt").write_text("")
    assert list_pictures(odd_names) == ([odd_names / "a.png"], ["caf\\xe9.txt"])


@pytest.mark.parametrize("suffix", [".mp4", ".png", ""])
def test_path_that_is_no_text_is_refused(odd_names, suffix):
    source = odd_names / f"{NOT_UTF8}{suffix}"
    source.write_bytes(b"") if suffix else source.mkdir()
    assert "caf\\xe9" in refused(source, odd_names / "scene")


def test_masks_in_a_folder_whose_name_is_no_text_are_refused():
    with pytest.raises(OptionsError, match=r"--masks caf\\xe9 is not valid UTF-8"):
        check_options(FramesOptions(masks=Path(NOT_UTF8)))


def test_names_in_other_scripts_are_text():
    assert is_text("Küche 台所.png")
    assert shown("Küche 台所.png") == "Küche 台所.png"
