// The fp32 products of a few queries with rows that stream by: each row is read once, where it lies.
#pragma once

#include "retrieval/cpu/lanes.h"

namespace thfr {
namespace THFR_ISA {
namespace {

constexpr int kStep = 2 * kFloats;  // elements taken at a time, in two chains

// Adds to sums[q] and squares; n is a multiple of kStep.
template <int count>
inline void add_few(const float* y, float factor, const float* queries, std::int64_t width, std::int64_t n,
                    Floats (&sums)[count + 1][2]) {
  for (std::int64_t j = 0; j < n; j += kStep) {
    for (int t = 0; t < 2; ++t) {
      const std::int64_t at = j + t * kFloats;
      const Floats v = read<Floats>(y + at) * factor;
      for (int q = 0; q < count; ++q) sums[q][t] += v * read<Floats>(queries + q * width + at);
      sums[count][t] += v * v;
    }
  }
}

// Elements [d, d + n) of row i as floats, and what is left to multiply them by.
struct Piece {
  const float* data;
  float factor;
};
inline Piece piece(const Rows& y, std::int64_t i, std::int64_t d, std::int64_t n, double factor, float* buffer) {
  if (y.dtype != DType::f64) return {fetch(y, i, d, n, buffer), static_cast<float>(factor)};
  double wide[kBlock];
  const double* from = fetch(y, i, d, n, wide);
  for (std::int64_t j = 0; j < n; ++j) buffer[j] = static_cast<float>(from[j] * factor);
  return {buffer, 1.0f};
}

template <int count>
void few_products_of(const FewProducts& job) {
  const std::int64_t width = job.rows.width;
  for (std::int64_t i = 0; i < job.count; ++i) {
    double totals[count + 1] = {};
    for (std::int64_t d = 0; d < width; d += kBlock) {
      const std::int64_t n = smaller(kBlock, width - d), whole = n / kStep * kStep;
      float buffer[kBlock];
      const Piece y = piece(job.rows, job.first + i, d, n, job.factor, buffer);
      Floats sums[count + 1][2] = {};
      add_few<count>(y.data, y.factor, job.queries + d, width, whole, sums);
      if (whole < n) {  // a ragged end is padded with zeros, which add nothing
        float end[kStep] = {}, ends[(count + 1) * kStep] = {};
        for (std::int64_t j = whole; j < n; ++j) {
          end[j - whole] = y.data[j];
          for (int q = 0; q < count; ++q) ends[q * kStep + j - whole] = job.queries[q * width + d + j];
        }
        add_few<count>(end, y.factor, ends, kStep, kStep, sums);
      }
      for (int q = 0; q <= count; ++q) totals[q] += static_cast<double>(total(sums[q][0] + sums[q][1]));
    }
    for (int q = 0; q < count; ++q) job.products[q * job.row + i] = static_cast<float>(totals[q]);
    job.squares[i] = totals[count];
  }
}

void few_products(const FewProducts& job) {
  static_assert(kFewQueries == 4, "a case for each count");
  switch (job.query_count) {
    case 0: return few_products_of<0>(job);
    case 1: return few_products_of<1>(job);
    case 2: return few_products_of<2>(job);
    case 3: return few_products_of<3>(job);
    default: return few_products_of<4>(job);
  }
}

}  // namespace
}  // namespace THFR_ISA
}  // namespace thfr
