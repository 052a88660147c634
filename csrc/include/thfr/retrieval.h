// Batched template retrieval: exact k nearest rows of a bank, and k-centre greedy sub-sampling of one.
#pragma once

#include <cstdint>

#include "thfr/tensor_view.h"

namespace thfr {

enum class Metric : int { cosine = 0, l2 = 1, dot = 2 };

// The first NaN or infinity found in the input: results are then unspecified. `argument` is nullptr if there is none.
struct NonFinite {
  const char* argument = nullptr;
  std::int64_t row = 0;
  bool nan = false;
};

// scores[q,j], indices[q,j]: the j-th best of the rows of bank[N,D] for queries[Q,D], ordered by score, then by row.
// Cosine and dot are similarities, best is largest (a zero vector has cosine 0); l2 is the distance, best is smallest.
// A score is a function of the two rows alone: sums over D in fp64 in a fixed order, rounded once to the dtype of `scores`
// (fp64 for fp64 input, else fp32). So equal rows tie, and neither threads nor instruction sets change a bit.
// Dtypes: one float type for both, or fp32 queries with an fp16 or bf16 bank; any strides. scores and indices are
// contiguous, 1 <= k <= N. exclude: contiguous i64 [Q] (the row that query q must not return, or -1), or nullptr.
NonFinite nearest_templates(const TensorView& queries, const TensorView& bank, std::int64_t k, Metric metric,
                            const TensorView* exclude, const TensorView& scores, const TensorView& indices, int threads);

// A power of two by which greedy_coreset multiplies the bank, so that no squared distance overflows or vanishes.
NonFinite coreset_scale(const TensorView& bank, double* scale, int threads);

// Entries [begin, end) of chosen[size], given the earlier ones and `distances` as the call before left it; entry 0 is the
// caller's. Each is the row farthest from all earlier ones, the lowest such row. distances: contiguous fp64 [N], infinite
// before the first call: squared (scaled) distance to the nearest chosen row but the newest, -1 for the other chosen ones.
void greedy_coreset(const TensorView& bank, double scale, const TensorView& distances, const TensorView& chosen,
                    std::int64_t begin, std::int64_t end, int threads);

}  // namespace thfr
