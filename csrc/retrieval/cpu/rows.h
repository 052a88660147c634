// What is known of a row beforehand, and the score of a pair of rows.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "common/simd.h"
#include "retrieval/cpu/simd.h"
#include "thfr/retrieval.h"

namespace thfr {

const RetrievalKernels& active_retrieval_kernels();

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Default floating-point control while it lives: a caller's flush-to-zero would let subnormal numbers vanish on its own
// thread and not on the others.
class PlainFloats {
 public:
#if defined(__SSE__)
  PlainFloats() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1f80); }
  ~PlainFloats() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned saved_;
#else
  PlainFloats() {}
#endif
 public:
  PlainFloats(const PlainFloats&) = delete;
  PlainFloats& operator=(const PlainFloats&) = delete;
};

inline Rows rows_of(const TensorView& view) {
  return {view.data, view.dtype, view.size[0], view.size[1], view.stride[0], view.stride[1]};
}

// The row times scale = 2^-exponent has this norm. The exponent is 0 unless the row's squared norm leaves fp64's range
// (fp64 rows beyond 1e120 or below 1e-120 only): then it brings the largest element to 1.
struct RowMetadata {
  double norm = 0, scale = 1;
  int exponent = 0;
  bool extreme = false;
};

// `squared`: the row's product with itself. False if the row is not finite.
inline bool describe_row(const RetrievalKernels& kernels, const Rows& rows, std::int64_t i, double squared,
                         RowMetadata* metadata) {
  *metadata = RowMetadata();
  metadata->norm = std::sqrt(squared);
  if (squared > 1e-240 && squared < 1e240) return true;
  const double largest = kernels.largest(rows, i);
  if (!std::isfinite(largest)) return false;
  if (largest == 0) return true;
  metadata->extreme = true;
  metadata->exponent = std::ilogb(largest);
  // Two steps reach the whole range: 2^1074 is no double.
  if (metadata->exponent < -1000) metadata->exponent = -1000;
  metadata->scale = std::ldexp(1.0, -metadata->exponent);
  metadata->norm = std::sqrt(kernels.dot(rows, i, metadata->scale, rows, i, metadata->scale));
  return true;
}

inline bool describe_row(const RetrievalKernels& kernels, const Rows& rows, std::int64_t i, RowMetadata* metadata) {
  return describe_row(kernels, rows, i, kernels.dot(rows, i, 1.0, rows, i, 1.0), metadata);
}

// The score of a pair, rounded to fp32 for all but fp64 rows.
class PairScore {
 public:
  PairScore(const Rows& queries, const Rows& bank, Metric metric)
      : kernels_(active_retrieval_kernels()), queries_(queries), bank_(bank), metric_(metric) {}

  // Larger is better: the score, or minus the distance.
  double key(std::int64_t q, const RowMetadata& query, std::int64_t n, const RowMetadata& row) const {
    if (metric_ != Metric::l2) return key(query, row, kernels_.dot(queries_, q, query.scale, bank_, n, row.scale));
    return key(query, row, kernels_.distance2(queries_, q, bank_, n, std::ldexp(1.0, -common_exponent(query, row))));
  }

  // Cosine, with a row of the bank that is not described yet and a query that is: in one reading.
  double cosine(std::int64_t q, const RowMetadata& query, std::int64_t n, RowMetadata* row) const {
    double sums[2];
    kernels_.dot_and_square(queries_, q, bank_, n, sums);
    describe_row(kernels_, bank_, n, sums[1], row);
    return query.extreme || row->extreme ? key(q, query, n, *row) : key(query, *row, sums[0]);
  }

  // From <x, y> or |x - y|^2 of the scaled rows.
  double key(const RowMetadata& query, const RowMetadata& row, double sum) const {
    if (metric_ == Metric::l2) return -rounded(std::ldexp(std::sqrt(sum), common_exponent(query, row)));
    if (metric_ == Metric::dot) return rounded(std::ldexp(sum, query.exponent + row.exponent));
    if (query.norm == 0 || row.norm == 0) return 0;
    return rounded(std::min(std::max(sum / (query.norm * row.norm), -1.0), 1.0));
  }

 private:
  static int common_exponent(const RowMetadata& query, const RowMetadata& row) {
    if (query.norm == 0) return row.exponent;
    return row.norm == 0 ? query.exponent : std::max(query.exponent, row.exponent);
  }
  double rounded(double score) const {
    return (queries_.dtype == DType::f64 ? score : static_cast<double>(static_cast<float>(score))) + 0.0;  // no negative zero
  }

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  Metric metric_;
};

// The lowest row that is not finite, found by any thread.
class BadRow {
 public:
  void report(std::int64_t row) {
    std::int64_t seen = row_.load();
    while (row < seen && !row_.compare_exchange_weak(seen, row)) {
    }
  }
  bool found() const { return row_.load() != none; }
  bool found_below(std::int64_t row) const { return row_.load() < row; }
  NonFinite as(const char* argument, const Rows& rows) const {
    return {argument, row_.load(), std::isnan(active_retrieval_kernels().largest(rows, row_.load()))};
  }

 private:
  static constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
  std::atomic<std::int64_t> row_{none};
};

}  // namespace thfr
