// The fp32 filter of nearest_templates: for each pair a proved upper bound on "how good", from one fp32 product.
//
// Plain rows: v = fl32(y f), f a power of two that brings the side's rows near 1. Where 1e-30 <= |v|^2 <= 1e30 nothing overflows,
// and what underflows is far below the errors that are counted. |v|^2 is a sum of non-negative fp32 terms, wrong by at most
// `square_error` of itself. With u alike for the query, the product p of u and v is wrong by at most `product_error` |u||v|:
//   dot:    <x, y> g f <= p + product_error |u||v|
//   l2:     -|x - y|^2 f^2 <= 2 p + 2 product_error |u||v| - (1 - square_error) (|u|^2 + |v|^2),  f = g
//   cosine: <x, y> / |x||y| <= p / |u||v| + product_error + 1.02 square_error, the last for the norms used
// A row that is no such v (of another magnitude, or not finite) is looked at in fp64; unless zero its bound is infinite.
//
// Rows that all but coincide in direction (an offset much larger than what tells them apart) are centred, for the bounds above
// would tell no pair from another: v = (y pre - c) / s, c common, pre = 1/|y| for cosine, else 1, and s >= |y pre - c|. Then
// dot(x, y) = t s <u,v> + <c,y> + <x,c> - |c|^2  (cosine the same on unit rows), and -|x - y|^2 = 2 t s <u,v> - t^2 - s^2. All
// but <u,v> is fp64, wrong by at most `rounding` times the sum of its terms; that costs as much as the product with some 60
// queries.
#pragma once

#include <vector>

#include "retrieval/cpu/rows.h"

namespace thfr {

// What the filter knows of some rows.
struct FilterRows {
  std::vector<RowMetadata> metadata;
  std::vector<char> exact;                   // whether metadata will do for scores: for cosine the norm must be the exact one
  std::vector<double> squares;               // |v|^2 of plain rows
  std::vector<double> scale, shift;          // of centred rows: v = y scale - c shift
  std::vector<double> gain, spread, offset;  // the terms of Bounds

  explicit FilterRows(std::int64_t count);
};

class Filter {
 public:
  // `few`: up to kFewQueries queries, whose rows are not centred.
  Filter(const Rows& queries, const Rows& rows, Metric metric, bool few);

  enum Side { query, bank };

  // Rows [first, first + count) of a side as entries of `known` from `place`: begin, then pack all of their depth, then end. Both
  // report the first row that is not finite, and return whether there was none.
  bool begin(Side side, std::int64_t first, std::int64_t count, FilterRows& known, std::int64_t place, BadRow& bad) const;
  bool end(Side side, std::int64_t first, std::int64_t count, FilterRows& known, std::int64_t place, BadRow& bad) const;
  // Elements [d, d + run) of up to four rows, as `wide` rows at `out` of a panel of `panel` rows; with `panel` 0 of any number of
  // rows, each by itself. Their squares are added to `squares`, from the first row's on.
  void pack(Side side, std::int64_t row, std::int64_t count, const FilterRows& known, std::int64_t place, double* squares,
            std::int64_t d, std::int64_t run, int wide, int panel, float* out) const;
  // Instead of packing, for few queries: the products with queries packed in panels of one.
  void few_products(std::int64_t first, std::int64_t count, FilterRows& known, const float* queries, float* products,
                    std::int64_t row) const;

  // Of a query described: exact, at the latest now.
  const RowMetadata& query_metadata(std::int64_t row, FilterRows& known, std::int64_t place) const;

  // A pair whose bound is below this has a key (a rounded score, larger is better) worse than `key`. `extreme`: of the query.
  double threshold(bool extreme, double key) const;
  // The rows among `count` whose bound for query `q` is not below `threshold`, and their bounds.
  std::int64_t select(const FilterRows& queries, std::int64_t q, const FilterRows& rows, std::int64_t count,
                      const float* products, double threshold, Neighbour* found) const;

 private:
  struct Sample;
  Sample sample(const Rows& rows) const;
  void choose_centre();
  bool describe_plain(Side side, std::int64_t row, FilterRows& out, std::int64_t place) const;
  bool describe_centred(Side side, std::int64_t row, FilterRows& out, std::int64_t place) const;
  const Rows& rows(Side side) const { return side == query ? queries_ : bank_; }

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  Metric metric_;
  double rounding_, product_error_, slack_;
  double factor_[2] = {1, 1};   // of each side
  std::vector<double> centre_;  // empty unless rows are centred
  double centre_norm_ = 0;
};

}  // namespace thfr
