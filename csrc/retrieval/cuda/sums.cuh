// Exact sums of a few rows of the bank with a few queries at a time, at the speed of memory.
#pragma once

#include "retrieval/cuda/rows.cuh"

namespace thfr::cuda {

// So that a query's elements, loaded once, serve several rows, and enough bytes of them are in flight.
template <int QT>
constexpr int rows_at_once = QT == 1 ? 4 : 2;

// Sums that a warp keeps: of rows_at_once rows with each of QT queries, and but for l2 the rows' squares. Sum number
// row * QT + query, then rows_at_once * QT + row; a power of two of them, for lane_sums.
template <bool L2, int QT>
constexpr int sum_count = rows_at_once<QT> * QT * (L2 ? 1 : 2);

// Whether the segments of a row are shared out among the warps of a block, or each warp has rows of its own.
__host__ __device__ inline bool is_wide(std::int64_t width) { return width > segment; }

// 1 where half a warp's loads of 16 bytes are enough for a row of the bank: even and odd lanes take rows of their own then.
template <typename T>
__device__ inline int is_paired(std::int64_t width) {
  return width <= 16 * wide<T> ? 1 : 0;
}

using Slots = double[2][search_warps][32];

// One element of each row and query.
template <bool L2, int QT>
__device__ inline void add_element(const double (&x)[QT], const double (&y)[rows_at_once<QT>],
                                   double (&sums)[sum_count<L2, QT>]) {
  constexpr int R = rows_at_once<QT>;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if constexpr (!L2) sums[R * QT + r] = fma(y[r], y[r], sums[R * QT + r]);
#pragma unroll
    for (int k = 0; k < QT; ++k) sums[r * QT + k] = added<L2>(sums[r * QT + k], x[k], y[r]);
  }
}

// Of elements [begin, end): what this lane adds.
template <typename U, typename T, bool L2, int QT>
__device__ inline void sum_segment(const Rows& queries, std::int64_t q, const Rows& bank, std::int64_t n, double scale,
                                   std::int64_t begin, std::int64_t end, int paired, double (&sums)[sum_count<L2, QT>]) {
  constexpr int W = wide<T>, R = rows_at_once<QT>;
  const U* query[QT];
  const T* row[R];
#pragma unroll
  for (int k = 0; k < QT; ++k) query[k] = row_of<U>(queries, q + k < queries.count ? q + k : queries.count - 1);
#pragma unroll
  for (int r = 0; r < R; ++r) row[r] = row_of<T>(bank, n + r < bank.count ? n + r : bank.count - 1);
  std::int64_t d = begin + (static_cast<int>(threadIdx.x) % 32 >> paired) * W;
  if (queries.packed && bank.packed && d + W <= end) {
    Chunk<T, W> coming[R];
#pragma unroll
    for (int r = 0; r < R; ++r) coming[r] = load_whole<T, W>(row[r] + d);
    for (; d + W <= end; d += 32 * W) {
      Acc<T> y[R][W];
      Acc<U> x[QT][W];
#pragma unroll
      for (int k = 0; k < QT; ++k) unpack_chunk<U, W>(load_whole<U, W>(query[k] + d), x[k]);
#pragma unroll
      for (int r = 0; r < R; ++r) unpack_chunk<T, W>(coming[r], y[r]);
      if (d + 33 * W <= end) {  // the next are on their way during the sums
#pragma unroll
        for (int r = 0; r < R; ++r) coming[r] = load_whole<T, W>(row[r] + d + 32 * W);
      }
#pragma unroll
      for (int i = 0; i < W; ++i) {
        double u[QT], v[R];
#pragma unroll
        for (int k = 0; k < QT; ++k) u[k] = sizeof(T) == 8 ? scale * x[k][i] : x[k][i];
#pragma unroll
        for (int r = 0; r < R; ++r) v[r] = sizeof(T) == 8 ? scale * y[r][i] : y[r][i];
        add_element<L2, QT>(u, v, sums);
      }
    }
  }
  // Rows that are no 16-byte loads, and the end of one that is not a multiple of them: an element at a time.
  for (; d < end; d += 32 * W) {
#pragma unroll 1
    for (std::int64_t i = d; i < d + W && i < end; ++i) {
      double u[QT], v[R];
#pragma unroll
      for (int k = 0; k < QT; ++k) u[k] = scale * load(query[k][i * queries.stride]);
#pragma unroll
      for (int r = 0; r < R; ++r) v[r] = scale * load(row[r][i * bank.stride]);
      add_element<L2, QT>(u, v, sums);
    }
  }
}

// Rows [n, n + rows_at_once) with queries [q, q + QT): each lane's total, that of sum lane / (32 / sum_count). Of narrow rows by
// a warp, with an `n` of its odd lanes if they are paired; of wide ones by the block, and warp 0 has the totals. `turn`, 0 at
// first, is kept from call to call.
template <typename U, typename T, bool L2, int QT>
__device__ inline double sum_rows(const Rows& queries, std::int64_t q, const Rows& bank, std::int64_t n, double scale, int paired,
                                  Slots& slots, int& turn) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const bool wide_rows = is_wide(bank.width);
  double total = 0;
  for (std::int64_t first = 0; first < bank.width; first += search_warps * segment, turn ^= 1) {
    const std::int64_t begin = first + (wide_rows ? warp * segment : 0);
    const std::int64_t end = begin + segment < bank.width ? begin + segment : bank.width;
    double sums[sum_count<L2, QT>] = {};  // for narrow and wide rows alike: the code is long
    if (begin < end) sum_segment<U, T, L2, QT>(queries, q, bank, n, scale, begin, end, paired, sums);
    lane_sums(sums, paired);
    if (!wide_rows) return sums[0];
    slots[turn][warp][lane] = sums[0];
    __syncthreads();  // one suffices: the other half of the slots is written next
    if (warp == 0) {
      for (int w = 0; w < search_warps && first + w * segment < bank.width; ++w) total += slots[turn][w][lane];
    }
  }
  return total;
}

}  // namespace thfr::cuda
