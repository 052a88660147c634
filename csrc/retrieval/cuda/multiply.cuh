// Few queries: products of the bank's rows with up to four of them at a time, in fp32 and at the speed of memory. select_kernel
// scores those exactly that can be among the k best.
#pragma once

#include "retrieval/cuda/filter.cuh"

namespace thfr::cuda {

constexpr int group_rows = 4;              // rows at a time: bytes in flight, and a query's elements serve several
constexpr std::int64_t warp_width = 4096;  // of rows that a warp has for itself; a block shares wider ones

__host__ __device__ inline int lanes_for(std::int64_t width) { return width > warp_width ? search_threads : 32; }

// What a product may be wrong by, relative to both norms, and a square to itself: each fp32 addition by 2^-24, of a lane's
// elements, of the lanes and of the warps; twice that. Where norms are gains (2^-40 to 2^40) what underflows is far below.
template <typename T>
double multiply_slack(std::int64_t width) {
  const std::int64_t step = std::int64_t{lanes_for(width)} * wide<T>;
  return static_cast<double>(ceil_div(width, step) * wide<T> + 16) * 0x1p-23;
}

// Where products go: of all queries with bank rows [first, first + count).
struct Multiplied {
  std::int64_t first, count;
  float* products;            // [Q, count]
  Gain *query_gains, *gains;  // [Q], [count]
};

// A group's chunks at d.
template <typename T>
__device__ inline void load_group(const Rows& bank, std::int64_t row, std::int64_t end, std::int64_t d,
                                  Chunk<T, wide<T>> (&chunks)[group_rows]) {
#pragma unroll
  for (int r = 0; r < group_rows; ++r) {
    const std::int64_t i = row + r < end ? row + r : end - 1;
    chunks[r] = load_chunk<T, wide<T>>(bank, row_of<T>(bank, i), d, bank.width);
  }
}

// Of the lanes' sums, and in a block that shares its rows of the warps': lane l of warp 0 has number l / (32 / N).
template <int N>
__device__ inline float total_of(float (&sums)[N], bool shared, float (&slots)[search_warps][32]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  lane_sums(sums, 0);
  if (!shared) return sums[0];
  slots[threadIdx.x / 32][lane] = sums[0];
  __syncthreads();
  float total = 0;
  for (const auto& slot : slots) total += slot[lane];
  return total;
}

// A norm as gain. Rows of products that may be 0 or infinite without being so have none: they are scored.
__device__ inline Gain gain_of_square(float square, bool inverse) {
  return gain_of(sqrt(static_cast<double>(square)), 0, inverse);
}

// Bank rows that are not finite set `bad`. By a warp.
template <typename T>
__device__ inline void look_for_bad(const Target& to, std::int64_t row, std::int64_t end, float square) {
  constexpr int lanes = 32 / group_rows;
  for (unsigned left = __ballot_sync(all_lanes, !isfinite(square)); left != 0;) {
    const int r = (__ffs(static_cast<int>(left)) - 1) / lanes;
    left &= ~(((1U << lanes) - 1) << (r * lanes));
    if (row + r < end && isnan(describe<T>(to.bank, row + r).norm)) *to.bad = 1;
  }
}

template <typename T, int QT>
__global__ void __launch_bounds__(search_threads, 2)
    multiply_kernel(const __grid_constant__ Target to, const __grid_constant__ Multiplied out) {
  constexpr int W = wide<T>, R = group_rows, N = R * QT;
  THFR_SHARED(float, slots, [2][2][search_warps][32]);
  const bool inverse = to.metric == Metric::cosine, shared = lanes_for(to.bank.width) > 32;
  const int lanes = shared ? search_threads : 32, lane = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t teams = search_threads / lanes, width = to.bank.width, end = out.first + out.count;
  const std::int64_t begin = out.first + R * (blockIdx.x * teams + threadIdx.x / lanes), step = R * teams * gridDim.x;
  for (std::int64_t q = threadIdx.x; blockIdx.x == 0 && q < to.queries.count; q += search_threads) {
    const double norm = to.metadata[q].norm;
    out.query_gains[q] = norm == 0 ? Gain{0, 0} : gain_of(norm, 0, inverse);
  }
  int turn = 0;
  for (std::int64_t q = 0; q < to.queries.count; q += QT) {
    const float* query[QT];
#pragma unroll
    for (int k = 0; k < QT; ++k) query[k] = row_of<float>(to.queries, q + k < to.queries.count ? q + k : to.queries.count - 1);
    float sums[N] = {}, squares[R] = {};
    std::int64_t row = begin, d = lane * W;
    Chunk<T, W> coming[R];
    if (row < end) load_group<T>(to.bank, row, end, d, coming);
    while (row < end) {
      const bool last = d - lane * W + lanes * W >= width;
      const std::int64_t next_row = last ? row + step : row, next_d = last ? lane * W : d + lanes * W;
      float y[R][W];
#pragma unroll
      for (int r = 0; r < R; ++r) unpack_chunk<T, W>(coming[r], y[r]);
      if (next_row < end) load_group<T>(to.bank, next_row, end, next_d, coming);  // of the next rows too: on their way meanwhile
#pragma unroll
      for (int k = 0; k < QT; ++k) {
        float x[W];
        unpack_chunk<float, W>(load_chunk<float, W>(to.queries, query[k], d, width), x);
#pragma unroll
        for (int r = 0; r < R; ++r) {
#pragma unroll
          for (int i = 0; i < W; ++i) sums[r * QT + k] = fmaf(x[i], y[r][i], sums[r * QT + k]);
        }
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int i = 0; i < W; ++i) squares[r] = fmaf(y[r][i], y[r][i], squares[r]);
      }
      if (last) {
        const float product = total_of(sums, shared, slots[turn][0]), square = total_of(squares, shared, slots[turn][1]);
        turn ^= 1;  // so that nothing is overwritten before it was read
        if (!shared || threadIdx.x < 32) {
          const int l = static_cast<int>(threadIdx.x) % 32, pair = l / (32 / N), r = l / (32 / R);
          const std::int64_t of_pair = row + pair / QT;
          if (l % (32 / N) == 0 && of_pair < end && q + pair % QT < to.queries.count) {
            out.products[(q + pair % QT) * out.count + of_pair - out.first] = product;
          }
          if (q == 0) {
            if (l % (32 / R) == 0 && row + r < end) out.gains[row + r - out.first] = gain_of_square(square, inverse);
            look_for_bad<T>(to, row, end, square);
          }
        }
#pragma unroll
        for (float& sum : sums) sum = 0;
#pragma unroll
        for (float& sum : squares) sum = 0;
      }
      row = next_row, d = next_d;
    }
  }
}

}  // namespace thfr::cuda
