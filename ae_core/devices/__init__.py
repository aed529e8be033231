"""Where arrays live and kernels run: the host, a GPU, or the emulator on a CPU."""
