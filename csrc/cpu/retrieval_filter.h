// The fp32 filter of nearest_templates: for each pair a proved upper bound on "how good", from one product of packed panels.
//
// Rows are moved by a common centre c and normalised: v = (y pre - c) / s, pre = 1/|y| for cosine, else 1, and s >= |y pre - c|.
// With u, t alike for the query: dot(x, y) = t s <u,v> + <c,y> + <x,c> - |c|^2  (cosine the same on unit rows), and
// -|x - y|^2 = 2 t s <u,v> - t^2 - s^2. Centring makes offsets harmless and similarities far apart. <u,v> is the fp32 product,
// wrong by at most product_error(); everything else is fp64, wrong by at most `rounding` times the sum of its terms.
#pragma once

#include <vector>

#include "cpu/retrieval_rows.h"

namespace thfr {

// What the filter knows of some rows.
struct FilterRows {
  std::vector<RowFacts> facts;
  std::vector<double> scale, shift;    // v = y scale - c shift
  std::vector<double> spread, offset;  // s, and the terms of the bound that do not depend on the other row

  explicit FilterRows(std::int64_t count);
};

class Filter {
 public:
  static constexpr std::int64_t depth_block = 256;  // elements added in one fp32 chain

  Filter(const Rows& queries, const Rows& bank, Metric metric);

  // Describe row `row` as entry `place` of `out`; false if it is not finite.
  bool describe_query(std::int64_t row, FilterRows& out, std::int64_t place) const;
  bool describe_bank_row(std::int64_t row, FilterRows& out, std::int64_t place) const;

  // Elements [depth_begin, depth_begin + depth) of the `count` rows from `first`, entries of `known` from `place`, packed.
  Packing query_packing(std::int64_t first, std::int64_t count, const FilterRows& known, std::int64_t place,
                        std::int64_t depth_begin, std::int64_t depth, float* out) const;
  Packing bank_packing(std::int64_t first, std::int64_t count, const FilterRows& known, std::int64_t depth_begin,
                       std::int64_t depth, float* out) const;

  // A pair whose bound is below this has a key (a rounded score, larger is better) worse than `key`.
  double threshold(const RowFacts& query, double key) const;
  // The places among `count` rows where the bound of query `q` is not below `threshold`, and the bounds.
  std::int64_t select(const FilterRows& queries, std::int64_t q, const FilterRows& rows, std::int64_t count,
                      const float* products, double threshold, std::int32_t* places, double* bounds) const;

 private:
  void choose_centre();
  bool describe(const Rows& rows, std::int64_t row, FilterRows& out, std::int64_t place) const;

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  Metric metric_;
  double rounding_, product_error_;
  std::vector<double> centre_;
  double centre_norm_ = 0;
};

}  // namespace thfr
