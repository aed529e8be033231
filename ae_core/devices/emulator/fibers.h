// What the two halves of the runtime tell each other: emulator.cpp, the fibers and their scheduler, and
// operations.cpp, what a GPU does beside its threads.
#pragma once
#include <string>

#include "emulator.h"

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

// The runtime's own variables stay out of .bss, which is the kernels' shared memory.
#define OUTSIDE_BSS __attribute__((section("emulator_state")))

namespace emulator {

/// What a thread waits for. The scheduler asks whether it holds, and what it is when it never will.
struct Condition {
    virtual ~Condition() = default;
    virtual bool holds() const = 0;
    virtual std::string description() const = 0;
};

// Asked by the operations, from within a fiber.

/// Lets other threads run until the condition holds.
void wait(const Condition& condition);
/// Writes down what went wrong, in a line. The launch ends at the thread's next barrier or wait.
const char* fault(const char* format, ...);
/// Ends the launch: the calling thread never goes on.
[[noreturn]] void stop();
template <class... Values> [[noreturn]] void fail(const char* format, Values... values) {
    if constexpr (sizeof...(values) > 0) fault(format, values...);
    else fault("%s", format);
    stop();
}
int order();
unsigned random_below(unsigned limit);
/// Whether all 32 lanes of the calling thread's warp are there, and none has returned.
bool whole_warp();
/// What a thread did before `release` happened before what another does after `acquire`: for TSan.
void release(void* address);
void acquire(void* address);

// Asked by the scheduler.

/// A block starts: nothing is under way.
void begin_operations();
/// No thread can go on: completes an operation that is under way. False if there is none.
bool complete_an_operation();
/// What a block left under way when its threads returned, or nullptr.
const char* operations_under_way();

}  // namespace emulator
