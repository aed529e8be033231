// Parts of hopper.cuh that hopper_product.cu leaves out.
#include "hopper.cuh"

__device__ void copy_box(const unsigned char* memory, float* y, int bytes) {
    const float* const values = reinterpret_cast<const float*>(memory);
    for (int k = threadIdx.x; k < bytes / 4; k += blockDim.x) y[k] = values[k];
}

// One box of a tensor, as it lies in shared memory: y (bytes / 4).
template <int RANK> __global__ void load_box(const __grid_constant__ TensorMap map, float* y, int bytes,
                                             int c0, int c1, int c2, int c3) {
    DYNAMIC_SHARED(memory);
    __shared__ Mbarrier arrived;
    if (threadIdx.x == 0) {
        mbarrier_init(&arrived, 1);
        mbarrier_fence_init();
        mbarrier_arrive_expect(&arrived, bytes);
        if constexpr (RANK == 1) tensor_load(memory, map, &arrived, c0);
        if constexpr (RANK == 2) tensor_load(memory, map, &arrived, c0, c1);
        if constexpr (RANK == 4) tensor_load(memory, map, &arrived, c0, c1, c2, c3);
    }
    __syncthreads();
    mbarrier_wait(&arrived, 0);
    copy_box(memory, y, bytes);
}

// y (rows, 32) = 2 x, through one tile of 8 x 32 floats after the other: loaded, changed, stored.
__global__ void double_by_tiles(const __grid_constant__ TensorMap x_map,
                                const __grid_constant__ TensorMap y_map, int tiles) {
    DYNAMIC_SHARED(memory);
    __shared__ Mbarrier arrived;
    float* const tile = reinterpret_cast<float*>(memory);
    if (threadIdx.x == 0) {
        mbarrier_init(&arrived, 1);
        mbarrier_fence_init();
    }
    __syncthreads();
    for (int k = 0; k < tiles; k++) {
        if (threadIdx.x == 0) {
            mbarrier_arrive_expect(&arrived, 1024);
            tensor_load(tile, x_map, &arrived, 0, 8 * k);
        }
        mbarrier_wait(&arrived, k & 1);
        for (int i = threadIdx.x; i < 256; i += blockDim.x) tile[i] *= 2;
        fence_async_proxy();
        __syncthreads();  // the tile is complete
        if (threadIdx.x == 0) {
            tensor_store(y_map, tile, 0, 8 * k);
            tensor_store_commit();
            tensor_store_wait<0>();  // the tile may be overwritten
        }
    }
}

// c (64 x 8) = a (64 x 16) b (8 x 16)^T, put into shared memory by threads: core matrices as SWIZZLE has them.
template <int SWIZZLE> __global__ void small_product(const bf16* a, const bf16* b, float* c) {
    constexpr int ROW = SWIZZLE ? SWIZZLE : 16;
    DYNAMIC_SHARED(memory);
    unsigned char *const a_tile = memory, *const b_tile = memory + 8192;
    const auto place = [](int row, int k) {
        if (SWIZZLE) return swizzled<SWIZZLE>(row * ROW + k * 2);
        return unsigned(row / 8 * 256 + k / 8 * 128 + row % 8 * 16 + k % 8 * 2);
    };
    const int thread = threadIdx.x;
    for (int i = thread; i < 64 * 16; i += 128)
        *reinterpret_cast<bf16*>(a_tile + place(i / 16, i % 16)) = a[i];
    *reinterpret_cast<bf16*>(b_tile + place(thread / 16, thread % 16)) = b[thread];
    fence_async_proxy();
    __syncthreads();
    float sums[4];  // not added to
    constexpr int LEADING = SWIZZLE ? 0 : 128, STRIDE = SWIZZLE ? 8 * ROW : 256;
    wgmma_fence();
    wgmma<8>(sums, matrix<SWIZZLE>(a_tile, LEADING, STRIDE), matrix<SWIZZLE>(b_tile, LEADING, STRIDE), false);
    wgmma_commit();
    wgmma_wait<0>();
    const int lane = thread % 32;
    for (int i = 0; i < 4; i++)
        c[(thread / 32 * 16 + lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// y[k] = x[k] + 1, k < 32 rounds: two warps hand over through one array in turn, by named barriers.
__global__ void hand_over(const float* x, float* y, int rounds) {
    __shared__ float between[32];
    const int lane = threadIdx.x % 32;
    for (int round = 0; round < rounds; round++) {
        if (threadIdx.x < 32) {
            if (round) named_barrier_wait(2, 64);  // it was read
            between[lane] = x[32 * round + lane] + 1;
            named_barrier_arrive(1, 64);
        } else {
            named_barrier_wait(1, 64);  // it was written
            y[32 * round + lane] = between[lane];
            if (round + 1 < rounds) named_barrier_arrive(2, 64);
        }
    }
}

// y[warp] = how many lanes were elected.
__global__ void elections(float* y) {
    __shared__ float count[32];
    if (elect_one()) count[threadIdx.x / 32] = 1;
    __syncthreads();
    if (threadIdx.x % 32 == 0) y[threadIdx.x / 32] = count[threadIdx.x / 32];
}
