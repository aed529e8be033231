// Convolution, v1: one launch for all filters and images, and a kernel of its own for the weights.
//
// Idea      The grid's z counts filters and images, so streams are gone; the loop over input channels
//           moves into the kernel. The weight gradient gets a block for each weight plane: a thread
//           multiplies pixels, and a tree in shared memory adds the threads up.
// Mapping   correlate: a thread an output pixel. weight_gradient: a block a (filter, channel) pair.
// Shared    A tile with its halo, (TILE + 2)^2 floats; the tree has TILE^2 more.
// Bound by  Latency: a plane is loaded, waited for, and used for nine products a thread.
#include "portable.cuh"

// A tile of a plane with its halo, zero outside the plane.
template <int TILE>
__device__ void load_tile(float (&tile)[TILE + 2][TILE + 2], const float* plane, int height, int width,
                          int top, int left) {
    for (int k = threadIdx.y * TILE + threadIdx.x; k < (TILE + 2) * (TILE + 2); k += TILE * TILE) {
        const int u = k / (TILE + 2), v = k % (TILE + 2), i = top + u - 1, j = left + v - 1;
        const bool inside = 0 <= i && i < height && 0 <= j && j < width;
        tile[u][v] = inside ? plane[i * width + j] : 0;
    }
}

// y[n,o] = sum over p of x[n,p] correlated with one 3 x 3 kernel, or with its mirror image if FLIP.
//
// x is (N, inputs, height, width), y (N, outputs, height, width). The kernel of the pair (o, p) is at
// weights + o * output_stride + p * input_stride. Grid: tiles across, tiles down, N * outputs.
template <int TILE, bool FLIP>
__global__ void correlate(const float* x, const float* weights, float* y, int inputs, int outputs,
                          int height, int width, int output_stride, int input_stride) {
    __shared__ float tile[TILE + 2][TILE + 2];
    const int n = blockIdx.z / outputs, o = blockIdx.z % outputs;
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    const int i = top + threadIdx.y, j = left + threadIdx.x;
    x += int64(n) * inputs * height * width;
    weights += o * output_stride;

    float sum = 0;
    for (int p = 0; p < inputs; p++) {
        load_tile<TILE>(tile, x, height, width, top, left);
        __syncthreads();
        for (int tap = 0; tap < 9; tap++)
            sum += weights[FLIP ? 8 - tap : tap] * tile[threadIdx.y + tap / 3][threadIdx.x + tap % 3];
        __syncthreads();  // the next plane's tile may overwrite this one only when all have read it
        x += height * width;
        weights += input_stride;
    }
    if (i < height && j < width) y[(int64(blockIdx.z) * height + i) * width + j] = sum;
}

// dw[k,c,u,v] = sum of dy[n,k,i,j] * x[n,c,i+u-1,j+v-1] over n, i, j. Grid: channels, filters.
template <int TILE>
__global__ void weight_gradient(const float* x, const float* dy, float* dw, int batch, int channels,
                                int filters, int height, int width) {
    constexpr int THREADS = TILE * TILE;
    __shared__ float tile[TILE + 2][TILE + 2];
    __shared__ float partial[THREADS];
    const int c = blockIdx.x, k = blockIdx.y, thread = threadIdx.y * TILE + threadIdx.x;

    float sums[9] = {};
    for (int n = 0; n < batch; n++) {
        const float* x_plane = x + (int64(n) * channels + c) * height * width;
        const float* dy_plane = dy + (int64(n) * filters + k) * height * width;
        for (int top = 0; top < height; top += TILE) {
            for (int left = 0; left < width; left += TILE) {
                load_tile<TILE>(tile, x_plane, height, width, top, left);
                __syncthreads();
                const int i = top + threadIdx.y, j = left + threadIdx.x;
                const float gradient = i < height && j < width ? dy_plane[i * width + j] : 0;
#pragma unroll
                for (int tap = 0; tap < 9; tap++)
                    sums[tap] += gradient * tile[threadIdx.y + tap / 3][threadIdx.x + tap % 3];
                __syncthreads();
            }
        }
    }
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
        partial[thread] = sums[tap];
        __syncthreads();  // the tree adds what other threads wrote
        for (int stride = THREADS / 2; stride > 0; stride /= 2) {
            if (thread < stride) partial[thread] += partial[thread + stride];
            __syncthreads();
        }
        if (thread == 0) dw[(k * channels + c) * 9 + tap] = partial[0];
    }
}
