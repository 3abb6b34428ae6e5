import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.picture_sets import PictureSet, PictureViews
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.errors import UserError
from shapewright.geometry.orbit import kato_ring
from shapewright.methods.pose_invariant.framing import framed_picture, framing_of, unframed_picture
from tests.data.picture_files import write_pascal


def ellipse(height, width, center, radii):
    """Return the coverage of an ellipse, 0 to 255, sampled 8 x 8."""
    rows, columns = ((np.arange(8 * n) + 0.5) / 8 for n in (height, width))
    inside = ((columns - center[0]) / radii[0]) ** 2 + ((rows[:, None] - center[1]) / radii[1]) ** 2 <= 1
    return (255 * inside.reshape(height, 8, width, 8).mean(axis=(1, 3))).round().astype(np.uint8)


def photo(tmp_path, mask, name="photo.png", color=(200, 100, 50), alpha=True):
    pixels = np.empty((*mask.shape, 4), dtype=np.uint8)
    pixels[..., :3], pixels[..., 3] = color, mask
    path = tmp_path / name
    Image.fromarray(pixels if alpha else pixels[..., :3]).save(path)
    return path


def picture_set(masks):
    images = np.zeros((*masks.shape[:2], 4, *masks.shape[2:]), dtype=np.uint8)
    images[:, :, 3] = masks
    views = PictureViews(kato_ring().world_from_camera[None, : masks.shape[1]], 15.0)
    bins = torch.arange(masks.shape[1]).expand(len(masks), -1)
    ids = tuple(str(i) for i in range(len(masks)))
    return PictureSet(images, views, bins, masks.shape[1], ids, ("car",) * len(masks))


def box_of(mask):
    rows, columns = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def test_the_mean_longer_side_is_that_of_the_masks():
    masks = np.zeros((100, 2, 32, 32), dtype=np.uint8)
    masks[0::2, 0, 4:10, 3:23] = 255
    masks[1::2, 0, 1:31, 3:8] = 200
    masks[:, 1, 5:7, 5:6] = 100
    assert framing_of(picture_set(masks)) == pytest.approx((20 + 30) / 2)


@pytest.mark.parametrize("color", [(200, 0, 0), (90, 120, 250)], ids=["red", "blue"])
def test_photographs_are_framed_by_the_masks_to_be_learned_not_by_their_blue(tmp_path, color):
    photographs = np.empty(3, dtype=object)
    photographs[:] = [np.full((80, 90, 3), color, dtype=np.uint8)] * 3
    references = np.zeros((3, 224, 224, 4), dtype=np.uint8)
    references[:, 56:168, 84:140, 3] = 255
    write_pascal(tmp_path / "src", count=3, images=photographs, images_ref=references)
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="pascal3d", size=64))
    pictures = open_pictures(tmp_path / "data", "train", PictureOptions())
    assert pictures.images.shape[2] == 3
    assert framing_of(pictures) == pytest.approx(32)


def test_a_set_without_masks_has_no_framing():
    with pytest.raises(UserError, match="masks of all 3 objects are empty"):
        framing_of(picture_set(np.zeros((3, 1, 8, 8), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("size", "center", "radii"),
    [((300, 500), (350, 120), (90, 40)), ((40, 30), (14, 20), (8, 11)), ((200, 200), (10, 190), (60, 60))],
    ids=["photo", "small", "cut off at a corner"],
)
def test_the_object_goes_to_the_middle_at_the_mean_size(tmp_path, size, center, radii):
    path = photo(tmp_path, ellipse(*size, center, radii))
    framed = framed_picture(path, 64, 39.3)
    assert framed.shape == (4, 64, 64)
    assert framed.dtype == torch.float32
    left, top, right, bottom = box_of(framed[3].numpy())
    assert max(right - left, bottom - top) == pytest.approx(39.3, abs=1.1)
    assert (left + right) / 2 == pytest.approx(32, abs=1)
    assert (top + bottom) / 2 == pytest.approx(32, abs=1)


def test_colours_are_multiplied_by_the_mask_before_they_are_averaged(tmp_path):
    mask = ellipse(256, 256, (128, 128), (80, 80))
    framed = framed_picture(photo(tmp_path, mask), 64, 40)
    assert torch.allclose(framed[:3], framed[3] * torch.tensor([200.0, 100, 50])[:, None, None] / 255, atol=1e-5)
    assert (framed[:, 0] == 0).all()
    assert framed[:, 32, 32].tolist() == pytest.approx([200 / 255, 100 / 255, 50 / 255, 1])
    # Smooth edges: the area is that of the disc.
    assert float(framed[3].sum()) == pytest.approx(np.pi * 20**2, rel=0.01)


def test_a_picture_of_the_right_framing_stays_as_it_is(tmp_path):
    mask = ellipse(64, 64, (32, 32), (20, 12))
    path = photo(tmp_path, mask)
    left, _, right, _ = map(float, box_of(mask / 255))
    framed, unframed = framed_picture(path, 64, right - left), unframed_picture(path, 64)
    assert torch.allclose(framed, unframed, atol=1e-6)
    assert torch.allclose(unframed[3] * 255, torch.from_numpy(mask).float(), atol=1e-4)


def test_a_mask_file_takes_the_place_of_transparency(tmp_path):
    mask = ellipse(100, 160, (60, 50), (30, 20))
    with_alpha = photo(tmp_path, mask)
    without = photo(tmp_path, mask, "plain.jpg.png", alpha=False)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert torch.equal(framed_picture(without, 32, 20, tmp_path / "mask.png"), framed_picture(with_alpha, 32, 20))


def test_a_palette_with_transparency_is_transparency(tmp_path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (5, 5, 15, 15))
    image.save(tmp_path / "palette.png", transparency=0)
    framed = framed_picture(tmp_path / "palette.png", 32, 20)
    assert framed[:, 16, 16].tolist() == [1, 0, 0, 1]
    assert float(framed[3].sum()) == pytest.approx(400, rel=0.02)


def test_pictures_that_do_not_say_where_the_object_is_are_refused(tmp_path):
    mask = np.full((20, 30), 255, dtype=np.uint8)
    for alpha in (True, False):
        with pytest.raises(UserError, match=r"opaque.png has no transparent pixel(.|\n)*mask"):
            framed_picture(photo(tmp_path, mask, "opaque.png", alpha=alpha), 64, 39)


def test_an_empty_mask_is_an_error_that_names_the_file(tmp_path):
    path = photo(tmp_path, np.full((64, 64), 20, dtype=np.uint8), "faint.png")
    for read in (lambda: framed_picture(path, 64, 39), lambda: unframed_picture(path, 64)):
        with pytest.raises(UserError, match=r"faint.png is empty"):
            read()
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=r"black.png is empty"):
        framed_picture(path, 64, 39, tmp_path / "black.png")


def test_a_mask_of_another_size_is_refused(tmp_path):
    Image.fromarray(np.zeros((50, 40), dtype=np.uint8)).save(tmp_path / "mask.png")
    path = photo(tmp_path, ellipse(60, 40, (20, 30), (9, 9)))
    with pytest.raises(UserError, match=r"mask.png has 40 x 50 pixels, but the picture .*photo.png has 40 x 60"):
        framed_picture(path, 64, 39, tmp_path / "mask.png")


def test_without_framing_the_size_must_be_that_trained_on(tmp_path):
    path = photo(tmp_path, ellipse(60, 80, (40, 30), (9, 9)))
    with pytest.raises(UserError, match=r"photo.png has 80 x 60 pixels; without framing it must have 64 x 64"):
        unframed_picture(path, 64)


def test_a_missing_picture_and_an_impossible_side_are_told(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        framed_picture(tmp_path / "none.png", 64, 39)
    with pytest.raises(ValueError, match="longer_side_px"):
        framed_picture(tmp_path / "none.png", 64, 65)
