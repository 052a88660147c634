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

// Elements [depth_begin, depth_begin + depth) of rows [first, first + count), as panels of `panel` rows:
// out[p][d][r] = float(x * scale - centre[d] * shift); the rows that are missing in the last panel are zero.
struct Packing {
  Rows rows;
  std::int64_t first, count;
  int panel;
  std::int64_t depth_begin, depth;
  const double* scale;   // [count]
  const double* shift;   // [count]
  const double* centre;  // [rows.width]
  float* out;
};

constexpr std::int64_t kStreamQueries = 8;

struct RetrievalKernels {
  int query_panel, bank_panel;  // rows of a panel

  // Exact. `xs`, `ys`, `s` are powers of two that the elements are multiplied by (fp64 rows only, 1 for others).
  double (*dot)(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys);
  double (*distance2)(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double s);

  // out[d] = x[d] * scale
  void (*widen)(const Rows& x, std::int64_t i, double scale, double* out);
  // out[0] = |y|^2, out[1 + q] = <queries[q], y> or, with `differences`, |queries[q] - y|^2: to the bit what dot and distance2
  // give, in one reading of y. queries: contiguous [count, width], count <= kStreamQueries.
  void (*stream)(const Rows& y, std::int64_t j, const double* queries, std::int64_t count, bool differences, double* out);

  // max |x|; NaN if an element is.
  double (*largest)(const Rows& x, std::int64_t i);
  // sum[d] += x[d] * scale
  void (*accumulate)(const Rows& x, std::int64_t i, double scale, double* sum);
  // out[0] = |x|^2 (as dot has it), out[1] = <x, centre>, out[2] = |x - centre|^2
  void (*moments)(const Rows& x, std::int64_t i, const double* centre, double out[3]);

  void (*pack)(const Packing& job, std::int64_t panel_begin, std::int64_t panel_end);
  // One tile of query_panel x bank_panel: c[m * row + n] = sum over depth of a[d][m] * b[d][n], added to c unless `fresh`.
  void (*tile)(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh);
  // Places where not (weight * spread[n] * (c[n] + slack) + offset[n] + base < threshold); bounds: the left-hand sides.
  std::int64_t (*select)(const float* c, const double* spread, const double* offset, std::int64_t n, double weight, double slack,
                         double base, double threshold, std::int32_t* places, double* bounds);

  // Rows [begin, end): distances[n] = min(distances[n], |x_n - x_centre|^2 s^2) unless negative. Returns the row of the
  // largest, the lowest such row; -1 if all are negative.
  std::int64_t (*coreset_update)(const Rows& x, std::int64_t centre, double s, double* distances, std::int64_t begin,
                                 std::int64_t end);
};

}  // namespace thfr
