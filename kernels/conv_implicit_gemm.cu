// Convolution, v2: a matrix product with a matrix that is never written.
//
// Idea      im2col turns a convolution into C = A B: each column of B holds the 3 x 3 windows, one a
//           plane, that an output pixel sees. Here the windows are read from where they lie when a tile
//           of B is loaded, with zeros outside the plane. One template does all three passes:
//
//             pass            C                 A                      B
//             FORWARD         y  K x pixels     w  K x C*9             windows of x   C*9 x pixels
//             INPUT_GRADIENT  dx C x pixels     w  C x K*9, mirrored   windows of dy  K*9 x pixels
//             WEIGHT_GRADIENT dw K x C*9        dy K x pixels          windows of x   pixels x C*9
//
//           where pixels counts those of all images.
// Mapping   A block of 256 threads computes ROWS rows of C, for PIXELS pixels or for CHANNELS channels
//           of 9 taps. A thread computes TM x TN of that, so that a value read from shared memory serves
//           several products. Threads that this leaves over form SPLIT groups, which share out the
//           depth of each tile and add up at the end: at batch 1 there are few tiles, and each must
//           keep a processor busy.
// Shared    A tile of A and one of B, and SPLIT results of the block for the sum: 33 to 39 KB.
// Bound by  At batch 1, the number of blocks; else instructions, mostly loads from shared memory.
#include "portable.cuh"

enum Pass { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT };

constexpr int THREADS = 256, TAPS = 9;

// The window around a pixel of one plane of `planes` (N, count, height, width), zero outside the plane,
// and for planes and pixels that are not there. `pixel` counts through all images.
__device__ __forceinline__ void load_window(float (&window)[TAPS], const float* planes, int batch,
                                            int count, int height, int width, int plane, int pixel) {
    const int pixels = height * width, image = pixel / pixels, at = pixel - image * pixels;
    const int i = at / width, j = at - i * width;
    const bool exists = image < batch && plane < count;
    const float* centre = planes + (int64(image) * count + plane) * pixels + at;
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        const int u = tap / 3 - 1, v = tap % 3 - 1;
        const bool inside = 0 <= i + u && i + u < height && 0 <= j + v && j + v < width;
        window[tap] = exists && inside ? centre[u * width + v] : 0;
    }
}

// C = A B as above, all float32. The grid covers C's columns by x and its rows by y.
template <Pass PASS, int ROWS, int PIXELS, int CHANNELS, int TM, int TN>
__global__ void __launch_bounds__(THREADS)
    conv2d_gemm(const float* a, const float* b, float* c, int batch, int channels, int filters,
                int height, int width) {
    constexpr bool TO_WEIGHTS = PASS == WEIGHT_GRADIENT;
    constexpr int COLUMNS = TO_WEIGHTS ? CHANNELS * TAPS : PIXELS;
    constexpr int DEPTH = TO_WEIGHTS ? PIXELS : CHANNELS * TAPS;
    constexpr int GROUP = ROWS / TM * (COLUMNS / TN), SPLIT = THREADS / GROUP, SHARE = DEPTH / SPLIT;
    constexpr int A_LOADS = ROWS * DEPTH / THREADS, B_WINDOWS = PIXELS * CHANNELS / THREADS;
    static_assert(ROWS % TM == 0 && COLUMNS % TN == 0, "threads' parts cover the block's");
    static_assert(GROUP * SPLIT == THREADS && SHARE * SPLIT == DEPTH, "threads share tiles evenly");
    static_assert(A_LOADS * THREADS == ROWS * DEPTH, "threads share the loads of A evenly");
    static_assert(B_WINDOWS * THREADS == PIXELS * CHANNELS, "threads share the loads of B evenly");
    // One row for each step of the depth. The padding keeps rows of A aligned for vector loads, and
    // spreads neighbouring rows over the banks.
    __shared__ float a_tile[DEPTH][ROWS + 4], b_tile[DEPTH][COLUMNS + (TO_WEIGHTS ? 1 : 4)];
    __shared__ float partial[SPLIT][ROWS][COLUMNS];

    const int pixels = height * width, thread = threadIdx.x;
    const int rows = PASS == INPUT_GRADIENT ? channels : filters;    // of C
    const int planes = PASS == INPUT_GRADIENT ? filters : channels;  // that B's windows are from
    const int depth = TO_WEIGHTS ? batch * pixels : planes;          // to sum over, without the taps
    const int row0 = blockIdx.y * ROWS, pixel0 = blockIdx.x * PIXELS, plane0 = blockIdx.x * CHANNELS;

    float a_next[A_LOADS], b_next[B_WINDOWS][TAPS];
    const auto load = [&](int first) {  // the tile that starts at pixel or plane `first` of the depth
#pragma unroll
        for (int k = 0; k < A_LOADS; k++) {
            const int element = k * THREADS + thread;
            if (TO_WEIGHTS) {
                const int row = row0 + element / DEPTH, pixel = first + element % DEPTH;
                const int image = pixel / pixels, at = pixel - image * pixels;
                const bool exists = row < rows && image < batch;
                a_next[k] = exists ? a[(int64(image) * filters + row) * pixels + at] : 0;
            } else if (PASS == FORWARD) {
                const int row = row0 + element / DEPTH, step = first * TAPS + element % DEPTH;
                a_next[k] = row < rows && step < planes * TAPS ? a[row * planes * TAPS + step] : 0;
            } else {
                const int plane = first + element / (ROWS * TAPS), step = element % (ROWS * TAPS);
                const bool exists = plane < planes && row0 + step / TAPS < rows;
                a_next[k] = exists ? a[(plane * rows + row0) * TAPS + step] : 0;
            }
        }
#pragma unroll
        for (int k = 0; k < B_WINDOWS; k++) {
            const int element = k * THREADS + thread, pixel = element % PIXELS, plane = element / PIXELS;
            load_window(b_next[k], b, batch, planes, height, width, plane + (TO_WEIGHTS ? plane0 : first),
                        pixel + (TO_WEIGHTS ? first : pixel0));
        }
    };
    const auto store = [&] {
#pragma unroll
        for (int k = 0; k < A_LOADS; k++) {
            const int element = k * THREADS + thread;
            if (PASS == INPUT_GRADIENT) {  // mirrored: tap 8 comes first
                const int plane = element / (ROWS * TAPS), step = element % (ROWS * TAPS);
                a_tile[plane * TAPS + TAPS - 1 - step % TAPS][step / TAPS] = a_next[k];
            } else {
                a_tile[element % DEPTH][element / DEPTH] = a_next[k];
            }
        }
#pragma unroll
        for (int k = 0; k < B_WINDOWS; k++) {
            const int element = k * THREADS + thread, pixel = element % PIXELS, plane = element / PIXELS;
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                if (TO_WEIGHTS) b_tile[pixel][plane * TAPS + tap] = b_next[k][tap];
                else b_tile[plane * TAPS + tap][pixel] = b_next[k][tap];
            }
        }
    };

    const int group = thread / GROUP, member = thread % GROUP;
    const int row = member / (COLUMNS / TN) * TM, column = member % (COLUMNS / TN) * TN;
    constexpr int STEP = TO_WEIGHTS ? PIXELS : CHANNELS;
    float sum[TM][TN] = {};
    load(0);
    for (int first = 0; first < depth; first += STEP) {
        store();
        __syncthreads();
        if (first + STEP < depth) load(first + STEP);  // under way while the products are computed
#pragma unroll
        for (int k = group * SHARE; k < (group + 1) * SHARE; k++)
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) sum[i][j] += a_tile[k][row + i] * b_tile[k][column + j];
        __syncthreads();  // store() may overwrite the tiles only when all have read them
    }

#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) partial[group][row + i][column + j] = sum[i][j];
    __syncthreads();
    for (int element = thread; element < ROWS * COLUMNS; element += THREADS) {
        const int i = element / COLUMNS, j = element % COLUMNS;
        float total = 0;
        for (int part = 0; part < SPLIT; part++) total += partial[part][i][j];
        if (row0 + i >= rows) continue;
        if (TO_WEIGHTS) {
            const int step = plane0 * TAPS + j;
            if (step < planes * TAPS) c[int64(row0 + i) * planes * TAPS + step] = total;
        } else {
            const int image = (pixel0 + j) / pixels, at = pixel0 + j - image * pixels;
            if (image < batch) c[(int64(image) * rows + row0 + i) * pixels + at] = total;
        }
    }
}
