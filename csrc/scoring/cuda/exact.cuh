// One location, whatever its magnitudes: a warp sums its channels in fp64. The rare case, and so without vectors.
#pragma once

#include "scoring/cuda/tile.cuh"

namespace thfr::cuda {

// Squared norms within these bounds lost nothing on the way, products of two of them do not overflow.
template <typename Sum>
__device__ inline bool is_safe(double square) {
  constexpr double smallest = sizeof(Sum) == 4 ? 1e-20 : 1e-140, largest = sizeof(Sum) == 4 ? 1e30 : 1e140;
  return square >= smallest && square <= largest;
}

// Rounding takes the cosine past 1 by an ulp or so: the distance stays within [0, 2]. NaN stays NaN.
__device__ inline double distance_of(double cosine) {
  const double distance = 1 - cosine;
  return distance < 0 ? 0 : distance > 2 ? 2 : distance;
}

// A power of two that brings `magnitude` near 1, or 1 for zero, infinity and NaN.
__device__ inline double power_scale(double magnitude) {
  if (!(magnitude > 0) || isinf(magnitude)) return 1;
  return ldexp(1.0, -max(-1000, min(ilogb(magnitude), 1000)));
}

template <typename T>
__device__ inline double scale_of(const T* x, std::int64_t step, std::int64_t channels) {
  const auto larger = [](double a, double b) { return b > a || b != b ? b : a; };
  double most = 0;
  for (std::int64_t c = threadIdx.x % 32; c < channels; c += 32) {
    most = larger(most, fabs(static_cast<double>(load(x[c * step]))));
  }
  for (int lanes = 1; lanes < 32; lanes *= 2) most = larger(most, __shfl_xor_sync(all_lanes, most, lanes));
  return power_scale(most);
}

struct Exact {
  double x_norm, y_norm, cosine;
  bool zero;     // a vector is zero: the cosine is 0
  bool clamped;  // the product of the norms is below eps
};

template <typename T>
__device__ inline Exact exact(const T* x, std::int64_t x_step, const T* y, std::int64_t y_step, std::int64_t channels,
                              double eps) {
  double x_scale = 1, y_scale = 1;
  if constexpr (sizeof(T) == 8) {  // of other types fp64 holds any product of squares
    x_scale = scale_of(x, x_step, channels);
    y_scale = scale_of(y, y_step, channels);
  }
  double xy = 0, xx = 0, yy = 0;
#pragma unroll 4
  for (std::int64_t c = threadIdx.x % 32; c < channels; c += 32) {
    const double a = x_scale * load(x[c * x_step]), b = y_scale * load(y[c * y_step]);
    xy += a * b;
    xx += a * a;
    yy += b * b;
  }
  xy = sum_over_lanes(xy, 1);
  xx = sum_over_lanes(xx, 1);
  yy = sum_over_lanes(yy, 1);
  const double norm = sqrt(xx * yy), least = eps * x_scale * y_scale;
  Exact found;
  found.x_norm = sqrt(xx) / x_scale;
  found.y_norm = sqrt(yy) / y_scale;
  found.zero = norm == 0;
  found.clamped = norm < least;
  found.cosine = found.zero ? 0 : xy / (found.clamped ? least : norm);
  return found;
}

template <typename T>
__device__ inline Exact exact_at(const Level& level, std::int64_t image, std::int64_t location, double eps) {
  return exact(at<const T>(level.x, level, image, location), level.x.channel, at<const T>(level.y, level, image, location),
               level.y.channel, level.channels, eps);
}

}  // namespace thfr::cuda
