// The kernel table of retrieval. Two arithmetics meet here:
// - exact: fp64 sums over D in a fixed order, the definition of every score that is returned;
// - filter: fp32 products of packed panels, with a proved error bound, that only say which pairs need the exact one.
#pragma once

#include <cstdint>

#include "thfr/tensor_view.h"

namespace thfr {

// A matrix [count, width] of floats of any strides (in elements).
struct Rows {
  const void* data;
  DType dtype;
  std::int64_t count, width, row_stride, stride;
};

constexpr std::int64_t kDepthBlock = 256;  // elements packed, and added in one fp32 chain

// Elements [depth_begin, depth_begin + depth), at most kDepthBlock, of rows [first, first + count) as `wide` rows of a panel of
// `panel` rows: out[d * panel + r]; zeros for rows from `count` on. count and wide are at most four. Two ways: pack writes
// float(x * factor), pack_centred float(x * scale - centre[d] * shift). Each row's sum of the squares of these, of four fp32
// lanes, is added to `squares`.
struct Packing {
  Rows rows;
  std::int64_t first;
  int count, wide, panel;
  std::int64_t depth_begin, depth;
  float* out;
  double* squares;       // [count]
  double factor;         // a power of two
  const double* scale;   // [count]
  const double* shift;   // [count]
  const double* centre;  // [rows.width]
};

// Products of rows [first, first + count) of y with a few queries, both in fp32: products[q * row + i] = <queries[q], float(y_i
// factor)>, squares[i] = |float(y_i factor)|^2. queries: contiguous [queries, width], at most kFewQueries.
struct FewProducts {
  Rows rows;
  std::int64_t first, count;
  double factor;  // a power of two
  const float* queries;
  std::int64_t query_count;
  float* products;
  std::int64_t row;
  double* squares;
};

constexpr std::int64_t kFewQueries = 4;

struct Neighbour {
  double key;  // larger is better
  std::int64_t row;
};

// What says of rows [0, count) how good they may be: weight * gain[n] * c[n] + reach * spread[n] + offset[n] + base, where c are
// fp32 products with the query.
struct Bounds {
  const float* c;
  const double *gain, *spread, *offset;
  std::int64_t count;
  double weight, reach, base;
};

struct RetrievalKernels {
  int query_panel, bank_panel;  // rows of a panel

  // Exact. `xs`, `ys`, `s` are powers of two that the elements are multiplied by (fp64 rows only, 1 for others).
  double (*dot)(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys);
  // out: <x, y> and |y|^2, to the bit what dot gives, without scales.
  void (*dot_and_square)(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double out[2]);
  double (*distance2)(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double s);

  // max |x|; NaN if an element is.
  double (*largest)(const Rows& x, std::int64_t i);
  // sum[d] += x[d] * scale
  void (*accumulate)(const Rows& x, std::int64_t i, double scale, double* sum);
  // out[0] = |x|^2 (as dot has it), out[1] = <x, centre>, out[2] = |x - centre|^2
  void (*moments)(const Rows& x, std::int64_t i, const double* centre, double out[3]);

  void (*pack)(const Packing& job);
  void (*pack_centred)(const Packing& job);
  // The same numbers, each row by itself: out[r * kDepthBlock + d].
  void (*lay)(const Packing& job);
  void (*lay_centred)(const Packing& job);
  // One tile of query_panel x bank_panel: c[m * row + n] = sum over depth of a[d][m] * b[d][n], added to c unless `fresh`.
  void (*tile)(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh);
  // The same with query_panel rows as `lay` has them, by bank_panel packed ones: c[m * row + n] = sum of a[m][d] * b[d][n].
  // Meanwhile 1 kB from `ahead`, and from each of up to seven addresses `stride` bytes apart behind it, comes in.
  void (*row_tile)(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh, const char* ahead,
                   std::int64_t stride);
  void (*few_products)(const FewProducts& job);
  // The rows whose bound is not below `threshold`, and their bounds (infinite instead of NaN). found: [count].
  std::int64_t (*select)(const Bounds& job, double threshold, Neighbour* found);

  // Rows [begin, end): distances[n] = min(distances[n], |x_n - x_centre|^2 s^2) unless negative. Returns the row of the
  // largest, the lowest such row; -1 if all are negative.
  std::int64_t (*coreset_update)(const Rows& x, std::int64_t centre, double s, double* distances, std::int64_t begin,
                                 std::int64_t end);
};

}  // namespace thfr
