// Bias, v2: planes in the grid, and a sum by warp shuffles.
//
// Idea      A block knows its filter from the grid. For the gradient, lanes of a warp add up through
//           registers; shared memory carries a float a warp, not one a thread.
// Mapping   bias_add: a thread a pixel. bias_sum: a block a filter.
// Shared    bias_sum: 32 floats.
// Bound by  Memory traffic; at batch 1 by the time that a launch takes.
#include "portable.cuh"

// y[n,k] += biases[k]. Grid: images times the `parts` that a plane takes, filters.
__global__ void bias_add(float* y, const float* biases, int pixels, int parts) {
    const int pixel = blockIdx.x % parts * blockDim.x + threadIdx.x;
    const int64 plane = int64(blockIdx.x / parts) * gridDim.y + blockIdx.y;
    if (pixel < pixels) y[plane * pixels + pixel] += biases[blockIdx.y];
}

// The sum over a warp, for its lane 0, in five exchanges of registers.
__device__ float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_down_sync(0xffffffffu, value, distance);
    return value;
}

// db[k] = sum of dy[n,k,i,j] over n, i, j. Without atomics: sums have one order, and runs the same bits.
template <int THREADS>
__global__ void bias_sum(const float* dy, float* db, int batch, int pixels) {
    __shared__ float partial[32];
    const int filters = gridDim.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0;
    for (int n = 0; n < batch; n++)
        for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS)
            sum += dy[(int64(n) * filters + blockIdx.x) * pixels + pixel];
    sum = warp_sum(sum);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (warp > 0) return;
    sum = warp_sum(lane < THREADS / 32 ? partial[lane] : 0);
    if (lane == 0) db[blockIdx.x] = sum;
}
