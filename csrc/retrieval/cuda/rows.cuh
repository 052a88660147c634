// Rows of any float type and strides, and the exact sums of pairs of them.
//
// The one order of a sum: W elements (16 bytes of the bank) at a time go to the lanes of a warp in turn; every `segment` elements
// the lanes are added in a tree, and the segments one after another. All kernels keep to it, so a pair has one score.
// fp64 throughout: on the GPUs this is made for, fp64 arithmetic keeps up with the memory.
#pragma once

#include "common/launch.cuh"
#include "common/load.cuh"
#include "thfr/retrieval_cuda.h"

namespace thfr::cuda {

constexpr int search_threads = 256, search_warps = search_threads / 32;
constexpr std::int64_t segment = 2048;

struct Rows {
  const void* data = nullptr;
  std::int64_t count = 0, width = 0, row_stride = 0, stride = 0;
  bool packed = false;  // rows are 16-byte loads
};

// What is known of a query: see RowMetadata of the CPU. The exponent is 0 but for fp64 rows beyond 1e120 or below 1e-120.
struct Metadata {
  double norm, exponent;
};

// What is searched for, and where.
struct Target {
  Rows queries, bank;
  const Metadata* metadata;
  Metric metric;
  const std::int64_t* exclude;
  std::int64_t* bad;
};

// W elements that one lane takes, left as they lie in memory.
template <typename T, int W>
struct Chunk {
  static constexpr int pieces = W / wide<T>;
  Packed<T, wide<T>> piece[pieces];
};

template <typename T>
__device__ inline const T* row_of(const Rows& rows, std::int64_t i) {
  return static_cast<const T*>(rows.data) + i * rows.row_stride;
}

template <typename T, int W>
__device__ inline Chunk<T, W> load_whole(const T* from) {
  Chunk<T, W> chunk;
#pragma unroll
  for (int p = 0; p < Chunk<T, W>::pieces; ++p) chunk.piece[p] = fetch<T, wide<T>>(from + p * wide<T>);
  return chunk;
}

// Elements from d on; zeros beyond `end`.
template <typename T, int W>
__device__ inline Chunk<T, W> load_chunk(const Rows& rows, const T* row, std::int64_t d, std::int64_t end) {
  Chunk<T, W> chunk;
#pragma unroll
  for (int p = 0; p < Chunk<T, W>::pieces; ++p, d += wide<T>) {
    if (rows.packed && d + wide<T> <= end) {
      chunk.piece[p] = fetch<T, wide<T>>(row + d);
    } else {
      T elements[wide<T>];
#pragma unroll
      for (int i = 0; i < wide<T>; ++i) elements[i] = d + i < end ? row[(d + i) * rows.stride] : T{};
      memcpy(&chunk.piece[p].bits, elements, sizeof(elements));
    }
  }
  return chunk;
}

template <typename T, int W>
__device__ inline void unpack_chunk(const Chunk<T, W>& chunk, Acc<T> (&to)[W]) {
#pragma unroll
  for (int p = 0; p < Chunk<T, W>::pieces; ++p) {
    Acc<T> part[wide<T>];
    unpack(chunk.piece[p], part);
#pragma unroll
    for (int i = 0; i < wide<T>; ++i) to[p * wide<T> + i] = part[i];
  }
}

__device__ inline double lane_sum(double x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}

// Half of 2 n sums go to the lane `step` away, which gives its other half.
template <int n, typename Number, int N>
__device__ inline void fold(Number (&x)[N]) {
  if constexpr (n > 0) {
    constexpr int step = 32 * n / N;
    const bool upper = (threadIdx.x & step) != 0;
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const Number given = upper ? x[i] : x[i + n], kept = upper ? x[i + n] : x[i];
      x[i] = kept + __shfl_xor_sync(all_lanes, given, step);
    }
    fold<n / 2>(x);
  }
}

// N sums at once, N a power of two up to 32, each in the tree of lane_sum with a fraction of its shuffles: lane l is left with
// sum l / (32 / N), in place 0. paired: 1 if odd lanes have sums of their own (N: up to 16), those of a row that 16 lanes hold:
// the same bits, for the tree of 32 begins by adding zeros.
template <typename Number, int N>
__device__ inline void lane_sums(Number (&x)[N], int paired) {
  fold<N / 2>(x);
  for (int step = 16 / N; step > paired; step /= 2) x[0] += __shfl_xor_sync(all_lanes, x[0], step);
}

// What two elements add to the sum of their pair.
template <bool L2>
__device__ inline double added(double sum, double x, double y) {
  if constexpr (L2) {
    const double difference = x - y;
    return fma(difference, difference, sum);
  } else {
    return fma(x, y, sum);
  }
}

struct Pair {
  double sum, square;  // <x, y> or |x - y|^2; |y|^2 but for l2
};

// One pair, by a warp; every lane gets the sums. U: of the query, T: of the bank. fp64 rows are multiplied by powers of two.
template <typename U, typename T, bool L2>
__device__ inline Pair sum_pair_here(const Rows& queries, std::int64_t q, double x_scale, const Rows& bank, std::int64_t n,
                                     double y_scale) {
  constexpr int W = wide<T>;
  const U* const x = row_of<U>(queries, q);
  const T* const y = row_of<T>(bank, n);
  Pair total{0, 0};
  for (std::int64_t begin = 0; begin < bank.width; begin += segment) {
    const std::int64_t end = begin + segment < bank.width ? begin + segment : bank.width;
    Pair part{0, 0};
#pragma unroll 2
    for (std::int64_t d = begin + static_cast<int>(threadIdx.x) % 32 * W; d < end; d += 32 * W) {
      Acc<U> a[W];
      Acc<T> b[W];
      unpack_chunk<U, W>(load_chunk<U, W>(queries, x, d, end), a);
      unpack_chunk<T, W>(load_chunk<T, W>(bank, y, d, end), b);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        double u = a[i], v = b[i];
        if constexpr (sizeof(T) == 8) u *= x_scale, v *= y_scale;
        part.sum = added<L2>(part.sum, u, v);
        if constexpr (!L2) part.square = fma(v, v, part.square);
      }
    }
    total.sum += lane_sum(part.sum);
    if constexpr (!L2) total.square += lane_sum(part.square);
  }
  return total;
}

// Not inlined: a call costs little beside a row, and one copy keeps compilation short.
template <typename U, typename T, bool L2>
__device__ __noinline__ Pair sum_pair(const Rows& queries, std::int64_t q, double x_scale, const Rows& bank, std::int64_t n,
                                      double y_scale) {
  return sum_pair_here<U, T, L2>(queries, q, x_scale, bank, n, y_scale);
}

__device__ inline double larger(double a, double b) { return b > a || b != b ? b : a; }

// max |x| of a row, by a warp; NaN if an element is.
template <typename T>
__device__ inline double largest_of(const Rows& rows, std::int64_t i) {
  constexpr int W = wide<T>;
  const T* const row = row_of<T>(rows, i);
  double most = 0;
  for (std::int64_t d = static_cast<int>(threadIdx.x) % 32 * W; d < rows.width; d += 32 * W) {
    Acc<T> x[W];
    unpack_chunk<T, W>(load_chunk<T, W>(rows, row, d, rows.width), x);
#pragma unroll
    for (int k = 0; k < W; ++k) most = larger(most, fabs(static_cast<double>(x[k])));
  }
  for (int step = 16; step > 0; step /= 2) most = larger(most, __shfl_xor_sync(all_lanes, most, step));
  return most;
}

__device__ inline bool is_moderate(double square) { return square > 1e-240 && square < 1e240; }

// Of a row whose squared norm leaves fp64's range: so that its largest element becomes about 1. Two steps reach the whole range.
__device__ inline int exponent_of(double largest) {
  const int exponent = largest > 0 ? ilogb(largest) : 0;
  return exponent < -1000 ? -1000 : exponent;
}

// Metadata of a row, by a warp. A loop, so that the sums are there once.
template <typename T>
__device__ inline Metadata describe_here(const Rows& rows, std::int64_t i) {
  double scale = 1;
  int exponent = 0;
#pragma unroll 1
  for (bool scaled = false;; scaled = true) {
    const double square = sum_pair_here<T, T, false>(rows, i, scale, rows, i, scale).sum;
    if (scaled || is_moderate(square) || (sizeof(T) < 8 && isfinite(square))) {
      return {sqrt(square), static_cast<double>(exponent)};
    }
    const double largest = largest_of<T>(rows, i);
    if (!isfinite(largest)) return {largest - largest, 0};  // NaN
    exponent = exponent_of(largest);
    scale = ldexp(1.0, -exponent);
  }
}

// For few rows: one copy of the code.
template <typename T>
__device__ __noinline__ Metadata describe(const Rows& rows, std::int64_t i) {
  return describe_here<T>(rows, i);
}

template <typename T>
__device__ inline double rounded(double score) {
  return (sizeof(T) == 8 ? score : static_cast<double>(static_cast<float>(score))) + 0.0;  // no negative zero
}

// Whether sum and square say all, or the rows must be brought nearer to 1 first: some fp64 rows.
template <typename T>
__device__ inline bool is_plain(Metric metric, const Metadata& x, const Pair& pair) {
  if (sizeof(T) < 8) return true;
  if (metric == Metric::l2) return pair.sum > 1e-280 && pair.sum < 1e280;
  return x.exponent == 0 && is_moderate(pair.square);
}

// Larger is better: the rounded score, or minus the distance. NaN if a row is not finite.
template <typename T>
__device__ inline double key_of(Metric metric, const Metadata& x, double y_norm, double sum, int exponent) {
  if (!isfinite(sum)) return sum - sum;
  if (metric == Metric::l2) return rounded<T>(-ldexp(sqrt(sum), exponent));
  if (metric == Metric::dot) return rounded<T>(ldexp(sum, exponent));
  if (x.norm == 0 || y_norm == 0) return 0;
  const double cosine = sum / (x.norm * y_norm);
  return rounded<T>(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

// By a warp, of rows that are not plain.
template <typename U, typename T>
__device__ __noinline__ double scaled_key(Metric metric, const Rows& queries, std::int64_t q, const Metadata& x, const Rows& bank,
                                          std::int64_t n) {
  const Metadata y = describe<T>(bank, n);
  if (isnan(x.norm) || isnan(y.norm)) return x.norm + y.norm;
  const int of_x = static_cast<int>(x.exponent), of_y = static_cast<int>(y.exponent);
  if (metric != Metric::l2) {
    const Pair pair = sum_pair<U, T, false>(queries, q, ldexp(1.0, -of_x), bank, n, ldexp(1.0, -of_y));
    return key_of<T>(metric, x, y.norm, pair.sum, of_x + of_y);
  }
  const int exponent = x.norm == 0 ? of_y : y.norm == 0 ? of_x : max(of_x, of_y);
  const double scale = ldexp(1.0, -exponent);
  return key_of<T>(metric, x, y.norm, sum_pair<U, T, true>(queries, q, scale, bank, n, scale).sum, exponent);
}

// The key of a pair, by a warp.
template <typename U, typename T>
__device__ inline double pair_key(Metric metric, const Rows& queries, std::int64_t q, const Metadata& x, const Rows& bank,
                                  std::int64_t n) {
  const Pair pair =
      metric == Metric::l2 ? sum_pair<U, T, true>(queries, q, 1, bank, n, 1) : sum_pair<U, T, false>(queries, q, 1, bank, n, 1);
  if (!is_plain<T>(metric, x, pair)) return scaled_key<U, T>(metric, queries, q, x, bank, n);
  return key_of<T>(metric, x, sqrt(pair.square), pair.sum, 0);
}

}  // namespace thfr::cuda
