"""CUDA kernels and the two devices that run them: a GPU, or the emulator on a CPU."""
