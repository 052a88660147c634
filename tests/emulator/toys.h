// Kernels with a fault that can be switched on: the emulator's own test.
#pragma once

#include "thfr/tensor_view.h"

namespace toys {

enum Fault : int {
  none = 0,
  missing_barrier = 1,
  out_of_bounds = 2,
  wrong_lanes = 3,
  divergent_barrier = 4,
  too_much_shared = 5
};

// sums[block] of 64 values each, through shuffles and shared memory. Returns a problem, or nullptr.
const char* block_sums(const thfr::TensorView& values, const thfr::TensorView& sums, Fault fault);

}  // namespace toys
