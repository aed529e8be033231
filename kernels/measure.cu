// What the card can do, measured: the ceilings that profiles are held against.
//
// Idea      multiply_add: independent chains of fused multiply-adds, all in registers. copy: read and
//           write a buffer much larger than the caches. hold: pass time, so that a queue can fill.
// Mapping   A thread has 8 chains, or copies 16 floats; hold is one thread.
// Shared    None.
// Bound by  What is measured.
#include "portable.cuh"

// y = a result of `rounds` * 8 * 8 multiply-adds a thread, so that none can be left out.
__global__ void multiply_add(float* y, float factor, int rounds) {
    float chain[8];
    for (int k = 0; k < 8; k++) chain[k] = float(threadIdx.x + k);
    for (int round = 0; round < rounds; round++)
#pragma unroll
        for (int k = 0; k < 64; k++) chain[k % 8] = chain[k % 8] * factor + 1;
    float sum = 0;
    for (int k = 0; k < 8; k++) sum += chain[k];
    y[int64(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}

// y = x, 16 bytes a thread at a time, four times, all loads before the first store. A block copies 4,096
// floats.
__global__ void copy(const float4* __restrict__ x, float4* __restrict__ y) {
    const int64 first = int64(blockIdx.x) * blockDim.x * 4 + threadIdx.x;
    float4 values[4];
#pragma unroll
    for (int k = 0; k < 4; k++) values[k] = x[first + k * blockDim.x];
#pragma unroll
    for (int k = 0; k < 4; k++) y[first + k * blockDim.x] = values[k];
}

// Returns after so many nanoseconds.
__global__ void hold(int64 duration) {
    const int64 start = nanoseconds();
    while (nanoseconds() - start < duration) {
    }
}
