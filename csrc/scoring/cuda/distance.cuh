// The cosine distance of all levels in one launch.
#pragma once

#include "scoring/cuda/exact.cuh"

namespace thfr::cuda {

constexpr int max_levels = 8;  // of a launch

struct Levels {
  Level level[max_levels];
  int count = 0;
};

__device__ inline void put_distance(const Level& level, std::int64_t index, double distance) {
  if (level.distance_f64) {
    static_cast<double*>(level.distance)[index] = distance;
  } else {
    static_cast<float*>(level.distance)[index] = static_cast<float>(distance);
  }
}

// scores [images], if given, is cleared for blend_kernel: the launch after this one.
template <typename T>
__global__ void __launch_bounds__(block_threads)
    distance_kernel(const __grid_constant__ Levels levels, double eps, unsigned* scores, std::int64_t images) {
  THFR_SHARED(Acc<T>, slots, [slot_count<T>]);
  THFR_SHARED(double, totals, [3][max_tile]);
  const int thread = static_cast<int>(threadIdx.x);
  if (scores != nullptr && blockIdx.x == 0) {
    for (std::int64_t b = thread; b < images; b += block_threads) scores[b] = 0xffffffffU;
  }
  int k = 0;
  while (k + 1 < levels.count && blockIdx.x >= levels.level[k + 1].first_block) ++k;
  const Level& level = levels.level[k];
  const Tile tile = tile_of(level);
  sum_tile<T>(level, tile, slots, totals);

  const std::int64_t first = tile.image * level.locations + tile.first;
  const auto safe = [&](int l) { return is_safe<Acc<T>>(totals[1][l]) && is_safe<Acc<T>>(totals[2][l]); };
  bool unsafe = false;
  if (thread < tile.count) {
    unsafe = !safe(thread);
    const double norm = sqrt(totals[1][thread] * totals[2][thread]);
    if (!unsafe) put_distance(level, first + thread, distance_of(totals[0][thread] / (norm > eps ? norm : eps)));
  }
  if (__syncthreads_or(unsafe) == 0) return;
  for (int l = thread / 32; l < tile.count; l += block_warps) {
    if (safe(l)) continue;
    const Exact found = exact_at<T>(level, tile.image, tile.first + l, eps);
    if (thread % 32 == 0) put_distance(level, first + l, distance_of(found.cosine));
  }
}

}  // namespace thfr::cuda
