// A GPU's threads on one CPU thread: every thread of a block is a fiber, blocks come one after another.
//
// A fiber runs until it meets a barrier or a warp's exchange, then another one, chosen at random, goes on: code that
// forgets a barrier reads what is not written yet. Shared memory is made for each block anew, each array apart on the
// heap (AddressSanitizer sees an access beside it), and filled with junk. What hardware leaves undefined is a failure
// here: threads that wait at different places, exchanges with lanes that are not there.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

struct Options {
  unsigned seed = 0;         // of the order of blocks and threads; 0: as they are numbered
  int dropped_barrier = -1;  // the one of each thread, counted from 0, that is passed without waiting: a planted fault
};
Options& options();

struct Statistics {
  long long launches = 0;
  int barriers = 0;                     // most of any thread in any launch since the last reset
  int sums = 0, sorts = 0, passes = 0;  // of CUB: running sums, sorts, their passes of eight bits
};
Statistics& statistics();

// Runs `body` in every thread; false, with the reason, if the launch fails.
bool run(dim3 grid, dim3 block, std::size_t dynamic_bytes, const std::function<void()>& body, std::string* problem);

// What threads call. `line` says where: all that meet must have come to the same.
int barrier(int value, int line);  // how many threads came with a value that is not 0
void* shared(const void* site, std::size_t bytes);
void* dynamic_shared();
int lane();

// Lanes of `mask` give `size` bytes (8 at most) each; afterwards all[lane] holds those of each of them.
struct Lanes {
  unsigned mask = 0;
  unsigned long long value[32] = {};
};
Lanes exchange(unsigned mask, unsigned long long value, int line);
[[noreturn]] void fail(const std::string& reason);  // ends the launch

}  // namespace emulator
