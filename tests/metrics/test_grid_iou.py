import pytest
import torch

from shapewright.metrics.grid_iou import grid_iou


def box(size, lower, upper):
    grid = torch.zeros(size, size, size, dtype=torch.bool)
    grid[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = True
    return grid


def test_boxes_share_what_they_overlap_in():
    a, b = box(8, (0, 0, 0), (4, 4, 4)), box(8, (2, 0, 0), (6, 4, 4))
    assert grid_iou(a, b).item() == pytest.approx(32 / 96)
    assert grid_iou(a, a).item() == 1
    assert grid_iou(a, box(8, (5, 5, 5), (8, 8, 8))).item() == 0
    assert grid_iou(a, torch.zeros_like(a)).item() == 0


def test_batches_are_matched_by_broadcasting():
    grids = torch.rand(5, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    truth = grids[:, :1]
    found = grid_iou(grids, truth)
    assert found.shape == (5, 2)
    expected = [
        [len(a & b) / len(a | b) for b in [cells(t[0])] for a in map(cells, g)]
        for g, t in zip(grids, truth, strict=True)
    ]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))


def cells(grid):
    return set(map(tuple, grid.nonzero().tolist()))


def test_two_empty_grids_are_equal_with_a_warning():
    empty = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    other = empty.clone()
    other[1] = True
    with pytest.warns(UserWarning, match="2 of 3 pairs of grids are empty"):
        assert grid_iou(empty, other).tolist() == [1, 0, 1]


def test_wrong_grids_are_refused():
    grid = torch.zeros(2, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="a must be boolean"):
        grid_iou(grid.float(), grid)
    with pytest.raises(ValueError, match="equal axes"):
        grid_iou(grid, torch.zeros(2, 2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="three axes"):
        grid_iou(grid[0], grid[0])
