"""Adam for tables: torch's where there are gradients, nothing elsewhere."""

from __future__ import annotations

import pytest
import torch

from shapewright.methods.surface.table_adam import TableAdam


def test_touched_entries_follow_torchs_adam_and_others_stay():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(50, 2, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    table_adam = TableAdam([ours], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(5):
        gradient = torch.randn(50, 2, generator=generator)
        gradient[10:] = 0.0
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        table_adam.step()
        adam.step()
    torch.testing.assert_close(ours[:10], theirs[:10])
    assert torch.equal(ours[10:], start[10:])


def test_a_table_without_gradient_stays_and_a_closure_is_refused():
    table = torch.nn.Parameter(torch.ones(3, 2))
    adam = TableAdam([table], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    adam.step()
    assert torch.equal(table, torch.ones(3, 2))
    with pytest.raises(ValueError, match="closure"):
        adam.step(lambda: 0.0)
