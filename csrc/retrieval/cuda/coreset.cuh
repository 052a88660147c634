// k-centre greedy: a launch an entry. Each begins with the end of the one before, the farthest row of all blocks, so that
// nothing but the order of launches keeps the steps apart.
#pragma once

#include "retrieval/cuda/list.cuh"
#include "retrieval/cuda/sums.cuh"

namespace thfr::cuda {

struct Farthest {
  double distance;
  std::int64_t row;
};

__device__ inline Farthest farther(const Farthest& a, const Farthest& b) {
  return b.distance > a.distance || (b.distance == a.distance && b.row < a.row) ? b : a;
}

__device__ inline Farthest farthest_of_warp(Farthest best) {
  for (int step = 16; step > 0; step /= 2) {
    best = farther(best, {__shfl_xor_sync(all_lanes, best.distance, step), __shfl_xor_sync(all_lanes, best.row, step)});
  }
  return best;
}

// The same in all threads. slots: of each warp, and of this call alone.
__device__ inline Farthest farthest_of_block(Farthest best, Farthest (&slots)[search_warps]) {
  best = farthest_of_warp(best);
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = best;
  __syncthreads();
  for (const Farthest& other : slots) best = farther(best, other);
  return best;
}

struct Coreset {
  Rows bank;
  const std::int64_t* largest;  // the bits of the largest magnitude
  double* distances;            // [N]
  double* keys;                 // [2, blocks]: the farthest of each block, of even and odd steps
  std::int64_t* rows;
  std::int64_t* chosen;
  std::int64_t first;
  int blocks;
};

// The row that step - 1 found farthest.
__device__ inline std::int64_t newest_of(const Coreset& to, std::int64_t step, Farthest (&slots)[search_warps]) {
  if (step == 1) return to.first;
  Farthest best{-2, no_row};
  const std::int64_t half = (step - 1) % 2 * to.blocks;
  for (int b = static_cast<int>(threadIdx.x); b < to.blocks; b += search_threads) {
    best = farther(best, {to.keys[half + b], to.rows[half + b]});
  }
  return farthest_of_block(best, slots).row;
}

// A power of two, so that no squared distance of fp64 rows overflows or vanishes.
__device__ inline double coreset_scale(double largest) {
  if (largest == 0 || (largest > 1e-100 && largest < 1e100)) return 1;
  return ldexp(1.0, min(-ilogb(largest), 1000));
}

__device__ inline bool is_bad(const Coreset& to) { return !isfinite(__longlong_as_double(*to.largest)); }

// Entry step - 1 is known now; distances are brought up to date with it, and the farthest rows found for entry `step`.
template <typename T>
__global__ void __launch_bounds__(search_threads) step_kernel(const __grid_constant__ Coreset to, std::int64_t step) {
  THFR_SHARED(double, slots, [2][search_warps][32]);
  THFR_SHARED(Farthest, newest_slots, [search_warps]);
  THFR_SHARED(Farthest, best_slots, [search_warps]);
  if (is_bad(to)) {
    if (blockIdx.x == 0 && threadIdx.x == 0) to.chosen[step - 1] = -1;
    return;
  }
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t newest = newest_of(to, step, newest_slots);
  if (blockIdx.x == 0 && threadIdx.x == 0) to.chosen[step - 1] = newest;
  const double scale = sizeof(T) == 8 ? coreset_scale(__longlong_as_double(*to.largest)) : 1;
  const bool wide_rows = is_wide(to.bank.width);
  const std::int64_t shares = wide_rows ? 1 : search_warps;
  constexpr int lanes = 32 / rows_at_once<1>;
  Farthest best{-2, no_row};
  int turn = 0;
  for (std::int64_t n = rows_at_once<1> * (blockIdx.x * shares + (wide_rows ? 0 : warp)); n < to.bank.count;
       n += rows_at_once<1> * shares * gridDim.x) {
    const double total = sum_rows<T, T, true, 1>(to.bank, newest, to.bank, n, scale, 0, slots, turn);
    const std::int64_t row = n + lane / lanes;
    if (lane % lanes != 0 || row >= to.bank.count || (wide_rows && warp != 0)) continue;
    double distance = to.distances[row];
    if (row == newest) distance = -1;
    if (total < distance) distance = total;
    to.distances[row] = distance;
    best = farther(best, {distance, row});
  }
  best = farthest_of_block(best, best_slots);
  if (threadIdx.x == 0) {
    to.keys[step % 2 * to.blocks + blockIdx.x] = best.distance;
    to.rows[step % 2 * to.blocks + blockIdx.x] = best.row;
  }
}

// The entry that the last step found. One block.
__global__ void __launch_bounds__(search_threads) last_kernel(const __grid_constant__ Coreset to, std::int64_t step) {
  THFR_SHARED(Farthest, slots, [search_warps]);
  const std::int64_t newest = newest_of(to, step, slots);
  if (threadIdx.x == 0) to.chosen[step - 1] = is_bad(to) ? -1 : newest;
}

template <typename T>
__global__ void __launch_bounds__(search_threads) largest_kernel(const __grid_constant__ Rows rows, unsigned long long* largest) {
  const std::int64_t step = std::int64_t{gridDim.x} * search_warps;
  double most = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * search_warps + threadIdx.x / 32; i < rows.count; i += step) {
    most = larger(most, largest_of<T>(rows, i));
  }
  if (threadIdx.x % 32 == 0) atomicMax(largest, static_cast<unsigned long long>(__double_as_longlong(fabs(most))));
}

}  // namespace thfr::cuda
