// Tensor-map loads, mbarriers, products of warpgroups: compute capability 9.0, compiled for sm_90a.
//
// A warpgroup is four warps, the first a multiple of 4. `wgmma<N>` computes D (64 x N) += A (64 x 16)
// B (16 x N), A and B bf16 in shared memory. In D, thread w * 32 + lane of the warpgroup has, with
// g = lane / 4 and t = lane % 4,
//
//   d[4j], d[4j + 1]       row 16w + g,      columns 8j + 2t, 8j + 2t + 1
//   d[4j + 2], d[4j + 3]   row 16w + g + 8,  the same columns
//
// An operand lies in shared memory as a tensor-map load with a box `SWIZZLE` bytes wide puts it: rows of
// SWIZZLE bytes, whose 16-byte chunks are exchanged. `matrix<SWIZZLE>(start, leading, stride)` describes
// it, with distances in bytes (row: along M of A, along N of B):
//
//   depth within a row (not transposed)   stride: 8 rows further. leading: SWIZZLE 0 only, 8 steps of
//                                         depth further
//   depth across rows (transposed)        stride: 8 steps of depth further. leading: SWIZZLE / 2 rows
//                                         further. With SWIZZLE 0, stride: 8 rows, leading: 8 steps
//
// A step of 16 along a depth within a row of 128 bytes is 32 bytes further: `start + 32`.
//
// The emulator knows one block at a time: a cluster of one. It does not see a missing
// fence_async_proxy(), and takes setmaxnreg for granted.
#pragma once
#include "ampere.cuh"

// Offset in bytes at which a box with this swizzle has what would be at `offset` without.
template <int SWIZZLE> __device__ __forceinline__ unsigned swizzled(unsigned offset) {
    return SWIZZLE ? offset ^ ((offset >> 7 & (SWIZZLE / 16 - 1)) << 4) : offset;
}

#ifdef AE_EMULATED
using emulator::shared_address;

// Once, by one thread: phases of `arrivals` arrivals each. The first has parity 0.
inline void mbarrier_init(Mbarrier* barrier, int arrivals) { emulator::mbarrier_init(barrier, arrivals); }
// After all initialisations of the thread, before __syncthreads().
inline void mbarrier_fence_init() { emulator::mbarrier_make_visible(); }
inline void mbarrier_arrive(Mbarrier* barrier) { emulator::mbarrier_arrive(barrier, 0); }
// Arrives, and lets the phase wait for so many bytes of loads as well.
inline void mbarrier_arrive_expect(Mbarrier* barrier, int bytes) { emulator::mbarrier_arrive(barrier, bytes); }
// Waits until the phase of this parity is complete; of parity 1, at the start, it is.
inline void mbarrier_wait(Mbarrier* barrier, int parity) { emulator::mbarrier_wait(barrier, parity); }

// One thread: a box of the tensor to shared memory, at a multiple of 128 bytes (whole swizzle patterns:
// 8 * SWIZZLE). Coordinates begin with the innermost and may lie outside, where the box has zeros. The
// map is a `const __grid_constant__ TensorMap` parameter.
template <class... Coordinates>
void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, Coordinates... at) {
    emulator::tensor_load(shared, &map, barrier, {at...});
}
// One thread: a box from shared memory to the tensor; what lies outside is left out. Threads that wrote the
// box call fence_async_proxy() before a barrier that this one passes.
template <class... Coordinates>
void tensor_store(const TensorMap& map, const void* shared, Coordinates... at) {
    emulator::tensor_store(&map, shared, {at...});
}
inline void tensor_store_commit() { emulator::tensor_store_commit(); }
// At most so many groups of the thread's stores still read shared memory or write.
template <int GROUPS> void tensor_store_wait() { emulator::tensor_store_wait(GROUPS); }
// What the thread wrote to shared memory is seen by loads, stores and products that others start later.
inline void fence_async_proxy() {}

// Before the first product, and again after the accumulators were read or written.
inline void wgmma_fence() { emulator::product_fence(); }
// The warpgroup's products since the last commit are a group.
inline void wgmma_commit() { emulator::product_commit(); }
// At most so many groups are under way. Until then nobody may touch accumulators or overwrite operands.
template <int GROUPS> void wgmma_wait() { emulator::product_wait(GROUPS); }
// D += A B, or D = A B.
template <int N, bool TRANSPOSED_A = false, bool TRANSPOSED_B = false>
void wgmma(float (&d)[N / 2], unsigned long long a, unsigned long long b, bool accumulate = true) {
    static_assert(8 <= N && N <= 256 && N % 8 == 0, "wgmma has N = 8, 16, ... 256");
    emulator::product(d, N, a, b, TRANSPOSED_A, TRANSPOSED_B, accumulate);
}

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, whole warps.
inline void named_barrier_wait(int id, int threads) { emulator::named_barrier(id, threads, true); }
inline void named_barrier_arrive(int id, int threads) { emulator::named_barrier(id, threads, false); }
// True in one lane of a whole warp.
inline bool elect_one() { return emulator::elected(); }
// More or fewer registers a thread from here on: whole warpgroups, a multiple of 8.
template <int REGISTERS> void raise_registers() {}
template <int REGISTERS> void lower_registers() {}
#else
struct alignas(8) Mbarrier {
    unsigned long long opaque;
};
struct alignas(64) TensorMap {
    char opaque[128];
};
__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_fence_init() {
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier) {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" :: "r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;"
                 :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, int parity) {
    asm volatile("{\n\t.reg .pred done;\n"
                 "again_%=:\n\t"
                 "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again_%=;\n\t}"
                 :: "r"(shared_address(barrier)), "r"(parity) : "memory");
}
__device__ __forceinline__ void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, int c0) {
    asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3}], [%2];"
                 :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(barrier)), "r"(c0) : "memory");
}
__device__ __forceinline__ void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, int c0, int c1) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];"
                 :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1) : "memory");
}
__device__ __forceinline__ void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, int c0, int c1, int c2) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];"
                 :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2) : "memory");
}
__device__ __forceinline__ void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, int c0, int c1, int c2, int c3) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];"
                 :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3) : "memory");
}
__device__ __forceinline__ void tensor_load(void* shared, const TensorMap& map, Mbarrier* barrier, int c0, int c1, int c2, int c3, int c4) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];"
                 :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4) : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, const void* shared, int c0) {
    asm volatile("cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%0, {%2}], [%1];"
                 :: "l"(&map), "r"(shared_address(shared)), "r"(c0) : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, const void* shared, int c0, int c1) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
                 :: "l"(&map), "r"(shared_address(shared)), "r"(c0), "r"(c1) : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, const void* shared, int c0, int c1, int c2) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];"
                 :: "l"(&map), "r"(shared_address(shared)), "r"(c0), "r"(c1), "r"(c2) : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, const void* shared, int c0, int c1, int c2, int c3) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];"
                 :: "l"(&map), "r"(shared_address(shared)), "r"(c0), "r"(c1), "r"(c2), "r"(c3) : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, const void* shared, int c0, int c1, int c2, int c3, int c4) {
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];"
                 :: "l"(&map), "r"(shared_address(shared)), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4) : "memory");
}
__device__ __forceinline__ void tensor_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int GROUPS> __device__ __forceinline__ void tensor_store_wait() {
    asm volatile("cp.async.bulk.wait_group %0;" :: "n"(GROUPS) : "memory");
}
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int GROUPS> __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(GROUPS) : "memory");
}
__device__ __forceinline__ void named_barrier_wait(int id, int threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ bool elect_one() {
    unsigned elected;
    asm volatile("{\n\t.reg .pred leads;\n\telect.sync _|leads, 0xffffffff;\n\tselp.u32 %0, 1, 0, leads;\n\t}"
                 : "=r"(elected));
    return elected;
}
template <int REGISTERS> __device__ __forceinline__ void raise_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(REGISTERS));
}
template <int REGISTERS> __device__ __forceinline__ void lower_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(REGISTERS));
}

// One specialisation for each N in use: the instruction names its N / 2 accumulators one by one.
template <int N> struct Wgmma;
#define REGISTERS_4 "%0, %1, %2, %3"
#define REGISTERS_8 REGISTERS_4 ", %4, %5, %6, %7"
#define REGISTERS_12 REGISTERS_8 ", %8, %9, %10, %11"
#define REGISTERS_16 REGISTERS_12 ", %12, %13, %14, %15"
#define REGISTERS_24 REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define REGISTERS_32 REGISTERS_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_48 REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define REGISTERS_64 REGISTERS_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_80 REGISTERS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define REGISTERS_96 REGISTERS_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define REGISTERS_112 REGISTERS_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define REGISTERS_128 REGISTERS_112 \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SUMS_4(k) "+f"(d[k]), "+f"(d[k + 1]), "+f"(d[k + 2]), "+f"(d[k + 3])
#define SUMS_8(k) SUMS_4(k), SUMS_4(k + 4)
#define SUMS_16(k) SUMS_8(k), SUMS_8(k + 8)
#define SUMS_32(k) SUMS_16(k), SUMS_16(k + 16)
#define SUMS_64(k) SUMS_32(k), SUMS_32(k + 32)
#define WGMMA(N, REGISTERS, A, B, ACCUMULATE, TRANSPOSE_A, TRANSPOSE_B, ...)                            \
    template <> struct Wgmma<N> {                                                                      \
        template <int TRANSPOSED_A, int TRANSPOSED_B>                                                  \
        static __device__ __forceinline__ void issue(float (&d)[N / 2], unsigned long long a,          \
                                                     unsigned long long b, int accumulate) {           \
            asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" #ACCUMULATE ", 0;\n\t"             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" REGISTERS "}, %" \
                         #A ", %" #B ", add, 1, 1, %" #TRANSPOSE_A ", %" #TRANSPOSE_B ";\n\t}"         \
                         : __VA_ARGS__                                                                 \
                         : "l"(a), "l"(b), "r"(accumulate), "n"(TRANSPOSED_A), "n"(TRANSPOSED_B));     \
        }                                                                                              \
    }
WGMMA(8, REGISTERS_4, 4, 5, 6, 7, 8, SUMS_4(0));
WGMMA(16, REGISTERS_8, 8, 9, 10, 11, 12, SUMS_8(0));
WGMMA(24, REGISTERS_12, 12, 13, 14, 15, 16, SUMS_8(0), SUMS_4(8));
WGMMA(32, REGISTERS_16, 16, 17, 18, 19, 20, SUMS_16(0));
WGMMA(48, REGISTERS_24, 24, 25, 26, 27, 28, SUMS_16(0), SUMS_8(16));
WGMMA(64, REGISTERS_32, 32, 33, 34, 35, 36, SUMS_32(0));
WGMMA(96, REGISTERS_48, 48, 49, 50, 51, 52, SUMS_32(0), SUMS_16(32));
WGMMA(128, REGISTERS_64, 64, 65, 66, 67, 68, SUMS_64(0));
WGMMA(160, REGISTERS_80, 80, 81, 82, 83, 84, SUMS_64(0), SUMS_16(64));
WGMMA(192, REGISTERS_96, 96, 97, 98, 99, 100, SUMS_64(0), SUMS_32(64));
WGMMA(224, REGISTERS_112, 112, 113, 114, 115, 116, SUMS_64(0), SUMS_32(64), SUMS_16(96));
WGMMA(256, REGISTERS_128, 128, 129, 130, 131, 132, SUMS_64(0), SUMS_64(64));
#undef WGMMA
template <int N, bool TRANSPOSED_A = false, bool TRANSPOSED_B = false>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], unsigned long long a, unsigned long long b,
                                      bool accumulate = true) {
    Wgmma<N>::template issue<TRANSPOSED_A, TRANSPOSED_B>(d, a, b, accumulate);
}
#endif

// An operand in shared memory, as described at the top.
template <int SWIZZLE>
__device__ __forceinline__ unsigned long long matrix(const void* start, unsigned leading, unsigned stride) {
    static_assert(SWIZZLE == 0 || SWIZZLE == 32 || SWIZZLE == 64 || SWIZZLE == 128, "bytes of a row, or 0");
    constexpr unsigned long long MODE = SWIZZLE == 0 ? 0 : SWIZZLE == 128 ? 1 : SWIZZLE == 64 ? 2 : 3;
    return (shared_address(start) & 0x3ffff) >> 4 | (unsigned long long)(leading >> 4 & 0x3fff) << 16 |
           (unsigned long long)(stride >> 4 & 0x3fff) << 32 | MODE << 62;
}
