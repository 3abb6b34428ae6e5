"""Seeds: one number a run, one independent stream a purpose."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, for libraries that take no generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global generator is the point)
    torch.manual_seed(seed)


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
