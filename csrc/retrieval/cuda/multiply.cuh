// Few queries: products of the bank's rows with up to four of them at a time, in fp32 and at the speed of memory. select_kernel
// scores those exactly that can be among the k best.
#pragma once

#include "retrieval/cuda/filter.cuh"

namespace thfr::cuda {

constexpr int group_rows = 4;              // rows at a time: bytes in flight, and a query's elements serve several
constexpr std::int64_t warp_width = 4096;  // of rows that a warp has for itself; a block shares wider ones

// Lanes that share a row: a block's, a warp's, or every other one of a warp, whose odd lanes have rows of their own then.
template <typename T>
__host__ __device__ int lanes_for(std::int64_t width) {
  return width > warp_width ? search_threads : width > 16 * wide<T> ? 32 : 16;
}

// What a product may be wrong by, relative to both norms, and a square to itself: each fp32 addition by 2^-24, of a lane's
// elements, of the lanes and of the warps; twice that. Where norms are gains (2^-40 to 2^40) what underflows is far below.
template <typename T>
double multiply_slack(std::int64_t width) {
  const std::int64_t step = std::int64_t{lanes_for<T>(width)} * wide<T>;
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

// Of the lanes' sums, and in a block that shares its rows of the warps': lane l of warp 0 has number l / (32 / N), if lanes are
// paired of the rows of its own.
template <int N>
__device__ inline float total_of(float (&sums)[N], int paired, bool shared, float (&slots)[search_warps][32]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  lane_sums(sums, paired);
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

// Bank rows that are not finite set `bad`. By a warp, whose lanes have the square of `row`.
template <typename T>
__device__ inline void look_for_bad(const Target& to, std::int64_t row, std::int64_t end, float square) {
  for (unsigned left = __ballot_sync(all_lanes, row < end && !isfinite(square)); left != 0; left &= left - 1) {
    const std::int64_t suspect = __shfl_sync(all_lanes, row, __ffs(static_cast<int>(left)) - 1);
    if (isnan(describe<T>(to.bank, suspect).norm)) *to.bad = 1;
  }
}

template <typename T, int QT>
__global__ void __launch_bounds__(search_threads, 2)
    multiply_kernel(const __grid_constant__ Target to, const __grid_constant__ Multiplied out) {
  constexpr int W = wide<T>, R = group_rows, N = R * QT;
  THFR_SHARED(float, slots, [2][2][search_warps][32]);
  const int lanes = lanes_for<T>(to.bank.width), paired = lanes < 32 ? 1 : 0, thread = static_cast<int>(threadIdx.x);
  const int lane = (paired != 0 ? thread >> 1 : thread) % lanes;
  const bool inverse = to.metric == Metric::cosine, shared = lanes > 32;
  const std::int64_t teams = search_threads / lanes, width = to.bank.width, end = out.first + out.count;
  const std::int64_t begin = out.first + R * (blockIdx.x * teams + (shared ? 0 : thread / 32 << paired)),
                     step = R * teams * gridDim.x;
  const int own = (thread & paired) * R;  // of odd lanes, the rows after those of the even ones
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
    if (row < end) load_group<T>(to.bank, row + own, end, d, coming);
    while (row < end) {
      const bool last = d - lane * W + lanes * W >= width;
      const std::int64_t next_row = last ? row + step : row, next_d = last ? lane * W : d + lanes * W;
      float y[R][W];
#pragma unroll
      for (int r = 0; r < R; ++r) unpack_chunk<T, W>(coming[r], y[r]);
      if (next_row < end)
        load_group<T>(to.bank, next_row + own, end, next_d, coming);  // of the next rows too: on their way meanwhile
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
        const float product = total_of(sums, paired, shared, slots[turn][0]);
        const float square = total_of(squares, paired, shared, slots[turn][1]);
        turn ^= 1;  // so that nothing is overwritten before it was read
        if (!shared || threadIdx.x < 32) {
          const int l = thread % 32, pair = l / (32 / N), odd = l & paired;
          const std::int64_t of_pair = row + own + pair / QT, of_square = row + own + l / (32 / R);
          if (l % (32 / N) == odd && of_pair < end && q + pair % QT < to.queries.count) {
            out.products[(q + pair % QT) * out.count + of_pair - out.first] = product;
          }
          if (q == 0) {
            if (l % (32 / R) == odd && of_square < end) out.gains[of_square - out.first] = gain_of_square(square, inverse);
            look_for_bad<T>(to, of_square, end, square);
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
