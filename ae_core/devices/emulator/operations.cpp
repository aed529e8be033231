// Copies, loads, stores and products that are under way, and the barriers that they complete on. Not
// instrumented, like the fibers: what these do by themselves, a sanitizer does not see.
#include "operations.h"

#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "fibers.h"

namespace emulator {
namespace {

/// A load, a store or a product that was issued and not carried out.
struct Operation {
    enum Kind { LOAD, STORE, PRODUCT } kind;
    unsigned owner;  // the thread of a store, the warp of a product
    unsigned group;
    std::function<void()> complete;
};

struct Copy {
    void* shared;
    const void* global;
    bool exists;
    unsigned group;
};

/// How far a thread is with its groups of each kind.
struct Groups {
    unsigned copies, stores, products;
    bool fenced;  // wgmma.fence since it last waited for products
};

/// 32 lanes' accumulators of a product under way. The lanes see NaN.
struct Accumulators {
    float* lane[32];
    std::vector<float> values;
    int products;
};

struct NamedBarrier {
    unsigned arrived, threads, generation;
};

struct UnderWay {
    std::deque<Operation> operations;
    std::vector<Copy> copies[1024];
    std::vector<Mbarrier*> unseen;  // initialised, and no fence since
    Groups groups[1024];
    NamedBarrier named[16];
    float* accumulators[32][32];  // of the product that a warp issues
    unsigned products[32];        // issued by a warp
    std::map<float*, Accumulators> in_flight;
    float scratch[32][SCRATCH];
};
UnderWay* state OUTSIDE_BSS;  // none until a kernel asks for something

UnderWay& under_way() {
    if (!state) state = new UnderWay();
    return *state;
}

unsigned thread() { return current.lane->number; }
unsigned warp() { return thread() / 32; }
bool at_once(WarpOrder when) {
    return order() == when || (order() == RANDOM_ORDER && random_below(2));
}

void carry_out(size_t number) {
    const Operation operation = std::move(under_way().operations[number]);
    under_way().operations.erase(under_way().operations.begin() + long(number));
    operation.complete();
}

/// Products of a warp add up in the order in which they were issued.
void carry_out_products(unsigned owner) {
    for (size_t k = 0; k < under_way().operations.size();)
        if (under_way().operations[k].kind == Operation::PRODUCT && under_way().operations[k].owner == owner)
            carry_out(k);
        else k++;
}

void issue(Operation operation) {
    const unsigned owner = operation.owner;
    switch (operation.kind) {
    case Operation::LOAD:
        if (at_once(REVERSE_ORDER)) return operation.complete();
        return under_way().operations.push_back(std::move(operation));
    case Operation::STORE:
        if (at_once(FORWARD_ORDER)) return operation.complete();
        return under_way().operations.push_back(std::move(operation));
    case Operation::PRODUCT:
        under_way().operations.push_back(std::move(operation));
        if (at_once(FORWARD_ORDER)) carry_out_products(owner);
    }
}

struct GroupsDone final : Condition {
    Operation::Kind kind;
    unsigned owner, first;  // groups from `first` on may be under way
    GroupsDone(Operation::Kind kind, unsigned owner, unsigned first)
        : kind(kind), owner(owner), first(first) {}
    bool holds() const override {
        for (const Operation& other : under_way().operations)
            if (other.kind == kind && other.owner == owner && other.group < first) return false;
        return true;
    }
    std::string description() const override { return "its own operations"; }
};

std::string name_of(const Mbarrier* barrier) {
    const char* address = reinterpret_cast<const char*>(barrier);
    const auto offset = address - current.dynamic_shared;
    if (offset < 0 || offset >= current.shared_bytes) return "the mbarrier in static shared memory";
    return "the mbarrier at byte " + std::to_string(offset) + " of dynamic shared memory";
}

void check_initialised(const Mbarrier* barrier) {
    if (barrier->unset) fail("%s was used before it was initialised", name_of(barrier).c_str());
}

struct PhaseDone final : Condition {
    const Mbarrier* barrier;
    unsigned parity;
    PhaseDone(const Mbarrier* barrier, unsigned parity) : barrier(barrier), parity(parity) {}
    bool holds() const override { return barrier->phase != parity; }
    std::string description() const override {
        return "phase " + std::to_string(parity) + " of " + name_of(barrier) + ", which lacks " +
               std::to_string(barrier->pending) + " arrivals and " + std::to_string(barrier->bytes) +
               " bytes";
    }
};

struct GenerationDone final : Condition {
    unsigned id, generation;
    GenerationDone(unsigned id, unsigned generation) : id(id), generation(generation) {}
    bool holds() const override { return under_way().named[id].generation != generation; }
    std::string description() const override {
        const NamedBarrier& barrier = under_way().named[id];
        return "named barrier " + std::to_string(id) + ", where " + std::to_string(barrier.arrived) +
               " of " + std::to_string(barrier.threads) + " threads arrived";
    }
};

void end_phase_if_complete(Mbarrier* barrier) {
    if (barrier->pending) return;
    if (barrier->bytes < 0)
        fault("%s received %d bytes more than it expected", name_of(barrier).c_str(), -barrier->bytes);
    if (barrier->bytes) return;
    barrier->phase ^= 1;
    barrier->pending = barrier->expected;
}

/// The address at which the swizzle puts a byte: it exchanges 16-byte chunks within 128-byte rows.
unsigned swizzled(unsigned address, unsigned swizzle) {
    return swizzle ? address ^ ((address >> 7 & (swizzle / 16 - 1)) << 4) : address;
}

/// The last rule was seen on an H100, which ends with an illegal instruction there.
void check_map(const TensorMap* map, const int* at, size_t coordinates) {
    if (map->magic != TENSOR_MAP) fail("expected a tensor map, found other bytes");
    if (map->rank != coordinates)
        fail("expected %u coordinates for the tensor map, found %zu", map->rank, coordinates);
    if (at[0] * int(map->element_bytes) % 16)
        fail("expected a first coordinate at a multiple of 16 bytes, found %d elements of %u bytes", at[0],
             map->element_bytes);
}

unsigned box_bytes(const TensorMap& map) {
    unsigned bytes = map.element_bytes;
    for (unsigned k = 0; k < map.rank; k++) bytes *= map.box[k];
    return bytes;
}

void check_box(const TensorMap* map, unsigned address) {
    if (address % 128)
        fail("expected a box at a multiple of 128 bytes in shared memory, found byte %u", address);
    if (address + box_bytes(*map) > current.shared_bytes)
        fail("a box of %u bytes at byte %u passes the end of %u bytes of dynamic shared memory",
             box_bytes(*map), address, current.shared_bytes);
}

/// Calls `move` with the addresses of each element of a box; the global one is null outside the tensor.
template <class Move>
void for_each_element(const TensorMap& map, unsigned address, const int* at, Move move) {
    unsigned index[5] = {};
    for (unsigned byte = 0; byte < box_bytes(map); byte += map.element_bytes) {
        int64_t offset = 0;
        bool inside = true;
        for (unsigned k = 0; k < map.rank; k++) {
            const int64_t position = int64_t(at[k]) + index[k];
            inside = inside && position >= 0 && position < int64_t(map.extent[k]);
            offset += position * int64_t(k ? map.stride[k - 1] : map.element_bytes);
        }
        char* global = reinterpret_cast<char*>(map.address) + offset;
        move(current.dynamic_shared + swizzled(address + byte, map.swizzle), inside ? global : nullptr);
        for (unsigned k = 0; k < map.rank && ++index[k] == map.box[k]; k++) index[k] = 0;
    }
}

/// Element (row, k) of an operand: row counts along M or N.
float operand(uint64_t descriptor, bool transposed, unsigned row, unsigned k) {
    const unsigned start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4,
                   stride = (descriptor >> 32 & 0x3fff) << 4;
    const unsigned swizzle = (const unsigned[]){0, 128, 64, 32}[descriptor >> 62];
    const unsigned width = swizzle ? swizzle : 16, elements = width / 2;  // of a core matrix's row
    unsigned address = start;
    if (!transposed) {
        address += row / 8 * stride + row % 8 * width + k % elements * 2 + k / elements * leading;
    } else if (swizzle) {
        address += row / elements * leading + row % elements * 2 + k % 8 * width + k / 8 * stride;
    } else {
        address += row / 8 * stride + row % 8 * 2 + k % 8 * 16 + k / 8 * leading;
    }
    address = swizzled(address, swizzle);
    if (address + 2 > current.shared_bytes) {
        fault("a matrix descriptor leads to byte %u of %u bytes of dynamic shared memory", address,
              current.shared_bytes);
        return NAN;
    }
    uint16_t bits;
    std::memcpy(&bits, current.dynamic_shared + address, sizeof bits);
    const uint32_t wide = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

constexpr unsigned DEPTH = 16;

/// The 16 rows that one warp of a warpgroup computes.
void multiply(Accumulators& accumulators, unsigned quarter, int n, uint64_t a, uint64_t b,
              bool transposed_a, bool transposed_b, bool accumulate) {
    float a_rows[16][DEPTH];
    std::vector<float> b_rows(size_t(n) * DEPTH);
    for (unsigned k = 0; k < DEPTH; k++) {
        for (unsigned row = 0; row < 16; row++)
            a_rows[row][k] = operand(a, transposed_a, quarter * 16 + row, k);
        for (unsigned row = 0; row < unsigned(n); row++)
            b_rows[row * DEPTH + k] = operand(b, transposed_b, row, k);
    }
    for (unsigned lane = 0; lane < 32; lane++)
        for (int i = 0; i < n / 2; i++) {
            const unsigned row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            float& value = accumulators.values[lane * unsigned(n) / 2 + unsigned(i)];
            float sum = accumulate ? value : 0;
            for (unsigned k = 0; k < DEPTH; k++) sum += a_rows[row][k] * b_rows[column * DEPTH + k];
            value = sum;
        }
}

void issue_product(int n, uint64_t a, uint64_t b, bool transposed_a, bool transposed_b,
                   bool accumulate) {
    float** lanes = under_way().accumulators[warp()];
    Accumulators& accumulators = under_way().in_flight[lanes[0]];
    const int own = n / 2;
    if (!accumulators.products++) {
        std::copy_n(lanes, 32, accumulators.lane);
        accumulators.values.clear();
        for (int lane = 0; lane < 32; lane++) {
            accumulators.values.insert(accumulators.values.end(), lanes[lane], lanes[lane] + own);
            std::fill_n(lanes[lane], own, NAN);
        }
    } else if (accumulators.values.size() != size_t(32 * own)) {
        fail("wgmma: expected products of one shape in the same accumulators until a wait");
    }
    const unsigned quarter = warp() % 4;
    float* key = lanes[0];
    issue({Operation::PRODUCT, warp(), under_way().groups[thread()].products, [=] {
               Accumulators& sums = under_way().in_flight.at(key);
               multiply(sums, quarter, n, a, b, transposed_a, transposed_b, accumulate);
               if (--sums.products) return;
               for (int lane = 0; lane < 32; lane++)
                   std::copy_n(&sums.values[size_t(lane * own)], own, sums.lane[lane]);
               under_way().in_flight.erase(key);
           }});
}

}  // namespace

void begin_operations() {
    if (!state) return;
    for (unsigned k = 0; k < current.block.x * current.block.y * current.block.z; k++) {
        state->copies[k].clear();
        state->groups[k] = Groups();
    }
    state->operations.clear();
    state->unseen.clear();
    state->in_flight.clear();
    std::fill_n(state->named, 16, NamedBarrier());
    std::fill_n(state->products, 32, 0u);
}

bool complete_an_operation() {
    if (!state || state->operations.empty()) return false;
    const auto size = unsigned(state->operations.size());
    const unsigned next = order() == RANDOM_ORDER ? random_below(size) : 0;
    if (state->operations[next].kind == Operation::PRODUCT)
        carry_out_products(state->operations[next].owner);
    else carry_out(next);
    return true;
}

const char* operations_under_way() {
    if (!state) return nullptr;
    for (const Operation& operation : state->operations) {
        if (operation.kind == Operation::LOAD) return "threads returned while a tensor load was under way";
        if (operation.kind == Operation::STORE)
            return "threads returned while a tensor store was under way";
        return "threads returned while a wgmma product was under way: none waited for it";
    }
    for (unsigned k = 0; k < 32; k++)
        if (state->products[k] != state->products[k & ~3u])
            return "the four warps of a warpgroup issued different numbers of wgmma products";
    return nullptr;
}

unsigned shared_address(const void* shared) {
    const auto offset = static_cast<const char*>(shared) - current.dynamic_shared;
    if (offset < 0 || offset >= current.shared_bytes)
        fail("expected an address in %u bytes of dynamic shared memory, found another",
             current.shared_bytes);
    return unsigned(offset);
}

float* warp_scratch(const char* instruction) {
    if (!whole_warp()) fail("%s: expected all 32 lanes of a warp, found fewer", instruction);
    return under_way().scratch[warp()];
}

void copy_async(void* shared, const void* global, bool exists) {
    const Copy copy{shared, global, exists, under_way().groups[thread()].copies};
    if (uintptr_t(shared) % 16 || (exists && uintptr_t(global) % 16))
        fail("cp.async: expected addresses that are multiples of 16 bytes");
    under_way().copies[thread()].push_back(copy);
    if (at_once(REVERSE_ORDER)) copy_async_wait(unsigned(-1));
}

void copy_async_commit() { under_way().groups[thread()].copies++; }

/// Groups under way may be `groups`; -1: of all copies, committed or not, none.
void copy_async_wait(unsigned groups) {
    std::vector<Copy>& copies = under_way().copies[thread()];
    size_t done = 0;
    for (; done < copies.size(); done++) {
        const Copy& copy = copies[done];
        if (groups != unsigned(-1) && copy.group + groups >= under_way().groups[thread()].copies) break;
        if (copy.exists) std::memcpy(copy.shared, copy.global, 16);
        else std::memset(copy.shared, 0, 16);
    }
    copies.erase(copies.begin(), copies.begin() + long(done));
}

void mbarrier_init(Mbarrier* barrier, unsigned arrivals) {
    if (!arrivals || arrivals > 1024) fail("mbarrier: expected 1 to 1024 arrivals, found %u", arrivals);
    *barrier = Mbarrier();
    barrier->pending = barrier->expected = arrivals;
    under_way().unseen.push_back(barrier);
}

void mbarrier_make_visible() {
    for (Mbarrier* barrier : under_way().unseen) barrier->visible = 1;
    under_way().unseen.clear();
}

void mbarrier_arrive(Mbarrier* barrier, unsigned bytes) {
    check_initialised(barrier);
    release(barrier);
    if (!barrier->pending)
        fail("%s: more arrivals in a phase than the %u that it expects", name_of(barrier).c_str(),
             barrier->expected);
    barrier->bytes += int(bytes);
    barrier->pending--;
    end_phase_if_complete(barrier);
}

void mbarrier_wait(Mbarrier* barrier, unsigned parity) {
    check_initialised(barrier);
    wait(PhaseDone(barrier, parity));
    acquire(barrier);
}

void tensor_load(void* shared, const TensorMap* map, Mbarrier* barrier, std::initializer_list<int> at) {
    check_map(map, at.begin(), at.size());
    const unsigned address = shared_address(shared);
    check_box(map, address);
    check_initialised(barrier);
    if (!barrier->visible)
        fail("%s: expected a fence after its initialisation, before a load completes on it",
             name_of(barrier).c_str());
    issue({Operation::LOAD, 0, 0, [=, map = *map, at = std::vector<int>(at)] {
               for_each_element(map, address, at.data(), [&](char* to, const char* from) {
                   if (from) std::memcpy(to, from, map.element_bytes);
                   else std::memset(to, 0, map.element_bytes);
               });
               barrier->bytes -= int(box_bytes(map));
               end_phase_if_complete(barrier);
           }});
}

void tensor_store(const TensorMap* map, const void* shared, std::initializer_list<int> at) {
    check_map(map, at.begin(), at.size());
    const unsigned address = shared_address(shared);
    check_box(map, address);
    issue({Operation::STORE, thread(), under_way().groups[thread()].stores,
           [=, map = *map, at = std::vector<int>(at)] {
               for_each_element(map, address, at.data(), [&](const char* from, char* to) {
                   if (to) std::memcpy(to, from, map.element_bytes);
               });
           }});
}

void tensor_store_commit() { under_way().groups[thread()].stores++; }

void tensor_store_wait(unsigned groups) {
    const unsigned committed = under_way().groups[thread()].stores;
    wait(GroupsDone(Operation::STORE, thread(), committed - std::min(groups, committed)));
}

void product(float* d, int n, uint64_t a, uint64_t b, bool transposed_a, bool transposed_b,
             bool accumulate) {
    const unsigned lane = thread() & 31;
    if (!whole_warp() || current.block.x * current.block.y * current.block.z < (warp() / 4 + 1) * 128)
        fail("wgmma: expected a warpgroup of four whole warps");
    if (!under_way().groups[thread()].fenced)
        fail("wgmma: expected wgmma_fence() since the accumulators were last written or waited for");
    if ((a | b) >> 49 & 7) fail("wgmma: expected matrix descriptors with base offset 0");
    under_way().accumulators[warp()][lane] = d;
    warp_barrier();
    if (!lane) {
        under_way().products[warp()]++;
        issue_product(n, a, b, transposed_a, transposed_b, accumulate);
    }
    warp_barrier();
}

void product_fence() {
    warp_barrier();
    under_way().groups[thread()].fenced = true;
}

void product_commit() {
    warp_barrier();
    under_way().groups[thread()].products++;
}

void product_wait(unsigned groups) {
    warp_barrier();
    Groups& own = under_way().groups[thread()];
    own.fenced = false;
    wait(GroupsDone(Operation::PRODUCT, warp(), own.products - std::min(groups, own.products)));
}

void named_barrier(unsigned id, unsigned threads, bool waits) {
    if (id < 1 || id > 15) fail("expected a named barrier from 1 to 15, found %u", id);
    if (threads % 32 || !threads) fail("named barrier %u: expected whole warps, found %u threads", id, threads);
    NamedBarrier& barrier = under_way().named[id];
    if (barrier.arrived && barrier.threads != threads)
        fail("named barrier %u: expected all to name as many threads, found %u and %u", id,
             barrier.threads, threads);
    release(&barrier);
    barrier.threads = threads;
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        barrier.generation++;
    }
    if (!waits) return;
    wait(GenerationDone(id, generation));
    acquire(&barrier);
}

bool elected() {
    const unsigned lane = thread() & 31, leader = order() == REVERSE_ORDER ? 31 : 0;
    warp_barrier();
    return lane == leader;
}

}  // namespace emulator
