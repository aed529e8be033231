// The fiber scheduler behind emulator.h. It is not instrumented itself: under a sanitizer it is compiled
// without -fsanitize and with EMULATOR_ASAN or EMULATOR_TSAN, and tells the sanitizer of each switch.
#include "fibers.h"

#include <link.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

// x86-64 and 64-bit Arm switch stacks in some twenty instructions. Elsewhere ucontext does it, some
// fifty times slower.
#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(EMULATOR_UCONTEXT)
#define EMULATOR_UCONTEXT
#endif
#ifdef EMULATOR_UCONTEXT
#include <ucontext.h>
#endif

extern "C" {
#ifdef EMULATOR_ASAN
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, size_t* size);
void __asan_poison_memory_region(void const volatile* address, size_t size);
void __asan_unpoison_memory_region(void const volatile* address, size_t size);
#endif
#ifdef EMULATOR_TSAN
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
#endif
#ifndef EMULATOR_UCONTEXT
void emulator_switch(void** save, void* load);
#endif
}

// Both push the registers that a called function must preserve, exchange the stacks, and pop.
#if defined(EMULATOR_UCONTEXT)
#elif defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emulator_switch,.-emulator_switch
.section .note.GNU-stack,"",@progbits
.text
)");
constexpr int SAVED_REGISTERS = 6, RETURN_ADDRESS = 6;  // on top of the saved: ret pops it
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch,%function
emulator_switch:
  stp x19,x20,[sp,#-160]!
  stp x21,x22,[sp,#16]; stp x23,x24,[sp,#32]; stp x25,x26,[sp,#48]; stp x27,x28,[sp,#64]
  stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]; stp d10,d11,[sp,#112]; stp d12,d13,[sp,#128]; stp d14,d15,[sp,#144]
  mov x2,sp
  str x2,[x0]
  mov sp,x1
  ldp x21,x22,[sp,#16]; ldp x23,x24,[sp,#32]; ldp x25,x26,[sp,#48]; ldp x27,x28,[sp,#64]
  ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]; ldp d10,d11,[sp,#112]; ldp d12,d13,[sp,#128]; ldp d14,d15,[sp,#144]
  ldp x19,x20,[sp],#160
  ret
.size emulator_switch,.-emulator_switch
.section .note.GNU-stack,"",%progbits
.text
)");
constexpr int SAVED_REGISTERS = 20, RETURN_ADDRESS = 11;  // x30 is one of the saved
#endif

namespace emulator {

Launch current OUTSIDE_BSS;

void release([[maybe_unused]] void* address) {
#ifdef EMULATOR_TSAN
    __tsan_release(address);
#endif
}

void acquire([[maybe_unused]] void* address) {
#ifdef EMULATOR_TSAN
    __tsan_acquire(address);
#endif
}

namespace {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, WAITING, FAILED, FINISHED };

struct Fiber : Lane {
#ifdef EMULATOR_UCONTEXT
    ucontext_t context;
#else
    void* stack_pointer;
#endif
    char* stack;
    State state;
    const Condition* condition;  // what it waits for
    void *fake_stack, *tsan;
    unsigned block_barriers, warp_barriers;  // passed so far: their parity names a sync object
};

struct Block {
    Call call;
    std::vector<Fiber*> pool;  // every fiber ever made; a block uses the first `size`
    unsigned size;
    int order;
    uint64_t random = 88172645463325252ull;  // goes on from launch to launch
#ifdef EMULATOR_UCONTEXT
    ucontext_t scheduler;
#else
    void* scheduler;
#endif
    const void* scheduler_stack;
    size_t scheduler_stack_size;
    void* scheduler_tsan;
    char started, finished, block_sync[2], warp_sync[32][2];  // TSan's sync objects: addresses only
    char *shared_memory, *shared_memory_end;  // of __shared__ arrays
    char error[480];
};
Block* block OUTSIDE_BSS;

constexpr size_t STACK = 256 * 1024;  // reserved, and touched only as far as a kernel needs
constexpr size_t GUARD = 4096;  // behind dynamic shared memory: NaN that nobody may overwrite
constexpr uint64_t NOBODY = ~uint64_t(0);  // a NaN: what a shuffle reads from a lane that is not there

Fiber& running() { return *static_cast<Fiber*>(current.lane); }

void yield(State state) {
    Fiber& self = running();
    self.state = state;
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(state == FINISHED ? nullptr : &self.fake_stack,
                                   block->scheduler_stack, block->scheduler_stack_size);
#endif
#ifdef EMULATOR_TSAN
    __tsan_switch_to_fiber(block->scheduler_tsan, 1);
#endif
#ifdef EMULATOR_UCONTEXT
    swapcontext(&self.context, &block->scheduler);
#else
    emulator_switch(&self.stack_pointer, block->scheduler);
#endif
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(self.fake_stack, &block->scheduler_stack,
                                    &block->scheduler_stack_size);
#endif
}

void enter() {
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack, &block->scheduler_stack_size);
#endif
    acquire(&block->started);
    block->call.run(block->call.kernel, block->call.slots);
    current.exchange[running().number] = NOBODY;
    release(&block->finished);
    yield(FINISHED);
    abort();  // a finished fiber is never resumed
}

void resume(Fiber& fiber) {
    current.lane = &fiber;
#ifdef EMULATOR_ASAN
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber.stack, STACK);
#endif
#ifdef EMULATOR_TSAN
    __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
#ifdef EMULATOR_UCONTEXT
    swapcontext(&block->scheduler, &fiber.context);
#else
    emulator_switch(&block->scheduler, fiber.stack_pointer);
#endif
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void prepare(Fiber& fiber) {
    fiber.state = READY;
    fiber.block_barriers = fiber.warp_barriers = 0;
#ifdef EMULATOR_UCONTEXT
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
#else
    // As if emulator_switch had saved them. Above them are 16 bytes, which both ABIs align.
    void** saved = reinterpret_cast<void**>(fiber.stack + STACK) - (SAVED_REGISTERS + 2) / 2 * 2;
    std::fill_n(saved, SAVED_REGISTERS + 2, nullptr);
    saved[RETURN_ADDRESS] = reinterpret_cast<void*>(enter);
    fiber.stack_pointer = saved;
#endif
}

/// Runs every ready lane of a warp up to its next barrier, then opens the warp's barrier if all are at it.
bool advance_warp(unsigned warp) {
    const unsigned first = warp * 32, last = std::min(block->size, first + 32);
    const unsigned lanes = last - first, rotation = block->order == RANDOM_ORDER ? random_below(lanes) : 0;
    bool advanced = false;
    for (unsigned k = 0; k < lanes; k++) {
        const unsigned lane = block->order == REVERSE_ORDER ? lanes - 1 - k : (k + rotation) % lanes;
        Fiber& fiber = *block->pool[first + lane];
        if (fiber.state == WAITING && fiber.condition->holds()) fiber.state = READY;
        if (fiber.state != READY) continue;
        resume(fiber);
        advanced = true;
    }
    unsigned waiting = 0, alive = 0;
    for (unsigned k = first; k < last; k++) {
        waiting += block->pool[k]->state == AT_WARP_BARRIER;
        alive += block->pool[k]->state != FINISHED;
    }
    if (!waiting || waiting != alive) return advanced;
    for (unsigned k = first; k < last; k++)
        if (block->pool[k]->state == AT_WARP_BARRIER) block->pool[k]->state = READY;
    return true;
}

/// A warp that is chosen runs ahead as far as barriers allow, except in random order.
bool advance_block() {
    const unsigned warps = (block->size + 31) / 32;
    bool advanced = false;
    for (unsigned k = 0; k < warps; k++) {
        unsigned warp = block->order == REVERSE_ORDER ? warps - 1 - k : k;
        if (block->order == RANDOM_ORDER) {
            advanced |= advance_warp(random_below(warps));
        } else {
            while (advance_warp(warp)) advanced = true;
        }
    }
    if (!advanced)  // the dice may have missed the warps that could
        for (unsigned warp = 0; warp < warps; warp++) advanced |= advance_warp(warp);
    return advanced;
}

/// Each condition once, with the first thread that waits for it.
std::string what_threads_wait_for() {
    std::vector<std::string> conditions;
    std::string text;
    for (unsigned k = 0; k < block->size; k++) {
        if (block->pool[k]->state != WAITING) continue;
        const std::string condition = block->pool[k]->condition->description();
        if (std::count(conditions.begin(), conditions.end(), condition)) continue;
        conditions.push_back(condition);
        text += (text.empty() ? "thread " : "; thread ") + std::to_string(k) + " waits for " + condition;
    }
    return text;
}

const char* run_block() {
    for (unsigned k = 0; k < block->size; k++) prepare(*block->pool[k]);
    std::fill_n(current.exchange, 1024, NOBODY);
    block->error[0] = '\0';
    for (;;) {
        const bool advanced = advance_block();
        if (block->error[0]) return block->error;
        unsigned finished = 0, waiting = 0;
        for (unsigned k = 0; k < block->size; k++) {
            const Fiber& fiber = *block->pool[k];
            finished += fiber.state == FINISHED;
            waiting += fiber.state == AT_BLOCK_BARRIER;
        }
        if (finished == block->size) return nullptr;
        if (waiting == block->size) {
            for (unsigned k = 0; k < block->size; k++) block->pool[k]->state = READY;
        } else if (waiting && waiting + finished == block->size) {
            return "divergent __syncthreads(): some threads of a block returned, others wait";
        } else if (!advanced && !complete_an_operation()) {
            const std::string waits = what_threads_wait_for();
            if (waits.empty()) return "divergent barrier: threads wait at different barriers";
            return fault("deadlock: %s", waits.c_str());
        }
        if (block->error[0]) return block->error;  // of an operation
    }
}

void grow_pool() {
    while (block->pool.size() < block->size) {
        Fiber* fiber = new Fiber();
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) {
            perror("emulator: expected memory for a fiber's stack");
            abort();
        }
        mprotect(stack, 4096, PROT_NONE);  // an overflow stops here, not in a neighbour's stack
        fiber->stack = static_cast<char*>(stack);
#ifdef EMULATOR_TSAN
        fiber->tsan = __tsan_create_fiber(0);
#endif
        block->pool.push_back(fiber);
    }
}

/// The uninitialised data (.bss) of the library that holds `function`.
int find_bss(dl_phdr_info* library, size_t, void* function) {
    const auto address = reinterpret_cast<ElfW(Addr)>(function);
    bool here = false;
    for (int k = 0; k < library->dlpi_phnum; k++) {
        const auto& segment = library->dlpi_phdr[k];
        const ElfW(Addr) start = library->dlpi_addr + segment.p_vaddr;
        here |= segment.p_type == PT_LOAD && start <= address && address < start + segment.p_memsz;
    }
    if (!here) return 0;
    for (int k = 0; k < library->dlpi_phnum; k++) {
        const auto& segment = library->dlpi_phdr[k];
        if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_W)) continue;
        const ElfW(Addr) start = library->dlpi_addr + segment.p_vaddr;
        block->shared_memory = reinterpret_cast<char*>((start + segment.p_filesz + 3) & ~ElfW(Addr)(3));
        block->shared_memory_end = reinterpret_cast<char*>(start + segment.p_memsz);
    }
    return 1;
}

/// By hand, since ASan would stop memset at the red zones between arrays.
void poison_shared_memory() {
    volatile uint32_t* word = reinterpret_cast<uint32_t*>(block->shared_memory);
    while (word + 1 <= reinterpret_cast<uint32_t*>(block->shared_memory_end)) *word++ = 0xffffffffu;
}

/// A block's dynamic shared memory, NaN as far as the guard behind it.
void poison_dynamic_memory() {
    std::fill_n(current.dynamic_shared, current.shared_bytes, '\xff');
    volatile char* end = current.dynamic_shared + current.shared_bytes;
    for (size_t k = 0; k < GUARD; k++) end[k] = '\xff';
}

bool guard_is_whole() {
    const volatile char* end = current.dynamic_shared + current.shared_bytes;
    for (size_t k = 0; k < GUARD; k++)
        if (end[k] != '\xff') return false;
    return true;
}

/// Its address never changes. Only as much as a kernel asks for is ever touched.
void set_dynamic_memory(unsigned size) {
    const size_t reserved = MOST_SHARED_BYTES + GUARD;
    if (!current.dynamic_shared) {
        void* memory = mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            perror("emulator: expected room for dynamic shared memory");
            abort();
        }
        current.dynamic_shared = static_cast<char*>(memory);
    }
    current.shared_bytes = size;
#ifdef EMULATOR_ASAN
    __asan_unpoison_memory_region(current.dynamic_shared, size);
    __asan_poison_memory_region(current.dynamic_shared + size, reserved - size);
#endif
}

}  // namespace

void find_shared_memory(const void* function) {
    if (!block) block = new Block();
    dl_iterate_phdr(find_bss, const_cast<void*>(function));
}

void block_barrier() {
    Fiber& self = running();
    char* sync = &block->block_sync[self.block_barriers++ & 1];
    release(sync);
    yield(AT_BLOCK_BARRIER);
    acquire(sync);
}

void warp_barrier() {
    Fiber& self = running();
    char* sync = &block->warp_sync[self.number / 32][self.warp_barriers++ & 1];
    release(sync);
    yield(AT_WARP_BARRIER);
    acquire(sync);
}

void wait(const Condition& condition) {
    if (condition.holds()) return;
    running().condition = &condition;
    yield(WAITING);
}

const char* fault(const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(block->error, sizeof block->error, format, values);
    va_end(values);
    return block->error;
}

void stop() {
    yield(FAILED);
    abort();  // the block ends here
}

unsigned random_below(unsigned limit) {
    block->random ^= block->random << 13;
    block->random ^= block->random >> 7;
    block->random ^= block->random << 17;
    return unsigned(block->random % limit);
}

int order() { return block->order; }

bool whole_warp() {
    const unsigned first = running().number & ~31u;
    if (first + 32 > block->size) return false;
    for (unsigned k = first; k < first + 32; k++)
        if (block->pool[k]->state == FINISHED) return false;
    return true;
}

const char* run(dim3 grid, dim3 shape, int order, unsigned shared_bytes, Call call) {
    const uint64_t size = uint64_t(shape.x) * shape.y * shape.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
    if (size < 1 || size > 1024 || shape.z > 64) return "expected 1 to 1024 threads in a block";
    if (!blocks || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return "expected a grid of at least 1 block and at most (2147483647, 65535, 65535)";
    if (shared_bytes > MOST_SHARED_BYTES) return "expected at most 227 KiB of dynamic shared memory";
    current.grid = grid;
    current.block = shape;
    set_dynamic_memory(shared_bytes);
    block->call = call;
    block->size = unsigned(size);
    block->order = order;
#ifdef EMULATOR_TSAN
    block->scheduler_tsan = __tsan_get_current_fiber();
#endif
    grow_pool();
    for (unsigned k = 0; k < block->size; k++) {
        block->pool[k]->number = k;
        block->pool[k]->thread = dim3(k % shape.x, k / shape.x % shape.y, k / (shape.x * shape.y));
    }
    const uint64_t rotation = order == RANDOM_ORDER ? random_below(unsigned(blocks)) : 0;
    for (uint64_t k = 0; k < blocks; k++) {
        const uint64_t number = order == REVERSE_ORDER ? blocks - 1 - k : (k + rotation) % blocks;
        current.block_index = dim3(unsigned(number % grid.x), unsigned(number / grid.x % grid.y),
                                   unsigned(number / grid.x / grid.y));
        poison_shared_memory();
        if (shared_bytes) poison_dynamic_memory();
        begin_operations();
        release(&block->started);
        const char* what = run_block();
        acquire(&block->finished);
        if (!what) what = operations_under_way();
        if (!what && shared_bytes && !guard_is_whole())
            what = "a thread wrote behind the end of dynamic shared memory";
        if (what) {
            const std::string found = what;
            return fault("%s (block %u, %u, %u)", found.c_str(), current.block_index.x,
                         current.block_index.y, current.block_index.z);
        }
    }
    return nullptr;
}

}  // namespace emulator
