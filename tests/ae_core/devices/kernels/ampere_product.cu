// C (M x N, float32) = A (M x K) B (K x N), a warp for each 16 x 8 of C, four warps a block. M, N multiples
// of 32 and 16, K of 16.
#include "ampere.cuh"

constexpr int ROWS = 32, COLUMNS = 16, DEPTH = 16;

// A, B bf16. Two tiles in turn: one is copied while the other is multiplied.
__global__ void product_bf16(const bf16* a, const bf16* b, float* c, int n, int depth) {
    __shared__ __align__(16) bf16 a_tile[2][ROWS][DEPTH], b_tile[2][DEPTH][COLUMNS];
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
    const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
    const auto load = [&](int first, int stage) {
        if (thread < 64) {
            const int row = thread / 2, chunk = thread % 2 * 8;
            copy_async(&a_tile[stage][row][chunk], a + int64(row0 + row) * depth + first + chunk);
        } else if (thread < 96) {
            const int row = (thread - 64) / 2, chunk = thread % 2 * 8;
            copy_async(&b_tile[stage][row][chunk], b + int64(first + row) * n + column0 + chunk);
        }
        copy_async_commit();
    };
    float sums[4] = {};
    load(0, 0);
    for (int first = 0, stage = 0; first < depth; first += DEPTH, stage ^= 1) {
        if (first + DEPTH < depth) load(first + DEPTH, stage ^ 1);
        else copy_async_commit();  // an empty group, so that the wait is the same
        copy_async_wait<1>();
        __syncthreads();  // all have copied
        unsigned a_part[4], b_both[4];
        load_matrices(a_part, &a_tile[stage][warp / 2 * 16 + lane % 16][lane / 16 * 8]);
        load_matrices<true>(b_both, &b_tile[stage][lane % 16][lane / 16 * 8]);
        const unsigned b_part[2] = {b_both[warp % 2 * 2], b_both[warp % 2 * 2 + 1]};
        mma_bf16(sums, a_part, b_part);
        __syncthreads();  // all have read
    }
    float* const corner = c + int64(row0 + warp / 2 * 16) * n + column0 + warp % 2 * 8;
    for (int i = 0; i < 4; i++) corner[(g + i / 2 * 8) * n + 2 * t + i % 2] = sums[i];
}

// A, B float32, rounded to TF32; straight from global memory.
__global__ void product_tf32(const float* a, const float* b, float* c, int n, int depth) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int row0 = blockIdx.y * ROWS + warp / 2 * 16, column0 = blockIdx.x * COLUMNS + warp % 2 * 8;
    float sums[4] = {};
    for (int first = 0; first < depth; first += 8) {
        unsigned a_part[4], b_part[2];
        for (int k = 0; k < 4; k++)
            a_part[k] = tf32(a[(row0 + g + k % 2 * 8) * depth + first + t + k / 2 * 4]);
        for (int k = 0; k < 2; k++) b_part[k] = tf32(b[(first + t + k * 4) * n + column0 + g]);
        mma_tf32(sums, a_part, b_part);
    }
    for (int i = 0; i < 4; i++) c[(row0 + g + i / 2 * 8) * n + column0 + 2 * t + i % 2] = sums[i];
}
