"""How a run starts, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Start:
    """Say how a run starts.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Start of all random numbers.
        command: The command line, for the record.
        force: Replace an earlier run in the folder.
    """

    device: str = "auto"
    seed: int = 0
    command: Sequence[str] = ()
    force: bool = False
