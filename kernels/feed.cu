// Images into a batch and losses out of it, so that the host sends nothing between steps.
//
// Idea      A data set lies on the card as it is on disk. A step gathers its images through the epoch's
//           order, from a position that the card itself moves on: a graph of the step holds for all.
// Mapping   gather: a thread for each value, `parts` blocks an image. advance: one block.
// Shared    None.
// Bound by  Memory traffic; at batch 1 by the time that a launch takes.
#include "portable.cuh"

// A pixel from 0 to 1: uint8 counts to 255.
__device__ inline float in_unit(unsigned char pixel) { return float(pixel) / 255; }
__device__ inline float in_unit(float pixel) { return pixel; }

// images[n] = pixels[order[position + n]], images of `size` values each.
template <class Pixel>
__global__ void gather(const Pixel* pixels, const int* order, const int64* position, float* images,
                       int size, int parts) {
    const int n = blockIdx.x / parts, i = blockIdx.x % parts * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int64 row = order[*position + n];
    images[int64(n) * size + i] = in_unit(pixels[row * size + i]);
}

// losses[position + n] = loss[n]; then the position goes on by `batch`, at `length` back to 0.
__global__ void advance(const float* loss, float* losses, int64* position, int batch, int64 length) {
    const int64 first = *position;
    for (int n = threadIdx.x; n < batch; n += blockDim.x) losses[first + n] = loss[n];
    __syncthreads();  // all threads have read the position
    if (threadIdx.x == 0) *position = first + batch < length ? first + batch : 0;
}
