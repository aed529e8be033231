// C (M x N, float32) = A B, A and B bf16, 64 x N of C a block: a warpgroup loads through tensor maps, another
// multiplies, STAGES tiles lie between. M a multiple of 64, the depth K of 64.
//
// TRANSPOSED_A: A is stored as K x M; else as M x K. TRANSPOSED_B: B is stored as K x N; else as N x K.
#include "hopper.cuh"

constexpr int STAGES = 3, DEPTH = 64, ROWS = 64, GROUP = 128;
constexpr int ROW_BYTES = 128, PATTERN = 8 * ROW_BYTES;  // 8 rows of 64 bf16: the swizzle repeats

// The warpgroup's sums to c (64, N).
template <int N> __device__ void write_rows(const float (&sums)[N / 2], float* c) {
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < N / 2; i++) {
        const int row = 16 * warp + g + i / 2 % 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
        c[row * N + column] = sums[i];
    }
}

template <int N, bool TRANSPOSED_A, bool TRANSPOSED_B>
__global__ void __launch_bounds__(2 * GROUP, 1)
    product(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map, float* c,
            int depth) {
    constexpr int A_BYTES = ROWS * DEPTH * 2, B_BYTES = N * DEPTH * 2;
    DYNAMIC_SHARED(memory);
    unsigned char *const a_tiles = memory, *const b_tiles = memory + STAGES * A_BYTES;
    __shared__ Mbarrier full[STAGES], empty[STAGES];
    const int thread = threadIdx.x, row0 = blockIdx.x * ROWS, steps = depth / DEPTH;
    if (thread == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            mbarrier_init(&full[stage], 1);
            mbarrier_init(&empty[stage], GROUP);
        }
        mbarrier_fence_init();
    }
    __syncthreads();  // barriers exist
    if (thread < GROUP) {
        lower_registers<40>();
        if (thread != 0) return;
        for (int step = 0; step < steps; step++) {
            const int stage = step % STAGES, round = step / STAGES;
            mbarrier_wait(&empty[stage], (round & 1) ^ 1);
            mbarrier_arrive_expect(&full[stage], A_BYTES + B_BYTES);
            unsigned char* const a_tile = a_tiles + stage * A_BYTES;
            unsigned char* const b_tile = b_tiles + stage * B_BYTES;
            if (TRANSPOSED_A) tensor_load(a_tile, a_map, &full[stage], row0, step * DEPTH);
            else tensor_load(a_tile, a_map, &full[stage], step * DEPTH, row0);
            for (int column = 0; column < N; column += TRANSPOSED_B ? 64 : N) {
                unsigned char* const to = b_tile + column * DEPTH * 2;
                if (TRANSPOSED_B) tensor_load(to, b_map, &full[stage], column, step * DEPTH);
                else tensor_load(to, b_map, &full[stage], step * DEPTH, column);
            }
        }
        return;
    }
    raise_registers<232>();
    float sums[N / 2];
    for (int i = 0; i < N / 2; i++) sums[i] = 0;
    for (int step = 0; step < steps; step++) {
        const int stage = step % STAGES, round = step / STAGES;
        mbarrier_wait(&full[stage], round & 1);  // the tiles have arrived
        const unsigned char* const a_tile = a_tiles + stage * A_BYTES;
        const unsigned char* const b_tile = b_tiles + stage * B_BYTES;
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < DEPTH / 16; k++) {
            // 16 steps of depth: 32 bytes along a row, or 16 rows.
            const auto left = matrix<128>(a_tile + k * (TRANSPOSED_A ? 2 * PATTERN : 32), 0, PATTERN);
            const auto right = matrix<128>(b_tile + k * (TRANSPOSED_B ? 2 * PATTERN : 32),
                                           TRANSPOSED_B ? 8 * PATTERN : 0, PATTERN);
            wgmma<N, TRANSPOSED_A, TRANSPOSED_B>(sums, left, right);
        }
        wgmma_commit();
        wgmma_wait<1>();  // the products of the step before are done
        if (step) mbarrier_arrive(&empty[(step - 1) % STAGES]);
    }
    wgmma_wait<0>();  // all products are done
    write_rows<N>(sums, c + int64(row0) * N);
}
