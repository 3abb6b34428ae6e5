import math

import numpy as np
import torch

from shapewright.export.pictures import depth_picture, error_map, normal_picture, picture


def test_colours_become_bytes_and_are_clipped():
    rgb = torch.tensor([[[0.0, 0.5, 1.0], [-1.0, 2.0, 0.2]]])
    assert picture(rgb).tolist() == [[[0, 128, 255], [0, 255, 51]]]


def test_error_map_is_black_without_error_and_bright_beyond_the_largest():
    truth = torch.full((1, 3, 3), 0.5)
    prediction = truth + torch.tensor([0.0, 0.1, 0.4])[None, :, None]
    image = error_map(prediction, truth)
    assert image[0, 0].tolist() == [0, 0, 4]
    assert image[0, 2].tolist() == [252, 253, 191]
    assert image[0, 0].sum() < image[0, 1].sum() < image[0, 2].sum()


def test_lightness_rises_with_the_error():
    errors = torch.linspace(0, 0.2, 64)[None, :, None].expand(1, 64, 3)
    light = error_map(errors, torch.zeros_like(errors)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(light[0]) >= 0).all()


def test_near_is_yellow_far_is_violet_and_misses_are_white():
    image = depth_picture(torch.tensor([[1.0, 3.0, math.nan, math.inf]]))
    assert image[0].tolist() == [[253, 231, 37], [68, 1, 84], [255] * 3, [255] * 3]


def test_a_flat_or_empty_depth_has_a_picture():
    assert depth_picture(torch.full((2, 2), 2.0)).shape == (2, 2, 3)
    assert (depth_picture(torch.full((2, 2), math.nan)) == 255).all()


def test_normals_become_colours_and_missing_ones_white():
    normals = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, 0, 0], [math.nan, 0, 0]]])
    assert normal_picture(normals)[0].tolist() == [[255, 128, 128], [128, 128, 0], [255] * 3, [255] * 3]
