// What every kernel file includes: the same source compiles for a GPU (NVRTC) and for the emulator.
// Instructions that CUDA C++ has no name for are wrapped here, in ampere.cuh and in hopper.cuh, each with
// its twin in C++; no other file has inline PTX.
#pragma once

typedef long long int64;  // NVRTC has no <cstdint>; offsets of large batches pass 2^31

#ifdef AE_EMULATED
#include "emulator.h"
#include <chrono>
inline int64 nanoseconds() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
inline unsigned bits_of(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float float_of(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
// Dynamic shared memory: as many bytes as the launch says, at a multiple of 1,024 as swizzles want it.
#define DYNAMIC_SHARED(name) unsigned char* const name = reinterpret_cast<unsigned char*>(emulator::current.dynamic_shared)
#else
// The GPU's wall clock.
__device__ inline int64 nanoseconds() {
    int64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
__device__ inline unsigned bits_of(float value) { return __float_as_uint(value); }
__device__ inline float float_of(unsigned bits) { return __uint_as_float(bits); }
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

// The upper half of a float32. NVIDIA's cuda_bf16.h does not come with NVRTC, so this is our own. A float
// is rounded to nearest, ties to even; a NaN becomes 0x7fff, as the instruction has it.
struct bf16 {
    unsigned short bits;

    bf16() = default;
    __device__ __forceinline__ explicit bf16(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
        const unsigned all = bits_of(value);
        bits = value != value ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16;
#endif
    }
    __device__ __forceinline__ operator float() const { return float_of(unsigned(bits) << 16); }
};

// Two in a register, the first in the lower half: what tensor cores and wide stores take.
__device__ __forceinline__ unsigned bf16_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#else
    return unsigned(bf16(first).bits) | unsigned(bf16(second).bits) << 16;
#endif
}
__device__ __forceinline__ float bf16_first(unsigned pair) { return float_of(pair << 16); }
__device__ __forceinline__ float bf16_second(unsigned pair) { return float_of(pair & 0xffff0000u); }
