// Arguments of every kind: arrays of all dtypes, numbers, a struct by value; dynamic shared memory.
#include "portable.cuh"

struct Line {
    float slope, intercept;
    int64 start;
    int steps[3];
};

// y (blocks, threads): a line through each block's x reversed, by way of dynamic shared memory.
template <typename T>
__global__ void __launch_bounds__(256)
    line(const T* __restrict__ x, bf16* y, const __grid_constant__ Line at, int64 count, float shift) {
    DYNAMIC_SHARED(memory);
    T* const values = reinterpret_cast<T*>(memory);
    const int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) values[threadIdx.x] = x[i];
    __syncthreads();
    if (i < count)
        y[i] = bf16(at.slope * float(values[blockDim.x - 1 - threadIdx.x]) + at.intercept + shift);
}

__global__ void count_up(const unsigned char* bytes, int* numbers, unsigned* words, int64* offsets, Line at,
                         int first) {
    const int i = threadIdx.x;
    numbers[i] = first + i * at.steps[1];
    words[i] = 0xffffff00u | bytes[i];
    offsets[i] = at.start + i * at.steps[2];
}

// y[i] += x[i]
__global__ void add(const float* x, float* y, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] += x[i];
}

// y = the last of so many floats in dynamic shared memory, which the first thread writes.
__global__ void reach(float* y, int floats) {
    DYNAMIC_SHARED(memory);
    float* const values = reinterpret_cast<float*>(memory);
    if (threadIdx.x == 0) values[floats - 1] = float(floats);
    __syncthreads();
    if (threadIdx.x == 1) y[0] = values[floats - 1];
}
