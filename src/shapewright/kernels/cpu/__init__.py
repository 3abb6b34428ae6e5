"""Serial numba range kernels, sliced over the thread pool."""
