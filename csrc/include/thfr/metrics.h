// What a metric in bounded memory keeps of scores that come in batches: a histogram, whose bins are intervals of scores.
//
// Bins: int64 [3,n], rows hi, lo and weight: `weight` samples lie in [lo, hi]. hi does not rise. lo and hi are scores as
// integers of the same order (metrics/cpu/order.h). A bin with lo = hi is exact. Each area rises with the positives' scores and
// falls with the negatives', so that it lies between those of the ends of the bins.
#pragma once

#include <cstdint>
#include <vector>

#include "thfr/sweep.h"

namespace thfr {

struct Bins {
  std::vector<std::int64_t> hi, lo, weight;
};

// How bins are joined when they are too many.
struct BinLimits {
  std::int64_t most;  // bins
  double share;       // a joined bin's weight over that above it (`relative`), or over that of all
  bool relative;
};

// std::invalid_argument: a score is NaN.
// All bins of `sketches` (i64 [3,n], contiguous) and scores ([n], f32 or f64, of weight 1), with neighbours joined as limits
// allow; limits.share is raised until limits.most bins hold them.
Bins merge_bins(const Views& sketches, const TensorView& scores, BinLimits& limits, int threads);

// bounds (f64 [2 L]: lowest, then highest): lowest and highest AU(limits[l]) of all negatives and positives in the bins (i64
// [3,n], contiguous). The positives' weights are units of 1/total of the overlap.
void bins_area(const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
               const TensorView& bounds);

}  // namespace thfr
