"""Pictures as users bring them, and their masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from video_clips import texture

from recon4d.errors import InputError
from recon4d.formats.masks import match_masks, read_mask
from recon4d.formats.photos import (
    fitted_size,
    list_pictures,
    read_photo,
    read_photo_header,
    resized,
    upright,
    white_level,
)


def save(path, picture, exif=None, camera=None, **options):
    tags = Image.Exif()
    tags.update(exif or {})
    if camera:
        tags.get_ifd(0x8769).update(camera)
    Image.fromarray(picture).save(path, exif=tags, **options)
    return path


def load(path, white=255):
    return read_photo(read_photo_header(path), white)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_exif_asks_for(orientation):
    picture = texture(1, 5, 7)
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(upright(picture, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_a_portrait_photo_is_read_upright(tmp_path):
    stored = texture(1, 30, 40)
    path = save(tmp_path / "a.png", stored, exif={0x0112: 6})  # 6: the top of the scene is at the stored left
    photo = read_photo_header(path)
    assert (photo.width, photo.height, photo.is_plain) == (30, 40, False)
    np.testing.assert_array_equal(load(path), np.rot90(stored, -1))


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp"])
def test_lossless_formats_keep_their_pixels(tmp_path, suffix):
    picture = texture(2, 20, 30)
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load(tmp_path / f"a.{suffix}"), picture)


def test_jpeg_keeps_its_colours(tmp_path):
    picture = texture(2, 40, 60)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load(tmp_path / "a.jpg").astype(int) - picture).mean() < 3


def test_grey_palette_and_alpha(tmp_path):
    picture = texture(3, 20, 30)
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    flat = np.zeros((4, 4, 3), np.uint8) + np.array([10, 200, 30], np.uint8)
    Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(load(tmp_path / "palette.png"), flat)
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 51  # a fifth
    Image.fromarray(np.concatenate([picture, alpha], 2)).save(tmp_path / "alpha.png")
    found = load(tmp_path / "alpha.png")
    assert not found[:, :10].any()
    np.testing.assert_allclose(found[:, 10:20], picture[:, 10:20] / 5, atol=0.5)
    np.testing.assert_array_equal(found[:, 20:], picture[:, 20:])
    assert read_photo_header(tmp_path / "alpha.png").has_alpha
    assert not read_photo_header(tmp_path / "alpha.png").is_plain


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_colour_is_brought_to_8_bit_by_one_scale(tmp_path, suffix):
    deep = np.zeros((6, 8, 3), np.uint16)
    deep[..., 0], deep[..., 1], deep[..., 2] = 65535, 32896, 257
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep[..., ::-1])
    photo = read_photo_header(tmp_path / f"a.{suffix}")
    assert (photo.bits, photo.is_plain) == (16, False)
    np.testing.assert_array_equal(read_photo(photo, white_level([photo]))[0, 0], [255, 128, 1])


def test_12_bit_values_in_16_bit_grey_use_the_maximum_of_the_clip(tmp_path):
    for name, value in (("bright", 4000), ("dark", 400)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((6, 8), value, np.uint16))
    photos = [read_photo_header(tmp_path / f"{name}.png") for name in ("bright", "dark")]
    assert white_level(photos) == 4095
    assert [read_photo(photo, 4095)[0, 0, 0] for photo in photos] == [249, 25]  # 255 * 4000 / 4095, 255 * 400 / 4095


def test_floating_point_pictures_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.ones((6, 8), np.float32))
    with pytest.raises(InputError, match="8 or 16 are read"):
        read_photo_header(tmp_path / "a.tiff")


def test_damaged_pictures_are_refused_by_name(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg is not a picture"):
        read_photo_header(tmp_path / "text.jpg")
    path = save(tmp_path / "cut.jpg", texture(1, 200, 300))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cut\.jpg is not a picture"):
        load(path)


def test_focal_length_from_the_35_mm_equivalent(tmp_path):
    path = save(tmp_path / "a.jpg", texture(1, 300, 400), camera={0xA405: 26})
    # 26 mm over the 43.2666 mm diagonal of 36 x 24 mm, times the 500 px diagonal of 400 x 300.
    assert read_photo_header(path).focal_px == pytest.approx(26 / 43.26662 * 500, rel=1e-5)


def test_focal_length_from_the_pitch_of_the_sensor(tmp_path):
    # 4 mm lens, 2000 px per cm, taken 4000 px wide and made ten times smaller since: 4 * 200 / 10 px.
    camera = {0x920A: 4.0, 0xA20E: 2000.0, 0xA20F: 2000.0, 0xA210: 3, 0xA002: 4000, 0xA003: 3000}
    path = save(tmp_path / "a.jpg", texture(1, 300, 400), camera=camera)
    assert read_photo_header(path).focal_px == pytest.approx(80.0, rel=1e-4)


def test_no_focal_length_is_none(tmp_path):
    assert read_photo_header(save(tmp_path / "a.jpg", texture(1, 30, 40))).focal_px is None
    assert read_photo_header(save(tmp_path / "b.jpg", texture(1, 30, 40), camera={0xA405: 0})).focal_px is None


def test_time_of_exif_with_its_fraction(tmp_path):
    camera = {0x9003: "2024:05:01 10:20:30", 0x9291: "25"}
    one = read_photo_header(save(tmp_path / "a.jpg", texture(1, 30, 40), camera=camera))
    camera = {0x9003: "2024:05:01 10:21:31"}
    other = read_photo_header(save(tmp_path / "b.jpg", texture(1, 30, 40), camera=camera))
    assert other.taken_s - one.taken_s == pytest.approx(60.75)


def test_listing_ignores_masks_hidden_and_other_files(tmp_path):
    for name in ("b10.jpg", "b9.jpg", "b9_mask.png", "b9.jpg.png", ".hidden.jpg"):
        save(tmp_path / name, texture(1, 8, 8), format="JPEG" if name.endswith("jpg") else "PNG")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "masks").mkdir()
    pictures, ignored = list_pictures(tmp_path)
    assert [path.name for path in pictures] == ["b9.jpg", "b10.jpg"]
    assert sorted(ignored) == ["b9.jpg.png", "b9_mask.png", "notes.txt"]


def test_a_folder_without_pictures_says_where_some_are(tmp_path):
    with pytest.raises(InputError, match="no pictures in it"):
        list_pictures(tmp_path)
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "a.jpg", texture(1, 8, 8))
    with pytest.raises(InputError, match="images has 1: give that folder"):
        list_pictures(tmp_path)
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(InputError, match="HEIC photos into JPEG"):
        list_pictures(tmp_path)


def test_fitted_size_never_enlarges():
    assert fitted_size(4000, 3000, 1280) == (1280, 960)
    assert fitted_size(1080, 1921, 1280) == (720, 1280)
    assert fitted_size(640, 480, 1280) == (640, 480)


def test_resized_averages_areas():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(resized(stripes, (4, 4)), 100)
    assert resized(stripes, (8, 8)) is stripes
    assert resized(stripes, (16, 8)).shape == (8, 16, 3)


def test_masks_match_by_name_source_stem_and_source_name(tmp_path):
    for name in ("000003.png", "photo.png", "other.jpg.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4), np.uint8))
    frames = [("000003", "clip.mp4"), ("photo", "photo.jpg"), ("other", "other.jpg"), ("none", "none.jpg")]
    found = match_masks(tmp_path, frames)
    assert {name: path.name for name, path in found.items()} == {
        "000003": "000003.png",
        "photo": "photo.png",
        "other": "other.jpg.png",
    }
    with pytest.raises(InputError, match="none of the 3 masks"):
        match_masks(tmp_path, [("x", "x.jpg")])
    with pytest.raises(InputError, match="no folder of masks"):
        match_masks(tmp_path / "nowhere", frames)


def test_masks_are_thresholded_and_resized_by_the_nearest_pixel(tmp_path):
    values = np.array([[0, 127, 128, 255], [255, 0, 0, 0]], np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (4, 2)), [[0, 0, 255, 255], [255, 0, 0, 0]])
    expected = np.kron([[0, 0, 1, 1], [1, 0, 0, 0]], np.ones((2, 2))) * 255
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (8, 4)), expected)


def test_masks_that_mean_something_else_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(4, dtype=np.uint8))
    with pytest.raises(InputError, match="up to 1 only"):
        read_mask(tmp_path / "a.png", (4, 4))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match="is 6x4, its upright frame is 4x6"):
        read_mask(tmp_path / "b.png", (4, 6))
    (tmp_path / "c.png").write_text("x")
    with pytest.raises(InputError, match="no readable 8-bit mask"):
        read_mask(tmp_path / "c.png", (4, 4))
