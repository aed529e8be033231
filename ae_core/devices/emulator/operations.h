// What a GPU does beside its threads, on the emulator: asynchronous copies, mbarriers, tensor maps,
// products of warpgroups. The twins in kernels/ampere.cuh and kernels/hopper.cuh call these.
//
// When an operation that was issued is carried out depends on the order of warps, so that a missing wait
// or barrier shows in one of them:
//
//   order     loads and copies into shared memory   products and stores, which read it
//   forward   as late as allowed: a tile is read    at once
//             before it arrived
//   reverse   at once                               as late as allowed: a tile is overwritten before
//                                                   it was read
//   random    by chance                             by chance
//
// As late as allowed is when no thread can go on without it, or, of cp.async, when its thread waits.
// Accumulators of a product under way are NaN. Every misuse that a GPU answers with a hang or with
// undefined behaviour is a line of text here.
#pragma once
#include <initializer_list>

#include "emulator.h"

/// An mbarrier: as large as a GPU's.
struct alignas(8) Mbarrier {
    uint32_t pending : 14, expected : 14, phase : 1, visible : 1, unset : 2;
    int32_t bytes;  // that the phase still waits for
};

/// A tensor in global memory and the box of it that one load moves. `tensor_map` in Python fills it in.
struct alignas(64) TensorMap {
    uint64_t address, stride[4];  // bytes from one index to the next; dimension 0 is dense
    uint32_t extent[5], box[5];
    uint32_t rank, element_bytes, swizzle;
    uint32_t magic;
};
static_assert(sizeof(TensorMap) == 128 && sizeof(Mbarrier) == 8, "the sizes on a GPU");

namespace emulator {

constexpr uint32_t TENSOR_MAP = 0x54454e53;  // the magic number

/// Bytes from the start of dynamic shared memory.
unsigned shared_address(const void* shared);

/// Memory of a warp's own, for what its lanes exchange; only of a whole warp.
float* warp_scratch(const char* instruction);
constexpr int SCRATCH = 512;

/// 16 bytes from global to shared memory, or 16 zeros.
void copy_async(void* shared, const void* global, bool exists);
void copy_async_commit();
void copy_async_wait(unsigned groups);

void mbarrier_init(Mbarrier* barrier, unsigned arrivals);
void mbarrier_make_visible();
void mbarrier_arrive(Mbarrier* barrier, unsigned bytes);
void mbarrier_wait(Mbarrier* barrier, unsigned parity);

void tensor_load(void* shared, const TensorMap* map, Mbarrier* barrier, std::initializer_list<int> at);
void tensor_store(const TensorMap* map, const void* shared, std::initializer_list<int> at);
void tensor_store_commit();
void tensor_store_wait(unsigned groups);

/// d (+)= A B of a warpgroup, n / 2 accumulators a thread, operands described as wgmma reads them.
void product(float* d, int n, uint64_t a, uint64_t b, bool transposed_a, bool transposed_b,
             bool accumulate);
void product_fence();
void product_commit();
void product_wait(unsigned groups);

void named_barrier(unsigned id, unsigned threads, bool waits);

/// The warp's leader: another lane in another order.
bool elected();

}  // namespace emulator
