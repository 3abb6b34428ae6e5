"""Seeds: one number a run, one independent stream a purpose."""

from __future__ import annotations

import hashlib

import torch


def make_generator(seed: int, stream: str = "", device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for one purpose; streams of the same seed are independent.

    Args:
        seed: The seed of the run.
        stream: What the numbers are for, such as ``"rays"``.
        device: Where the numbers are drawn.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    generator = torch.Generator(device)
    return generator.manual_seed(int.from_bytes(digest[:8], "big") % 2**63)
