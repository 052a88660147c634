// The kernel table of scoring: one row of output locations at a time.
#pragma once

#include <cstdint>

#include "thfr/tensor_view.h"

namespace thfr {

struct ScoringKernels {
  // Output locations [begin, end) of the flattened [B,H,W]. See cosine_distance in thfr/scoring.h.
  void (*cosine_distance)(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                          std::int64_t begin, std::int64_t end);
};

}  // namespace thfr
