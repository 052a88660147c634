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

class Filter {
 public:
  static constexpr std::int64_t depth_block = 256;  // elements added in one fp32 chain

  Filter(const Rows& queries, const Rows& bank, Metric metric);

  bool describe_query(std::int64_t i);  // false if the row is not finite
  bool describe_bank_row(std::int64_t i);

  // Pairs of query q whose bound is not below what `key` (a rounded score, larger is better) needs.
  double threshold(std::int64_t q, double key) const;
  std::int64_t select(std::int64_t q, std::int64_t first, std::int64_t count, const float* products, double key,
                      std::int32_t* places, double* bounds) const;

  Packing query_packing() const { return packing(queries_, query_); }
  Packing bank_packing() const { return packing(bank_, row_); }
  const RowFacts& query_facts(std::int64_t i) const { return query_.facts[at(i)]; }
  const RowFacts& bank_facts(std::int64_t i) const { return row_.facts[at(i)]; }

 private:
  struct Side {
    explicit Side(std::int64_t n) : facts(at(n)), scale(at(n)), shift(at(n)), spread(at(n)), offset(at(n)) {}
    std::vector<RowFacts> facts;
    std::vector<double> scale, shift;    // v = y scale - c shift
    std::vector<double> spread, offset;  // s, and the terms of the bound that do not depend on the other row
  };

  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  void choose_centre();
  bool describe(const Rows& rows, std::int64_t i, Side& side) const;
  Packing packing(const Rows& rows, const Side& side) const;

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  Metric metric_;
  double rounding_, product_error_;
  std::vector<double> centre_;
  double centre_norm_ = 0;
  Side query_, row_;
};

}  // namespace thfr
