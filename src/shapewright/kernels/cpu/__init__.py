"""Serial numba range kernels, sliced over the thread pool."""

from shapewright.kernels.caches import prepare_caches

prepare_caches()
