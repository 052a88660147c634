// The kernel table of the sweeps.
#pragma once

#include <cstdint>

namespace thfr {

// What a filter has met.
struct PixelTally {
  std::int64_t total = 0;  // pixels whose mark is wanted
  std::int64_t above = 0;  // of these, with a key above `low + range`
  bool nan = false;        // one of these is no number: the counts mean nothing
};

struct SweepKernels {
  // Writes the keys of those of n scores that lie in [low, low + range] and whose mark is `wanted` (all, if `marks` is
  // null) to `inside`, which has room for n + 8, in their order; returns their number. low is at least 1.
  std::int64_t (*filter)(const float* scores, const std::uint8_t* marks, bool wanted, std::int64_t n, std::uint32_t low,
                         std::uint32_t range, std::uint32_t* inside, PixelTally* tally);
};

const SweepKernels& active_sweep_kernels();

}  // namespace thfr
