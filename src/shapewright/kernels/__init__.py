"""The few hot loops, each with a plain torch reference, a CPU path and a CUDA path.

``ops`` and ``ray_ops`` are what the rest of the package calls; ``backends`` chooses what runs them.
"""

from shapewright.kernels.backends import backend
from shapewright.kernels.diagnosis import describe, diagnose, warm_up

__all__ = ["backend", "describe", "diagnose", "warm_up"]
