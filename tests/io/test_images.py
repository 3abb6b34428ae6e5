import numpy as np
import pytest
from PIL import Image

from shapewright.errors import UserError
from shapewright.io.images import (
    encode_image,
    has_alpha,
    list_images,
    read_image,
    read_image_size,
    read_mask,
    read_rgba,
    write_image,
)

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_pixels_are_read_back(channels, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    pixels = pixels[..., 0] if channels == 1 else pixels
    write_image(tmp_path / "a.png", pixels)
    read = {1: read_mask, 3: read_image, 4: read_rgba}[channels]
    assert np.array_equal(read(tmp_path / "a.png"), pixels)
    assert read_image_size(tmp_path / "a.png") == (7, 5)
    assert has_alpha(tmp_path / "a.png") == (channels == 4)


def test_pictures_without_alpha_are_opaque_and_alpha_is_dropped_from_rgb(tmp_path):
    write_image(tmp_path / "a.png", RGB)
    assert (read_rgba(tmp_path / "a.png")[..., 3] == 255).all()
    rgba = np.dstack([RGB, np.full((5, 7), 9, np.uint8)])
    write_image(tmp_path / "b.png", rgba)
    assert np.array_equal(read_image(tmp_path / "b.png"), RGB)


def test_masks_of_one_bit_of_sixteen_and_of_colours_become_grey(tmp_path):
    mask = np.array([[True, False], [False, True]])
    Image.fromarray(mask).save(tmp_path / "bits.png")
    Image.fromarray(mask.astype(np.uint16) * 65535).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([mask.astype(np.uint8) * 255] * 3)).save(tmp_path / "rgb.png")
    for name in ("bits", "deep", "rgb"):
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), np.where(mask, 255, 0))


def test_masks_of_fractions_are_refused(tmp_path):
    Image.fromarray(np.array([[0.0, 1.0]], np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(UserError, match=r"mask\.tif cannot be read: its values are fractions"):
        read_mask(tmp_path / "mask.tif")


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_exif_orientations_turn_pixels_and_size_alike(orientation, turns, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(RGB, turns)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)
    assert read_image_size(tmp_path / "a.png") == (7, 5)
    assert np.array_equal(read_image(tmp_path / "a.png", upright=False), np.rot90(RGB, turns))


def test_folders_are_listed_by_name_without_other_and_hidden_files(tmp_path):
    for name in ("b.png", "a.jpg", "c.txt", ".d.png", "E.PNG"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["E.PNG", "a.jpg", "b.png"]
    assert list_images(tmp_path / "nowhere") == []


def test_missing_damaged_and_foreign_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text\.png cannot be read"):
        read_image(tmp_path / "text.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg"):
        whole = encode_image(noise, suffix)
        for share in (0.1, 0.5, 0.95):
            (tmp_path / f"cut{suffix}").write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UserError, match="cut"):
                read_image(tmp_path / f"cut{suffix}")
    (tmp_path / "cut.png").write_bytes(encode_image(noise)[:-12])
    with pytest.raises(UserError, match="cut short"):
        read_image_size(tmp_path / "cut.png")


def test_pictures_too_large_to_be_honest_are_refused(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match="exceeds limit"):
        read_image(tmp_path / "a.png")


def test_only_bytes_are_written_and_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "a.png", RGB / 255.0)
    with pytest.raises(UserError, match="nowhere"):
        write_image(tmp_path / "nowhere" / "a.png", RGB)
    assert list(tmp_path.iterdir()) == []
