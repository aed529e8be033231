// Runs a kernel with barriers, shuffles and callee-saved floating-point registers in each warp order, without
// Python: prints the bits of what it computes. To compare processors.
#define AE_EMULATED
#include "portable.cuh"

#include <cstdio>

// y[block] = a sum over x (blocks, 256) in a fixed order: by shuffles within a warp, then over warps.
__global__ void sums(const float* x, float* y, int rounds) {
    __shared__ float partial[8];
    double carried = 1;  // lives across every switch
    float total = 0;
    for (int round = 0; round < rounds; round++) {
        float sum = x[blockIdx.x * 256 + (threadIdx.x + round) % 256] * float(carried);
        for (int k = 16; k > 0; k /= 2) sum += __shfl_down_sync(~0u, sum, k);
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
        __syncthreads();
        for (int k = 0; k < 8; k++) total += partial[k];
        __syncthreads();
        carried = carried * 0.75 + 0.1;
    }
    if (threadIdx.x == 17) y[blockIdx.x] = total;
}

int main() {
    // Not static: .bss is shared memory.
    const auto x = new float[4 * 256], y = new float[4];
    for (int k = 0; k < 4 * 256; k++) x[k] = float(k * 7919 % 1000) / 999;
    for (int order = 0; order < 3; order++) {
        int rounds = 9;
        const float* from = x;
        float* to = y;
        void* slots[] = {&from, &to, &rounds};
        const unsigned shape[] = {4, 1, 1, 256, 1, 1};
        if (const char* error = emulator::launch(&sums, shape, slots, order, 0)) return std::puts(error), 1;
        for (int k = 0; k < 4; k++) std::printf("%d %d %08x\n", order, k, bits_of(y[k]));
    }
}
