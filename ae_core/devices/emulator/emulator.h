// CUDA C++ on a CPU: what kernels use of the language, so that a C++ compiler takes them as they stand.
//
// Every CUDA thread of a block is a fiber of one CPU thread. A fiber runs until its next barrier, then
// another takes over: races, missing barriers and divergent barriers behave as badly as on a GPU, and
// in every warp order that is asked for. Blocks run one after another.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
// Blocks run in turn, so one copy will do. It lies in .bss, which the runtime fills with NaN before
// each block: what a thread reads was written by its own block, or it shows.
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
    explicit dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) float4 {
    float x, y, z, w;
};

namespace emulator {

struct Lane {
    dim3 thread;      // threadIdx
    unsigned number;  // within the block
};

enum WarpOrder { FORWARD_ORDER, REVERSE_ORDER, RANDOM_ORDER };

struct Launch {
    dim3 grid, block, block_index;
    Lane* lane;              // the fiber that runs
    uint64_t exchange[1024];  // shuffles: one slot a thread
    char* dynamic_shared;     // NaN when a block starts, like __shared__ arrays
    unsigned shared_bytes;
};
extern Launch current;

constexpr unsigned MOST_SHARED_BYTES = 227 * 1024;  // of a block, on Hopper

void block_barrier();
void warp_barrier();
/// A kernel with its arguments, called once for each thread.
struct Call {
    void (*run)(const void* kernel, void** slots);
    const void* kernel;
    void** slots;
};

/// Runs a kernel for each thread of each block. Returns nullptr, or what went wrong.
const char* run(dim3 grid, dim3 block, int order, unsigned shared_bytes, Call call);
/// Names a function of the library whose shared memory is meant.
void find_shared_memory(const void* function);

/// One kernel argument, as cuLaunchKernel reads it: the first bytes at `slot` count.
template <class T> std::decay_t<T> argument(const void* slot) {
    static_assert(std::is_trivially_copyable_v<T>, "kernel parameters are copied bit by bit");
    std::decay_t<T> value;
    std::memcpy(&value, slot, sizeof value);
    return value;
}

template <class T> constexpr char kind() {
    static_assert(std::is_pointer_v<T> || std::is_same_v<T, int> || std::is_same_v<T, long long> ||
                      std::is_same_v<T, float> || std::is_class_v<T>,
                  "kernel parameters are pointers, int, int64, float or structs");
    if (std::is_class_v<T>) return 's';
    return std::is_pointer_v<T> ? 'p' : std::is_same_v<T, float> ? 'f' : sizeof(T) == 4 ? 'i' : 'l';
}

/// Each parameter's kind: p, i (int), l (int64), f or s (a struct).
template <class... Parameters> const char* signature(void (*)(Parameters...)) {
    static const char kinds[] = {kind<Parameters>()..., '\0'};
    return kinds;
}

template <class... Parameters, size_t... Index>
void call(void (*kernel)(Parameters...), void** slots, std::index_sequence<Index...>) {
    kernel(argument<Parameters>(slots[Index])...);
}

template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), const unsigned* shape, void** slots, int order,
                   unsigned shared_bytes) {
    const auto typed = [](const void* of_any_type, void** slots) {
        call(reinterpret_cast<void (*)(Parameters...)>(const_cast<void*>(of_any_type)), slots,
             std::index_sequence_for<Parameters...>{});
    };
    const auto untyped = reinterpret_cast<const void*>(kernel);
    find_shared_memory(untyped);
    return run(dim3(shape[0], shape[1], shape[2]), dim3(shape[3], shape[4], shape[5]), order,
               shared_bytes, {typed, untyped, slots});
}

/// Writes `value`, lets the warp arrive, reads the slot of lane `source`.
template <class T> T exchange(T value, unsigned source) {
    static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
    const unsigned self = current.lane->number, warp = self & ~31u;
    std::memcpy(&current.exchange[self], &value, sizeof value);
    warp_barrier();
    std::memcpy(&value, &current.exchange[warp + source], sizeof value);
    warp_barrier();
    return value;
}

}  // namespace emulator

#define threadIdx (emulator::current.lane->thread)
#define blockIdx (emulator::current.block_index)
#define blockDim (emulator::current.block)
#define gridDim (emulator::current.grid)

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp(unsigned = ~0u) { emulator::warp_barrier(); }

template <class T> T __shfl_down_sync(unsigned, T value, unsigned delta) {
    const unsigned self = emulator::current.lane->number & 31;
    return emulator::exchange(value, self + delta < 32 ? self + delta : self);
}

using std::max;
using std::min;
