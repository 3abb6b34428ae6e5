"""NVIDIA Warp kernels for CUDA, also run on the CPU device of Warp in tests."""
