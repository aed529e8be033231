// Convolution, the first port: planes, one (filter, input channel) pair after another.
//
// Idea      A launch correlates some input planes with their 3 x 3 kernels and adds them into one output
//           plane. With one plane a launch, that is one launch a pair: 32,768 for conv2 alone.
// Mapping   One thread a pixel of the output plane, in blocks of TILE x TILE.
// Shared    The input tile with a halo of one pixel: (TILE + 2)^2 floats.
// Bound by  Launches. One plane is a few microseconds of work for a few of the GPU's processors.
#include "portable.cuh"

// A tile of a plane with its halo, zero outside the plane. Any number of threads may share the work.
template <int TILE>
__device__ void load_tile(float (&tile)[TILE + 2][TILE + 2], const float* plane, int height, int width,
                          int top, int left, int thread, int threads) {
    for (int k = thread; k < (TILE + 2) * (TILE + 2); k += threads) {
        const int u = k / (TILE + 2), v = k % (TILE + 2), i = top + u - 1, j = left + v - 1;
        const bool inside = 0 <= i && i < height && 0 <= j && j < width;
        tile[u][v] = inside ? plane[i * width + j] : 0;
    }
}

// y (+)= sum over `planes` of x[p] correlated with weights[p], or with its mirror image if FLIP.
//
// x is (planes, height, width), y (height, width); the kernel of plane p is at weights + p * stride.
template <int TILE, bool FLIP>
__global__ void correlate(const float* x, const float* weights, float* y, int planes, int stride,
                          int height, int width, int accumulate) {
    __shared__ float tile[TILE + 2][TILE + 2];
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    const int i = top + threadIdx.y, j = left + threadIdx.x;
    const bool inside = i < height && j < width;

    float sum = accumulate && inside ? y[i * width + j] : 0;
    for (int p = 0; p < planes; p++) {
        load_tile<TILE>(tile, x, height, width, top, left, threadIdx.y * TILE + threadIdx.x, TILE * TILE);
        __syncthreads();
        for (int tap = 0; tap < 9; tap++)
            sum += weights[FLIP ? 8 - tap : tap] * tile[threadIdx.y + tap / 3][threadIdx.x + tap % 3];
        __syncthreads();  // the next plane's tile may overwrite this one only when all have read it
        x += height * width;
        weights += stride;
    }
    if (inside) y[i * width + j] = sum;
}

// dw[c] (+)= x[c] correlated with dy, for as many channels as there are blocks.
//
// The same idea with the output gradient as the kernel. The output has 3 x 3 elements, so a block has
// nine threads, and each sums as many products as a plane has pixels: this is what v1 mends.
template <int TILE>
__global__ void correlate_gradient(const float* x, const float* dy, float* dw, int height, int width,
                                   int accumulate) {
    __shared__ float tile[TILE + 2][TILE + 2];
    x += int64(blockIdx.x) * height * width;
    dw += blockIdx.x * 9;

    const int tap = threadIdx.y * 3 + threadIdx.x;
    float sum = accumulate ? dw[tap] : 0;
    for (int top = 0; top < height; top += TILE) {
        for (int left = 0; left < width; left += TILE) {
            load_tile<TILE>(tile, x, height, width, top, left, tap, 9);
            __syncthreads();
            for (int i = 0; i < TILE && top + i < height; i++)
                for (int j = 0; j < TILE && left + j < width; j++)
                    sum += dy[(top + i) * width + left + j] * tile[i + threadIdx.y][j + threadIdx.x];
            __syncthreads();
        }
    }
    dw[tap] = sum;
}
