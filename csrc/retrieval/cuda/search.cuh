// Few fp64 queries: the bank is read once for every four of them, and each block keeps the best of the rows it has seen.
#pragma once

#include "retrieval/cuda/list.cuh"
#include "retrieval/cuda/sums.cuh"

namespace thfr::cuda {

// Totals become keys of pairs, and keys entries of the warp's lists, one of each query. By a warp.
template <typename U, typename T, bool L2, int QT>
__device__ inline void take_pairs(const Target& to, std::int64_t q, std::int64_t n, double total, int paired, double* memory,
                                  int warp, int k) {
  constexpr int lanes = 32 / sum_count<L2, QT>, pairs = rows_at_once<QT> * QT;  // lanes of a sum
  const int lane = static_cast<int>(threadIdx.x) % 32, pair = lane / lanes;
  const std::int64_t query = q + pair % QT, row = n + pair / QT;
  const int odd = lane & paired;
  bool there = lane % lanes == odd && pair < pairs && query < to.queries.count && row < to.bank.count;
  Pair sums{total, 0};
  if constexpr (!L2) sums.square = __shfl_sync(all_lanes, total, pair < pairs ? (pairs + pair / QT) * lanes + odd : 0);
  const Metadata metadata = there ? to.metadata[query] : Metadata{0, 0};
  const bool plain = is_plain<T>(to.metric, metadata, sums);
  double key = key_of<T>(to.metric, metadata, sqrt(sums.square), sums.sum, 0);
  if constexpr (sizeof(T) == 8) {
    for (unsigned left = __ballot_sync(all_lanes, there && !plain); left != 0; left &= left - 1) {
      const int one = __ffs(static_cast<int>(left)) - 1;
      const std::int64_t its_query = __shfl_sync(all_lanes, query, one), its_row = __shfl_sync(all_lanes, row, one);
      const double found = scaled_key<U, T>(to.metric, to.queries, its_query, to.metadata[its_query], to.bank, its_row);
      if (lane == one) key = found;
    }
  }
  if (there && isnan(key)) {
    if (!isnan(metadata.norm)) *to.bad = 1;
    there = false;
  }
  there = there && (to.exclude == nullptr || to.exclude[query] != row);
#pragma unroll
  for (int i = 0; i < QT; ++i) offer(list_at(memory, search_warps * QT, warp * QT + i, k), there && pair % QT == i, key, row);
}

// keys, rows: [Q, gridDim.x, k]. Dynamic shared memory: search_warps * QT lists.
template <typename U, typename T, bool L2, int QT>
__global__ void __launch_bounds__(search_threads, 2)
    search_kernel(const __grid_constant__ Target to, int k, double* keys, std::int64_t* rows) {
  THFR_SHARED(double, slots, [2][search_warps][32]);
  THFR_DYNAMIC_SHARED(double, memory);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const bool wide_rows = is_wide(to.bank.width);
  const int paired = is_paired<T>(to.bank.width), rows_of_warp = rows_at_once<QT> << paired;
  const std::int64_t shares = wide_rows ? 1 : search_warps, step = rows_of_warp * shares * gridDim.x;
  const std::int64_t begin = rows_of_warp * (blockIdx.x * shares + (wide_rows ? 0 : warp));
  int turn = 0;
  for (std::int64_t q = 0; q < to.queries.count; q += QT) {
    if (q > 0) __syncthreads();  // the lists have been read
    for (int i = 0; i < QT; ++i) clear(list_at(memory, search_warps * QT, warp * QT + i, k));
    for (std::int64_t n = begin; n < to.bank.count; n += step) {
      const std::int64_t own = n + (static_cast<int>(threadIdx.x) & paired) * rows_at_once<QT>;
      const double total = sum_rows<U, T, L2, QT>(to.queries, q, to.bank, own, 1, paired, slots, turn);
      if (!wide_rows || warp == 0) take_pairs<U, T, L2, QT>(to, q, own, total, paired, memory, warp, k);
    }
    __syncthreads();
    if (warp < QT && q + warp < to.queries.count) {
      const List list = list_at(memory, search_warps * QT, warp, k);  // of warp 0, for query `warp`
      for (int w = 1; w < search_warps; ++w) {
        const List other = list_at(memory, search_warps * QT, w * QT + warp, k);
        offer_all(list, other.keys, other.rows, k, 0, 1);
      }
      const std::int64_t place = ((q + warp) * gridDim.x + blockIdx.x) * k;
      write_list(list, keys + place, rows + place);
    }
  }
}

// costs: [Q,B]. A warp a pair.
template <typename U, typename T>
__global__ void __launch_bounds__(search_threads, 1)
    cost_kernel(const __grid_constant__ Target to, std::int64_t first, std::int64_t count, double* costs) {
  const std::int64_t pairs = to.queries.count * count, step = std::int64_t{gridDim.x} * search_warps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * search_warps + threadIdx.x / 32; i < pairs; i += step) {
    const std::int64_t q = i / count, n = first + i % count;
    const Metadata metadata = to.metadata[q];
    double key = pair_key<U, T>(to.metric, to.queries, q, metadata, to.bank, n);
    if (threadIdx.x % 32 != 0) continue;
    if (isnan(key) && !isnan(metadata.norm)) *to.bad = 1;
    if (to.exclude != nullptr && to.exclude[q] == n) key = NAN;
    costs[i] = 0.0 - key;
  }
}

template <typename T>
__global__ void __launch_bounds__(search_threads) describe_kernel(const __grid_constant__ Rows rows, Metadata* metadata) {
  const std::int64_t step = std::int64_t{gridDim.x} * search_warps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * search_warps + threadIdx.x / 32; i < rows.count; i += step) {
    const Metadata found = describe_here<T>(rows, i);
    if (threadIdx.x % 32 == 0) metadata[i] = found;
  }
}

struct Results {
  const double* keys;        // [Q, lists, k]
  const std::int64_t* rows;  // of one size with keys
  std::int64_t lists;
  void* scores;  // [Q,k]
  std::int64_t* indices;
  bool wide;  // scores are fp64
};

// A result, or NaN and -1 where there is none.
__device__ inline void put_result(const Target& to, const Results& out, std::int64_t q, std::int64_t place, double key,
                                  std::int64_t row) {
  const bool outside = to.exclude != nullptr && (to.exclude[q] < -1 || to.exclude[q] >= to.bank.count);
  const bool none = row == no_row || outside || isnan(to.metadata[q].norm) || *to.bad != 0;
  const double score = none ? NAN : (to.metric == Metric::l2 ? 0.0 - key : key);
  if (out.wide) {
    static_cast<double*>(out.scores)[place] = score;
  } else {
    static_cast<float*>(out.scores)[place] = static_cast<float>(score);
  }
  out.indices[place] = none ? -1 : row;
}

// Lists of a query become one: a block a query.
__global__ void __launch_bounds__(search_threads)
    merge_kernel(const __grid_constant__ Target to, const __grid_constant__ Results out, int k) {
  THFR_DYNAMIC_SHARED(double, memory);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t q = blockIdx.x, first = q * out.lists * k;
  const List list = list_at(memory, search_warps, warp, k);
  clear(list);
  offer_all(list, out.keys + first, out.rows + first, out.lists * k, warp, search_warps);
  __syncthreads();
  if (warp != 0) return;
  for (int w = 1; w < search_warps; ++w) {
    const List other = list_at(memory, search_warps, w, k);
    offer_all(list, other.keys, other.rows, k, 0, 1);
  }
  for (int j = lane; j < k; j += 32) put_result(to, out, q, q * k + j, list.keys[j], list.rows[j]);
}

__global__ void __launch_bounds__(search_threads)
    write_kernel(const __grid_constant__ Target to, const __grid_constant__ Results out, std::int64_t k) {
  const std::int64_t step = std::int64_t{gridDim.x} * search_threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * search_threads + threadIdx.x; i < to.queries.count * k; i += step) {
    put_result(to, out, i / k, i, out.keys[i], out.rows[i]);
  }
}

}  // namespace thfr::cuda
