// Tensor cores and asynchronous copies of one warp: compute capability 8.0 and later.
//
// A fragment is a tile that a warp holds together. With g = lane / 4 and t = lane % 4, a lane has
//
//   mma_bf16   D, C 16 x 8   d[0], d[1]: row g, columns 2t, 2t + 1       d[2], d[3]: row g + 8
//              A   16 x 16   a[0]: row g, columns 2t, 2t + 1             a[1]: row g + 8
//                            a[2]: row g, columns 2t + 8, 2t + 9         a[3]: row g + 8
//              B   16 x 8    b[0]: rows 2t, 2t + 1 of column g           b[1]: rows 2t + 8, 2t + 9
//   mma_tf32   D, C 16 x 8   as above
//              A   16 x 8    a[0]: row g, column t    a[1]: row g + 8    a[2]: row g, column t + 4
//                            a[3]: row g + 8, column t + 4
//              B   8 x 8     b[0]: row t of column g                     b[1]: row t + 4
#pragma once
#include "portable.cuh"

#ifdef AE_EMULATED
#include "operations.h"

// D += A B, bf16 products, float32 sums.
inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    float* const left = emulator::warp_scratch("mma");
    float* const right = left + 16 * 16;
    const unsigned lane = emulator::current.lane->number & 31, g = lane / 4, t = lane % 4;
    for (unsigned k = 0; k < 4; k++) {
        float* const to = left + (g + k % 2 * 8) * 16 + 2 * t + k / 2 * 8;
        to[0] = bf16_first(a[k]), to[1] = bf16_second(a[k]);
    }
    for (unsigned k = 0; k < 2; k++) {
        float* const to = right + (2 * t + k * 8) * 8 + g;
        to[0] = bf16_first(b[k]), to[8] = bf16_second(b[k]);
    }
    emulator::warp_barrier();
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 16; k++)
            d[i] += left[(g + i / 2 * 8) * 16 + k] * right[k * 8 + 2 * t + i % 2];
    emulator::warp_barrier();
}

// The nearest value with TF32's 10 bits of mantissa, ties away from zero: what mma_tf32 takes.
inline unsigned tf32(float value) {
    return value != value ? 0x7fffffffu : (bits_of(value) + 0x1000u) & ~0x1fffu;
}

// D += A B, TF32 products, float32 sums. The lower 13 bits of an operand are not looked at.
inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    float* const left = emulator::warp_scratch("mma");
    float* const right = left + 16 * 8;
    const unsigned lane = emulator::current.lane->number & 31, g = lane / 4, t = lane % 4;
    for (unsigned k = 0; k < 4; k++)
        left[(g + k % 2 * 8) * 8 + t + k / 2 * 4] = float_of(a[k] & ~0x1fffu);
    for (unsigned k = 0; k < 2; k++) right[(t + k * 4) * 8 + g] = float_of(b[k] & ~0x1fffu);
    emulator::warp_barrier();
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 8; k++)
            d[i] += left[(g + i / 2 * 8) * 8 + k] * right[k * 8 + 2 * t + i % 2];
    emulator::warp_barrier();
}

// Four 8 x 8 tiles of 16-bit elements from shared memory. Lane l gives the address of row l % 8 of tile
// l / 8, 16 bytes. It receives columns 2t, 2t + 1 of row g of each tile; TRANSPOSED: rows 2t, 2t + 1 of
// column g.
template <bool TRANSPOSED = false> void load_matrices(unsigned (&tiles)[4], const void* row) {
    unsigned* const rows = reinterpret_cast<unsigned*>(emulator::warp_scratch("ldmatrix"));
    const unsigned lane = emulator::current.lane->number & 31, g = lane / 4, t = lane % 4;
    std::memcpy(rows + 4 * lane, __builtin_assume_aligned(row, 16), 16);
    emulator::warp_barrier();
    for (unsigned k = 0; k < 4; k++) {
        const unsigned* const tile = rows + 32 * k;
        const auto element = [&](unsigned i, unsigned j) { return tile[4 * i + j / 2] >> j % 2 * 16 & 0xffffu; };
        tiles[k] = TRANSPOSED ? element(2 * t, g) | element(2 * t + 1, g) << 16 : tile[4 * g + t];
    }
    emulator::warp_barrier();
}

// 16 bytes from global to shared memory, both at multiples of 16; zeros where the source does not exist.
inline void copy_async(void* shared, const void* global, bool exists = true) {
    emulator::copy_async(shared, global, exists);
}

// The thread's copies since the last commit are a group.
inline void copy_async_commit() { emulator::copy_async_commit(); }

// Of the thread's groups, at most so many are still under way. Others' copies need a barrier as well.
template <int GROUPS> void copy_async_wait() { emulator::copy_async_wait(GROUPS); }
#else
__device__ __forceinline__ unsigned shared_address(const void* shared) {
    return unsigned(__cvta_generic_to_shared(shared));
}
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ unsigned tf32(float value) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <bool TRANSPOSED = false>
__device__ __forceinline__ void load_matrices(unsigned (&tiles)[4], const void* row) {
    const unsigned address = shared_address(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                     : "r"(address) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                     : "r"(address) : "memory");
}
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool exists = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(global), "r"(exists ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GROUPS> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory");
}
#endif
