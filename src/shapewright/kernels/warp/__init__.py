"""NVIDIA Warp kernels for CUDA; the same kernels run on Warp's CPU device in tests."""

from shapewright.kernels.caches import prepare_caches

prepare_caches()
