// Many queries: which rows of a block can be among the k best, from products in half precision, and exact scores of those.
//
// A product p of operands u and v is wrong by at most slack |u||v| (what the caller knows of its sums, and 2^-20 or more for the
// digits that operands leave out and the fp32 gains). So each pair has a lowest and a highest value; a pair's value is what its
// score orders: the cosine, <x, y>, or -|x - y|^2. The k-th best of the lowest values of different rows is one that k rows reach,
// and a row whose highest value is below it by more than scores are rounded by is none of the k best.
// No list of candidates is kept, which might overflow: each is scored when it is met, however many there are.
#pragma once

#include "retrieval/cuda/list.cuh"

namespace thfr::cuda {

// A row as operand: its norm (the inverse for cosine), and the power of two that the row is, multiplied by the operand.
// NaN where a bound cannot be told: a row that is not finite, or beyond what products hold. 0: a zero row.
struct Gain {
  float norm;
  int exponent;
};

constexpr int largest_exponent = 400;    // of a gain: products of two, squared, stay within fp64
constexpr double largest_norm = 0x1p40;  // and its inverse: products neither overflow nor vanish in fp32

__device__ inline double power(int exponent) { return __longlong_as_double((exponent + 1023LL) << 52); }

__device__ inline Gain gain_of(double norm, int exponent, bool inverse) {
  const bool good =
      norm >= 1 / largest_norm && norm <= largest_norm && exponent >= -largest_exponent && exponent <= largest_exponent;
  return {good ? static_cast<float>(inverse ? 1 / norm : norm) : NAN, good ? exponent : 0};
}

struct Range {
  double low, high;
};

__device__ inline Range range_of(Metric metric, double product, const Gain& x, const Gain& y, double slack) {
  double value, error;
  if (metric == Metric::cosine) {
    value = product * x.norm * y.norm;
    error = slack;
  } else {
    const double x_power = power(x.exponent), y_power = power(y.exponent);
    const double x_norm = x.norm * x_power, y_norm = y.norm * y_power;
    value = product * x_power * y_power;
    error = slack * x_norm * y_norm;
    if (metric == Metric::l2) {
      const double squares = x_norm * x_norm + y_norm * y_norm;
      value = 2 * value - squares;
      error = 2 * error + 0x1p-20 * squares;
    }
  }
  const bool known = isfinite(value) && isfinite(error);
  return {known ? value - error : -INFINITY, known ? value + error : INFINITY};
}

// A value below this has a score that is rounded to less than that of `value`; beyond the range of scores all are alike.
template <typename T>
__device__ inline double below(Metric metric, double value) {
  constexpr double largest = sizeof(T) == 8 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;
  const bool l2 = metric == Metric::l2;
  if (!(value >= (l2 && sizeof(T) < 8 ? -largest * largest : -largest))) return -INFINITY;
  const double reached = value < largest ? value : largest;
  return reached - fabs(reached) * 0x1p-20 - (l2 ? 0x1p-250 : 0x1p-125);
}

// The same of a key, a rounded score or distance negated.
template <typename T>
__device__ inline double below_key(Metric metric, double key) {
  return below<T>(metric, metric == Metric::l2 ? -key * key : key);
}

struct Products {
  const float* at;                   // [parts, Q, B]
  std::int64_t parts, count, first;  // B rows of the bank from `first`
  const Gain *query_gains, *bank_gains;
  double slack;
};

struct Candidates {
  const Target& to;
  const Products& products;
  std::int64_t q;
  Gain gain;

  __device__ Range range(std::int64_t i) const {
    double sum = 0;
    for (std::int64_t p = 0; p < products.parts; ++p) {
      sum += products.at[(p * to.queries.count + q) * products.count + i];
    }
    return range_of(to.metric, sum, gain, products.bank_gains[i], products.slack);
  }
  __device__ bool excluded(std::int64_t i) const { return to.exclude != nullptr && to.exclude[q] == products.first + i; }
};

// A value that k rows of the block reach: the k-th of the threads' best. By the block.
__device__ inline double reached_by(const Candidates& candidates, int k, double (&best)[search_threads], double& kth) {
  const int thread = static_cast<int>(threadIdx.x);
  double most = -INFINITY;
  for (std::int64_t i = thread; i < candidates.products.count; i += search_threads) {
    const double low = candidates.range(i).low;
    if (low > most && !candidates.excluded(i)) most = low;
  }
  best[thread] = most;
  __syncthreads();
  int rank = 0;
  for (int i = 0; i < search_threads; ++i) rank += best[i] > most || (best[i] == most && i < thread) ? 1 : 0;
  if (rank == k - 1) kth = most;
  __syncthreads();
  return kth;
}

// A block a query. keys, rows: [Q,k]; they begin here with the bank's first row. Dynamic shared memory: search_warps lists.
template <typename U, typename T>
__global__ void __launch_bounds__(search_threads, 2)
    select_kernel(const __grid_constant__ Target to, const __grid_constant__ Products products, int k, double* keys,
                  std::int64_t* rows) {
  THFR_SHARED(double, best, [search_threads]);
  THFR_SHARED(double, kth, [1]);
  THFR_DYNAMIC_SHARED(double, memory);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t q = blockIdx.x;
  double* const own_keys = keys + q * k;
  std::int64_t* const own_rows = rows + q * k;
  const Candidates candidates{to, products, q, products.query_gains[q]};
  const Metadata metadata = to.metadata[q];
  const List list = list_at(memory, search_warps, warp, k);
  clear(list);
  double threshold = below<T>(to.metric, reached_by(candidates, k, best, kth[0]));
  if (products.first > 0 && own_rows[k - 1] != no_row) threshold = fmax(threshold, below_key<T>(to.metric, own_keys[k - 1]));
  for (std::int64_t begin = 32 * warp; begin < products.count; begin += search_threads) {
    const std::int64_t i = begin + lane;
    const bool there = i < products.count && !isnan(metadata.norm) && !(candidates.range(i).high < threshold);
    for (unsigned left = __ballot_sync(all_lanes, there); left != 0; left &= left - 1) {
      const std::int64_t n = products.first + begin + __ffs(static_cast<int>(left)) - 1;
      const double key = pair_key<U, T>(to.metric, to.queries, q, metadata, to.bank, n);
      if (isnan(key) || (to.exclude != nullptr && to.exclude[q] == n) || !list.takes(key, n)) continue;
      insert(list, key, n);
      threshold = fmax(threshold, below_key<T>(to.metric, list.keys[k - 1]));
    }
  }
  __syncthreads();
  if (warp != 0) return;
  for (int w = 1; w < search_warps; ++w) {
    const List other = list_at(memory, search_warps, w, k);
    offer_all(list, other.keys, other.rows, k, 0, 1);
  }
  if (products.first > 0) offer_all(list, own_keys, own_rows, k, 0, 1);
  write_list(list, own_keys, own_rows);
}

struct Operands {
  __half* at;  // [n, width], or null
  std::int64_t width;
  int parts;
  bool of_bank;
};

// What one part of an operand holds of an element: its nearest half, or what that leaves.
template <typename Number>
__device__ inline __half part_of(Number x, bool rest) {
  const __half high = __float2half_rn(static_cast<float>(x));
  return rest ? __float2half_rn(static_cast<float>(x - static_cast<Number>(__half2float(high)))) : high;
}

// Rows as operands, `warps` warps of a block a row. bad: null for queries, whose metadata say it.
template <typename T>
__global__ void __launch_bounds__(search_threads)
    pack_kernel(const __grid_constant__ Rows rows, Operands out, Metric metric, int warps, Gain* gains, std::int64_t* bad) {
  constexpr int W = wide<T>;
  THFR_SHARED(double, squares, [search_warps]);
  THFR_SHARED(double, most, [search_warps]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, first = warp / warps * warps;
  const std::int64_t i = std::int64_t{blockIdx.x} * (search_warps / warps) + warp / warps, from = 32 * (warp - first) + lane;
  const bool there = i < rows.count;
  const T* const row = row_of<T>(rows, there ? i : 0);
  double square = 0, largest = 0;
#pragma unroll 2
  for (std::int64_t d = from * W; there && d < rows.width; d += 32 * W * warps) {
    Acc<T> x[W];
    unpack_chunk<T, W>(load_chunk<T, W>(rows, row, d, rows.width), x);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      square = fma(static_cast<double>(x[k]), static_cast<double>(x[k]), square);
      largest = larger(largest, fabs(static_cast<double>(x[k])));
    }
  }
  square = lane_sum(square);
  for (int step = 16; step > 0; step /= 2) largest = larger(largest, __shfl_xor_sync(all_lanes, largest, step));
  if (lane == 0) {
    squares[warp] = square;
    most[warp] = largest;
  }
  __syncthreads();
  if (!there) return;
  for (int w = first; w < first + warps; ++w) {
    if (w == warp) continue;
    square += squares[w];
    largest = larger(largest, most[w]);
  }
  const bool finite = isfinite(largest);
  // Largest elements of 2^14: far above the least half, products far below the largest float.
  const int exponent = out.at != nullptr && finite && largest > 0 ? ilogb(largest) - 14 : 0;
  if (from == 0) {
    const double norm = sqrt(square) * power(max(-1000, min(-exponent, 1000)));
    gains[i] = largest == 0 ? Gain{0, 0} : gain_of(finite ? norm : NAN, exponent, metric == Metric::cosine);
    if (!finite && bad != nullptr) *bad = 1;
  }
  if (out.at == nullptr) return;
  // Two steps: the whole power need not be a number of the row's type.
  const auto half_way = static_cast<Acc<T>>(power(-exponent / 2)),
             rest_of_way = static_cast<Acc<T>>(power(-exponent + exponent / 2));
  __half* const to = out.at + i * out.width;
  for (std::int64_t d = from; d < rows.width; d += 32 * warps) {
    const Acc<T> x = finite ? load(row[d * rows.stride]) * half_way * rest_of_way : Acc<T>{0};
    for (int p = 0; p < out.parts; ++p) to[p * rows.width + d] = part_of(x, p == (out.of_bank ? 2 : 1));
  }
  for (std::int64_t d = out.parts * rows.width + from; d < out.width; d += 32 * warps) to[d] = __float2half_rn(0.0F);
}

}  // namespace thfr::cuda
