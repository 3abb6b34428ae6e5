"""The few hot loops, each with a plain torch reference, a CPU path and a CUDA path."""
