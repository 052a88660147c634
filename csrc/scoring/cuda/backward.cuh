// The gradients of the cosine distance: sums as forward, then a second pass over the tile, which now lies in the caches.
#pragma once

#include "scoring/cuda/exact.cuh"

namespace thfr::cuda {

struct Gradients {
  Operand x, y;  // one without data is not computed
};

// grad_x = across * y + x_along * x and grad_y = across * x + y_along * y: of each location of a tile.
template <typename T>
using Factors = Acc<T>[3][max_tile];

struct Factor {
  double across, x_along, y_along;
  bool safe;  // else the location's gradient is made by exact_gradient
};

template <typename T>
__device__ inline Factor find_factor(double xy, double xx, double yy, double grad, double eps) {
  const double norm = sqrt(xx * yy);
  const bool clamped = norm < eps;
  Factor found;
  found.across = -grad / (clamped ? eps : norm);
  found.x_along = clamped ? 0 : -found.across * xy / xx;
  found.y_along = clamped ? 0 : -found.across * xy / yy;
  // The factors, too, must keep within the accumulator type. A gradient of 0 makes them 0.
  const bool within = grad == 0 || is_safe<Acc<T>>(fabs(found.across));
  found.safe = is_safe<Acc<T>>(xx) && is_safe<Acc<T>>(yy) && within;
  return found;
}

template <typename T, int N>
__device__ inline void put_combined(T* to, const Acc<T> (&other)[N], const Acc<T> (&across)[N], const Acc<T> (&own)[N],
                                    const Acc<T> (&along)[N]) {
  Acc<T> sum[N];
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = across[i] * other[i] + along[i] * own[i];
  put<T, N>(to, sum);
}

// `steps` vectors of N elements, each `step` channels after the last, with the factors of the element's location.
template <typename T, int N>
struct Walk {
  const T *x, *y;
  T *grad_x, *grad_y;  // or nullptr
  std::int64_t x_step, y_step, grad_x_step, grad_y_step;

  __device__ void run(std::int64_t steps, const Acc<T> (&across)[N], const Acc<T> (&x_along)[N], const Acc<T> (&y_along)[N]) {
    for (; steps > 0; steps -= unroll) {
      Packed<T, N> a[unroll], b[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u, x += x_step, y += y_step) {
        a[u] = u < steps ? fetch<T, N>(x) : Packed<T, N>{};
        b[u] = u < steps ? fetch<T, N>(y) : Packed<T, N>{};
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (u >= steps) return;
        Acc<T> own[N], other[N];
        unpack(a[u], own);
        unpack(b[u], other);
        if (grad_x != nullptr) put_combined<T, N>(grad_x + u * grad_x_step, other, across, own, x_along);
        if (grad_y != nullptr) put_combined<T, N>(grad_y + u * grad_y_step, own, across, other, y_along);
      }
      if (grad_x != nullptr) grad_x += unroll * grad_x_step;
      if (grad_y != nullptr) grad_y += unroll * grad_y_step;
    }
  }
};

template <typename T>
__device__ inline T* gradient_at(const Operand& operand, const Level& level, std::int64_t image, std::int64_t location) {
  return operand.data == nullptr ? nullptr : at<T>(operand, level, image, location);
}

template <typename T, int N>
__device__ inline Walk<T, N> walk_from(const Level& level, const Gradients& gradients, const Tile& tile, int location,
                                       std::int64_t channel, std::int64_t step) {
  const auto skip = [&](T* place, const Operand& operand) {
    return place == nullptr ? place : place + channel * operand.channel;
  };
  const std::int64_t l = tile.first + location;
  return {at<const T>(level.x, level, tile.image, l) + channel * level.x.channel,
          at<const T>(level.y, level, tile.image, l) + channel * level.y.channel,
          skip(gradient_at<T>(gradients.x, level, tile.image, l), gradients.x),
          skip(gradient_at<T>(gradients.y, level, tile.image, l), gradients.y),
          step * level.x.channel,
          step * level.y.channel,
          step * gradients.x.channel,
          step * gradients.y.channel};
}

template <typename T, int N>
__device__ inline void gradient_planes(const Level& level, const Gradients& gradients, const Tile& tile,
                                       const Factors<T>& factors) {
  const int thread = static_cast<int>(threadIdx.x), location = thread % level.lanes * N, row = thread / level.lanes;
  const int rows = block_threads / level.lanes;
  if (location >= tile.count || row >= level.channels) return;
  Acc<T> across[N], x_along[N], y_along[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    across[i] = factors[0][location + i];
    x_along[i] = factors[1][location + i];
    y_along[i] = factors[2][location + i];
  }
  walk_from<T, N>(level, gradients, tile, location, row, rows)
      .run((level.channels - row + rows - 1) / rows, across, x_along, y_along);
}

template <typename T>
__device__ inline void gradient_channels(const Level& level, const Gradients& gradients, const Tile& tile,
                                         const Factors<T>& factors) {
  constexpr int N = wide<T>;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % level.lanes, location = thread / level.lanes;
  const std::int64_t vectors = level.channels / N;
  if (location >= tile.count || lane >= vectors) return;
  Acc<T> across[N], x_along[N], y_along[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    across[i] = factors[0][location];
    x_along[i] = factors[1][location];
    y_along[i] = factors[2][location];
  }
  walk_from<T, N>(level, gradients, tile, location, lane * N, level.lanes * N)
      .run((vectors - lane + level.lanes - 1) / level.lanes, across, x_along, y_along);
}

// By a warp. In two steps, the sum within and `outer` without, so that no intermediate leaves the range of fp64.
template <typename T>
__device__ inline void exact_gradient(const Level& level, const Gradients& gradients, std::int64_t image, std::int64_t location,
                                      double grad, double eps) {
  const Exact found = exact_at<T>(level, image, location, eps);
  const auto write = [&](const Operand& to, const Operand& own, const Operand& other, double own_norm, double other_norm) {
    if (to.data == nullptr) return;
    const double outer = found.zero ? 0 : found.clamped ? grad : grad / own_norm;
    const double across = found.zero ? 0 : -1 / (found.clamped ? eps : other_norm);
    const double along = found.zero || found.clamped ? 0 : found.cosine / own_norm;
    T* place = at<T>(to, level, image, location);
    const T *a = at<const T>(own, level, image, location), *b = at<const T>(other, level, image, location);
    for (std::int64_t c = threadIdx.x % 32; c < level.channels; c += 32) {
      const double sum = across * load(b[c * other.channel]) + along * load(a[c * own.channel]);
      store(place + c * to.channel, static_cast<Acc<T>>(outer * sum));
    }
  };
  write(gradients.x, level.x, level.y, found.x_norm, found.y_norm);
  write(gradients.y, level.y, level.x, found.y_norm, found.x_norm);
}

template <typename T>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(const __grid_constant__ Level level, const __grid_constant__ Gradients gradients, double eps) {
  THFR_SHARED(Acc<T>, slots, [slot_count<T>]);
  THFR_SHARED(double, totals, [3][max_tile]);
  THFR_SHARED(Acc<T>, factors, [3][max_tile]);
  const int thread = static_cast<int>(threadIdx.x);
  const Tile tile = tile_of(level);
  sum_tile<T>(level, tile, slots, totals);

  const Acc<T>* grad = static_cast<const Acc<T>*>(level.distance) + tile.image * level.locations + tile.first;
  const auto factor = [&](int l) { return find_factor<T>(totals[0][l], totals[1][l], totals[2][l], grad[l], eps); };
  bool unsafe = false;
  if (thread < tile.count) {
    const Factor found = factor(thread);
    factors[0][thread] = static_cast<Acc<T>>(found.across);
    factors[1][thread] = static_cast<Acc<T>>(found.x_along);
    factors[2][thread] = static_cast<Acc<T>>(found.y_along);
    unsafe = !found.safe;
  }
  const bool any_unsafe = __syncthreads_or(unsafe) != 0;
  switch (level.route) {
    case Route::planes: gradient_planes<T, wide<T>>(level, gradients, tile, factors); break;
    case Route::channels: gradient_channels<T>(level, gradients, tile, factors); break;
    default: gradient_planes<T, 1>(level, gradients, tile, factors);
  }
  if (!any_unsafe) return;
  __syncthreads();  // what was written above for such a location is written again
  for (int l = thread / 32; l < tile.count; l += block_warps) {
    if (!factor(l).safe) exact_gradient<T>(level, gradients, tile.image, tile.first + l, grad[l], eps);
  }
}

}  // namespace thfr::cuda
