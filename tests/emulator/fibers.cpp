#include "fibers.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {
namespace {

constexpr std::size_t stack_bytes = 128 * 1024;

struct Fiber {
  ucontext_t context{};
  char* stack = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  uint3 thread{};
  unsigned number = 0;
  int barriers = 0;
};

struct Exchange {
  int line = 0;
  unsigned arrived = 0;
  Lanes given, taken;
  std::vector<Fiber*> waiting;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::vector<Fiber*> ready, at_barrier;
  std::map<std::pair<unsigned, unsigned>, Exchange> exchanges;  // by warp and mask
  std::map<const void*, std::unique_ptr<void, Free>> shared;
  std::unique_ptr<void, Free> dynamic;
  std::size_t shared_bytes = 0;
  unsigned alive = 0;
  int barrier_line = 0, barrier_count = 0, barrier_result = 0;
};

ucontext_t scheduler;
[[maybe_unused]] void* scheduler_fake_stack = nullptr;
[[maybe_unused]] const void* scheduler_bottom = nullptr;
[[maybe_unused]] std::size_t scheduler_size = 0;
Block* block = nullptr;
Fiber* current = nullptr;
const std::function<void()>* program = nullptr;
std::string failure;
std::mt19937 random_order;

void to_fiber(Fiber& fiber) {
  current = &fiber;
  threadIdx = fiber.thread;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, stack_bytes);
#endif
  swapcontext(&scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  current = nullptr;
}

void to_scheduler(bool forever) {
  Fiber& self = *current;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(forever ? nullptr : &self.fake_stack, scheduler_bottom, scheduler_size);
#endif
  swapcontext(&self.context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler_bottom, &scheduler_size);
#endif
  (void)forever;
}

void release_barrier() {
  if (block->at_barrier.empty() || block->at_barrier.size() != block->alive) return;
  block->ready.insert(block->ready.end(), block->at_barrier.begin(), block->at_barrier.end());
  block->at_barrier.clear();
  block->barrier_result = block->barrier_count;
  block->barrier_count = 0;
}

void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
  (*program)();
  --block->alive;
  release_barrier();  // threads that have ended are not waited for
  to_scheduler(true);
}

// Stacks are kept from launch to launch.
char* stack_of(unsigned number) {
  static std::vector<char*> stacks;
  while (stacks.size() <= number) {
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    stacks.push_back(static_cast<char*>(memory));
  }
  return stacks[number];
}

std::vector<Fiber> make_fibers() {
  std::vector<Fiber> fibers(std::size_t{blockDim.x} * blockDim.y * blockDim.z);
  for (unsigned i = 0; i < fibers.size(); ++i) {
    Fiber& fiber = fibers[i];
    fiber.number = i;
    fiber.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    fiber.stack = stack_of(i);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.stack, stack_bytes);  // the last fiber there has never returned
#endif
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  return fibers;
}

std::unique_ptr<void, Free> junk(std::size_t bytes) {
  std::unique_ptr<void, Free> memory(std::malloc(std::max<std::size_t>(bytes, 1)));
  std::memset(memory.get(), 0xfe, bytes);  // -1.7e38 as float, negative as an integer
  return memory;
}

std::string stuck() {
  std::string text =
      std::to_string(block->at_barrier.size()) + " of " + std::to_string(block->alive) + " threads wait at a barrier";
  for (const auto& [key, exchange] : block->exchanges) {
    if (exchange.waiting.empty()) continue;
    text += ", " + std::to_string(exchange.waiting.size()) + " lanes of warp " + std::to_string(key.first) + " in line " +
            std::to_string(exchange.line);
  }
  return text;
}

void run_block(std::size_t dynamic_bytes) {
  Block state;
  block = &state;
  state.dynamic = junk(dynamic_bytes);
  state.shared_bytes = dynamic_bytes;
  std::vector<Fiber> fibers = make_fibers();
  state.alive = static_cast<unsigned>(fibers.size());
  for (auto fiber = fibers.rbegin(); fiber != fibers.rend(); ++fiber) state.ready.push_back(&*fiber);
  while (!state.ready.empty() && failure.empty()) {
    if (options().seed != 0) std::swap(state.ready.back(), state.ready[random_order() % state.ready.size()]);
    Fiber* next = state.ready.back();
    state.ready.pop_back();
    to_fiber(*next);
  }
  if (failure.empty() && state.alive != 0) failure = stuck();
  for (const Fiber& fiber : fibers) statistics().barriers = std::max(statistics().barriers, fiber.barriers);
  block = nullptr;
}

}  // namespace

Options& options() {
  static Options kept;
  return kept;
}

Statistics& statistics() {
  static Statistics kept;
  return kept;
}

bool run(dim3 grid, dim3 threads, std::size_t dynamic_bytes, const std::function<void()>& body, std::string* problem) {
  gridDim = grid;
  blockDim = threads;
  program = &body;
  failure.clear();
  random_order.seed(options().seed);
  ++statistics().launches;
  std::vector<unsigned> order(std::size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0U);
  if (options().seed != 0) std::shuffle(order.begin(), order.end(), random_order);
  for (const unsigned i : order) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    run_block(dynamic_bytes);
    if (!failure.empty()) break;
  }
  *problem = failure;
  return failure.empty();
}

void fail(const std::string& reason) {
  if (failure.empty()) failure = reason;
  to_scheduler(true);
  std::abort();  // the scheduler does not come back here
}

int barrier(int value, int line) {
  if (current->barriers++ == options().dropped_barrier) return value;
  if (!block->at_barrier.empty() && block->barrier_line != line) {
    fail("threads wait at the barriers of lines " + std::to_string(block->barrier_line) + " and " + std::to_string(line));
  }
  block->barrier_line = line;
  block->barrier_count += value != 0;
  block->at_barrier.push_back(current);
  release_barrier();
  to_scheduler(false);
  return block->barrier_result;
}

void* shared(const void* site, std::size_t bytes) {
  std::unique_ptr<void, Free>& memory = block->shared[site];
  if (!memory) {
    memory = junk(bytes);
    block->shared_bytes += bytes;
    if (block->shared_bytes > 227 * 1024) fail("more than 227 KiB of shared memory");
  }
  return memory.get();
}

void* dynamic_shared() { return block->dynamic.get(); }

int lane() { return static_cast<int>(current->number % warpSize); }

Lanes exchange(unsigned mask, unsigned long long value, int line) {
  const unsigned warp = current->number / warpSize;
  const int self = lane();
  if ((mask >> self & 1U) == 0) fail("a lane exchanges under a mask without itself in line " + std::to_string(line));
  Exchange& here = block->exchanges[{warp, mask}];
  if (here.arrived != 0 && here.line != line) {
    fail("lanes of a warp are in lines " + std::to_string(here.line) + " and " + std::to_string(line));
  }
  here.line = line;
  here.arrived |= 1U << self;
  here.given.mask = mask;
  here.given.value[self] = value;
  here.waiting.push_back(current);
  if (here.arrived == mask) {
    block->ready.insert(block->ready.end(), here.waiting.begin(), here.waiting.end());
    here.waiting.clear();
    here.arrived = 0;
    here.taken = here.given;  // stays until all lanes have come again, each after it has read this
  }
  to_scheduler(false);
  return here.taken;
}

}  // namespace emulator
