#include "thfr/scoring.h"

#include "cpu/scoring_simd.h"
#include "cpu/simd.h"
#include "thfr/parallel.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(ScoringKernels, scoring_kernels)

void cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                     int threads) {
  const ScoringKernels& kernels = scoring_kernels();
  parallel_for(distance.elements(), threads, 64, [&](std::int64_t begin, std::int64_t end) {
    kernels.cosine_distance(features, restored, eps, distance, begin, end);
  });
}

}  // namespace thfr
