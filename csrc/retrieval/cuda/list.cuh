// The k best of a query, in shared memory, kept by a warp.
#pragma once

#include "retrieval/cuda/rows.cuh"

namespace thfr::cuda {

constexpr std::int64_t no_row = 0x7fffffffffffffff;

// Entries are sorted, best first. An empty one has a key below or at, and a row above, everyone's.
struct List {
  double* keys;
  std::int64_t* rows;
  int k;

  __device__ bool takes(double key, std::int64_t row) const {
    return key > keys[k - 1] || (key == keys[k - 1] && row < rows[k - 1]);
  }
};

__device__ inline void clear(const List& list) {
  for (int i = static_cast<int>(threadIdx.x) % 32; i < list.k; i += 32) {
    list.keys[i] = -INFINITY;
    list.rows[i] = no_row;
  }
  __syncwarp();
}

// Puts in an entry that the list takes; the same in all lanes.
__device__ inline void insert(const List& list, double key, std::int64_t row) {
  constexpr int own = most_listed / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double keys[own];
  std::int64_t rows[own];
  int place = 0;
#pragma unroll
  for (int j = 0; j < own; ++j) {
    const int i = 32 * j + lane;
    const bool there = i < list.k;
    keys[j] = there ? list.keys[i] : 0;
    rows[j] = there ? list.rows[i] : 0;
    place += __popc(__ballot_sync(all_lanes, there && (keys[j] > key || (keys[j] == key && rows[j] < row))));
  }
  __syncwarp();
#pragma unroll
  for (int j = 0; j < own; ++j) {
    const int i = 32 * j + lane;
    if (i >= place && i + 1 < list.k) {
      list.keys[i + 1] = keys[j];
      list.rows[i + 1] = rows[j];
    }
  }
  if (lane == 0) {
    list.keys[place] = key;
    list.rows[place] = row;
  }
  __syncwarp();
}

// Offers the entries of those lanes that have one.
__device__ inline void offer(const List& list, bool has_one, double key, std::int64_t row) {
  unsigned waiting = __ballot_sync(all_lanes, has_one && list.takes(key, row));
  while (waiting != 0) {
    const int lane = __ffs(static_cast<int>(waiting)) - 1;
    waiting &= waiting - 1;
    const double next_key = __shfl_sync(all_lanes, key, lane);
    const std::int64_t next_row = __shfl_sync(all_lanes, row, lane);
    if (list.takes(next_key, next_row)) insert(list, next_key, next_row);
  }
}

// Offers `count` entries that lie one after another; warp `warp` of `warps` takes its share.
__device__ inline void offer_all(const List& list, const double* keys, const std::int64_t* rows, std::int64_t count, int warp,
                                 int warps) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (std::int64_t begin = 32 * warp; begin < count; begin += 32 * warps) {
    const std::int64_t i = begin + lane;
    const bool there = i < count;
    const std::int64_t row = there ? rows[i] : no_row;
    offer(list, row != no_row, there ? keys[i] : 0, row);
  }
}

__device__ inline void write_list(const List& list, double* keys, std::int64_t* rows) {
  for (int i = static_cast<int>(threadIdx.x) % 32; i < list.k; i += 32) {
    keys[i] = list.keys[i];
    rows[i] = list.rows[i];
  }
}

// List number `i` of a block whose dynamic shared memory begins with `count` lists.
__device__ inline List list_at(double* memory, int count, int i, int k) {
  return {memory + i * k, reinterpret_cast<std::int64_t*>(memory + count * k) + i * k, k};
}

inline std::size_t bytes_of_lists(int count, int k) { return static_cast<std::size_t>(count) * k * 16; }

}  // namespace thfr::cuda
