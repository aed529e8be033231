// Elementwise operations, pooling, upsampling, loss and update: all that is not a convolution.
//
// Idea      One thread for each element (ReLU, bias, update), output (pooling) or input (upsampling).
// Mapping   blockIdx.x counts elements, or plane by plane its pixels: a plane takes `parts` blocks.
// Shared    Only the two reductions use it: one float a thread.
// Bound by  Memory traffic; at batch 1 by the time that a launch takes.
//
// Activations are (N, C, H, W); a plane is one image's channel, N * C of them. Sums run in a fixed
// order, so that two runs give the same bits.
#include "portable.cuh"

// The pixel of its plane that a thread works on.
struct PlanePixel {
    int64 plane;
    int pixel;
    __device__ explicit PlanePixel(int parts)
        : plane(blockIdx.x / parts), pixel(blockIdx.x % parts * blockDim.x + threadIdx.x) {}
};

// y = max(x, 0). The test is for x < 0 so that NaN passes and is seen in the loss.
__global__ void relu_forward(const float* x, float* y, int64 count) {
    const int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i] < 0 ? 0 : x[i];
}

// dx = dy where x > 0, else 0.
__global__ void relu_backward(const float* x, const float* dy, float* dx, int64 count) {
    const int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) dx[i] = x[i] > 0 ? dy[i] : 0;
}

// y[n,k] += biases[k].
__global__ void bias_forward(float* y, const float* biases, int filters, int pixels, int parts) {
    const PlanePixel at(parts);
    if (at.pixel < pixels) y[at.plane * pixels + at.pixel] += biases[at.plane % filters];
}

// The sum of one value of each thread. A kernel calls it once: `partial` is read to the end.
template <int THREADS>
__device__ float block_sum(float value) {
    __shared__ float partial[THREADS];
    partial[threadIdx.x] = value;
    __syncthreads();
    for (int stride = THREADS / 2; stride > 0; stride /= 2) {
        if (threadIdx.x < stride) partial[threadIdx.x] += partial[threadIdx.x + stride];
        __syncthreads();
    }
    return partial[0];
}

// db[k] = sum of dy[n,k,i,j] over n, i, j: a block for each filter.
template <int THREADS>
__global__ void bias_gradient(const float* dy, float* db, int batch, int filters, int pixels) {
    float sum = 0;
    for (int n = 0; n < batch; n++)
        for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS)
            sum += dy[(int64(n) * filters + blockIdx.x) * pixels + pixel];
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) db[blockIdx.x] = sum;
}

// The largest of each 2 x 2 window; NaN counts as largest. x is (height, width), y half of that.
__global__ void maxpool_forward(const float* x, float* y, int height, int width, int parts) {
    const PlanePixel at(parts);
    const int out_width = width / 2, outputs = height / 2 * out_width;
    if (at.pixel >= outputs) return;
    const int i = 2 * (at.pixel / out_width), j = 2 * (at.pixel % out_width);
    const float* corner = x + at.plane * height * width + i * width + j;
    float largest = corner[0];
    for (int tap = 1; tap < 4; tap++) {
        const float value = corner[tap / 2 * width + tap % 2];
        if (value > largest || value != value) largest = value;
    }
    y[at.plane * outputs + at.pixel] = largest;
}

// dy to the first largest element of each window, row by row. A thread owns a window and writes all of
// it; along an odd side it owns half a window, which has no output and gets zeros.
__global__ void maxpool_backward(const float* x, const float* dy, float* dx, int height, int width,
                                 int parts) {
    const PlanePixel at(parts);
    const int windows_across = (width + 1) / 2, windows_down = (height + 1) / 2;
    if (at.pixel >= windows_down * windows_across) return;
    const int r = at.pixel / windows_across, s = at.pixel % windows_across;
    const int64 corner = at.plane * height * width + 2 * r * width + 2 * s;
    const bool whole = 2 * r + 1 < height && 2 * s + 1 < width;
    int first = 0;
    for (int tap = 1; whole && tap < 4; tap++)
        if (x[corner + tap / 2 * width + tap % 2] > x[corner + first / 2 * width + first % 2]) first = tap;
    for (int tap = 0; tap < 4; tap++) {
        if (2 * r + tap / 2 >= height || 2 * s + tap % 2 >= width) continue;
        const bool takes = whole && tap == first;
        dx[corner + tap / 2 * width + tap % 2] =
            takes ? dy[(at.plane * (height / 2) + r) * (width / 2) + s] : 0;
    }
}

// Each element becomes a 2 x 2 block; x is (height, width), y twice that.
__global__ void upsample_forward(const float* x, float* y, int height, int width, int parts) {
    const PlanePixel at(parts);
    if (at.pixel >= height * width) return;
    const int i = at.pixel / width, j = at.pixel % width;
    const float value = x[at.plane * height * width + at.pixel];
    float* corner = y + at.plane * 4 * height * width + 4 * i * width + 2 * j;
    for (int tap = 0; tap < 4; tap++) corner[tap / 2 * 2 * width + tap % 2] = value;
}

// The sum of each 2 x 2 block; dx is (height, width), dy twice that.
__global__ void upsample_backward(const float* dy, float* dx, int height, int width, int parts) {
    const PlanePixel at(parts);
    if (at.pixel >= height * width) return;
    const int i = at.pixel / width, j = at.pixel % width;
    const float* corner = dy + at.plane * 4 * height * width + 4 * i * width + 2 * j;
    float sum = 0;
    for (int tap = 0; tap < 4; tap++) sum += corner[tap / 2 * 2 * width + tap % 2];
    dx[at.plane * height * width + at.pixel] = sum;
}

// loss[n] = mean of (y - target)^2 over an image of `size` elements; dy is the gradient of the batch's
// mean, so `scale` is 2 / (N * size). A block for each image.
template <int THREADS>
__global__ void mse(const float* y, const float* target, float* dy, float* loss, int size, float scale) {
    const int64 image = int64(blockIdx.x) * size;
    float sum = 0;
    for (int i = threadIdx.x; i < size; i += THREADS) {
        const float difference = y[image + i] - target[image + i];
        sum += difference * difference;
        dy[image + i] = scale * difference;
    }
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) loss[blockIdx.x] = sum / size;
}

// parameters -= learning_rate * gradients, with one rate for all.
__global__ void sgd(float* parameters, const float* gradients, const float* learning_rate, int64 count) {
    const int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) parameters[i] -= *learning_rate * gradients[i];
}
