// What every kernel file includes: the same source compiles for a GPU (NVRTC) and for the emulator (g++).
// Instructions that CUDA C++ has no name for are wrapped here, each with its twin in C++.
#pragma once

typedef long long int64;  // NVRTC has no <cstdint>; offsets of large batches pass 2^31

#ifdef AE_EMULATED
#include "emulator.h"
#include <chrono>
inline int64 nanoseconds() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
#else
// The GPU's wall clock.
__device__ inline int64 nanoseconds() {
    int64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
#endif
