// bf16 and dynamic shared memory, alone.
#include "portable.cuh"

__global__ void round_to_bf16(const float* x, bf16* y, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = bf16(x[i]);
}

// Two at a time.
__global__ void round_pairs(const float* x, unsigned* y, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = bf16_pair(x[2 * i], x[2 * i + 1]);
}

__global__ void widen(const bf16* x, float* y, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i];
}

// y (blocks, threads): each block's x reversed, by way of dynamic shared memory.
__global__ void reverse(const float* x, float* y) {
    DYNAMIC_SHARED(memory);
    float* const values = reinterpret_cast<float*>(memory);
    const unsigned first = blockIdx.x * blockDim.x;
    values[threadIdx.x] = x[first + threadIdx.x];
    __syncthreads();
    y[first + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}
