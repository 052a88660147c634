// Blending the levels of an anomaly map. Compiled once for each instruction set (cmake/simd.cmake): no standard-library
// templates here.
#include <math.h>  // not <cmath>: its overloads are inline functions

#include "scoring/cpu/simd.h"

namespace thfr {
namespace THFR_ISA {
namespace {

using std::int64_t;

constexpr int64_t stripe = 256;  // columns of the map kept in the first-level cache at a time
constexpr int64_t lanes = 16;

void expand_row(const MapLevel& level, const float* values, float weight, int64_t width, float* out) {
  constexpr int64_t block = BlockedMatrix::width;
  const int64_t band = level.columns.weights.size[1];
  const int64_t* start = level.columns.start.as<int64_t>();
  const float* __restrict weights = level.columns.weights.as<float>();
  for (int64_t x = 0; x < width; x += block) {
    const float* from = values + *start++;
    float sum[block] = {};
    for (int64_t j = 0; j < band; ++j, weights += block) {
      const float value = from[j];
#pragma omp simd
      for (int64_t i = 0; i < block; ++i) sum[i] += value * weights[i];
    }
    const int64_t n = width - x < block ? width - x : block;
    for (int64_t i = 0; i < n; ++i) out[x + i] = weight * sum[i];
  }
}

// sum[0..n) = one row of level.rows . expanded, from column x on.
void blend_row(const MapLevel& level, const float* expanded, int64_t row, int64_t width, int64_t x, int64_t n,
               float* __restrict sum) {
  const int64_t band = level.rows.weights.size[1];
  const float* weights = level.rows.weights.as<float>() + row * band;
  const float* from = expanded + level.rows.start.as<int64_t>()[row] * width + x;
  for (int64_t i = 0; i < n; ++i) sum[i] = 0;
  int64_t k = 0;
  for (; k + 4 <= band; k += 4, from += 4 * width) {
    const float w0 = weights[k], w1 = weights[k + 1], w2 = weights[k + 2], w3 = weights[k + 3];
    const float* __restrict r0 = from, * __restrict r1 = r0 + width, * __restrict r2 = r1 + width, * __restrict r3 = r2 + width;
    for (int64_t i = 0; i < n; ++i) sum[i] += (w0 * r0[i] + w1 * r1[i]) + (w2 * r2[i] + w3 * r3[i]);
  }
  for (; k < band; ++k, from += width) {
    const float w = weights[k];
    for (int64_t i = 0; i < n; ++i) sum[i] += w * from[i];
  }
}

// The largest of n values, or NaN if there is one.
float maximum(const float* values, int64_t n, float most) {
  float best[lanes];
  int nan = most != most;
  for (int64_t i = 0; i < lanes; ++i) best[i] = most;
  int64_t x = 0;
  for (; x + lanes <= n; x += lanes) {
    for (int64_t i = 0; i < lanes; ++i) best[i] = values[x + i] > best[i] ? values[x + i] : best[i];
    for (int64_t i = 0; i < lanes; ++i) nan |= static_cast<int>(values[x + i] != values[x + i]);
  }
  for (; x < n; ++x) {
    best[0] = values[x] > best[0] ? values[x] : best[0];
    nan |= static_cast<int>(values[x] != values[x]);
  }
  for (int64_t i = 1; i < lanes; ++i) best[0] = best[i] > best[0] ? best[i] : best[0];
  return nan != 0 ? NAN : best[0];
}

float combine_row(const MapLevel* levels, int count, Combine combine, const float* const* expanded, int64_t row, int64_t width,
                  float* __restrict out) {
  float most = -HUGE_VALF;
  for (int64_t x = 0; x < width; x += stripe) {
    const int64_t n = width - x < stripe ? width - x : stripe;
    float* __restrict to = out + x;
    for (int64_t i = 0; i < n; ++i) to[i] = combine == Combine::sum ? 0.0f : 1.0f;
    for (int k = 0; k < count; ++k) {
      float part[stripe];
      blend_row(levels[k], expanded[k], row, width, x, n, part);
      if (combine == Combine::sum) {
        for (int64_t i = 0; i < n; ++i) to[i] += part[i];
      } else if (levels[k].weight == 1) {
        for (int64_t i = 0; i < n; ++i) to[i] *= part[i];
      } else {
        for (int64_t i = 0; i < n; ++i) to[i] *= powf(part[i], levels[k].weight);
      }
    }
    most = maximum(to, n, most);
  }
  return most;
}

}  // namespace

const MapKernels& map_kernels() {
  static constexpr MapKernels table{expand_row, combine_row};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
