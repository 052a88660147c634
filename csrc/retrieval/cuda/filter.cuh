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

__device__ inline float single_power(int exponent) { return __uint_as_float(static_cast<unsigned>(exponent + 127) << 23); }
__device__ inline double power(int exponent) { return __longlong_as_double((exponent + 1023LL) << 52); }

__device__ inline Gain gain_of(double norm, int exponent, bool inverse) {
  const bool good =
      norm >= 1 / largest_norm && norm <= largest_norm && exponent >= -largest_exponent && exponent <= largest_exponent;
  return {good ? static_cast<float>(inverse ? 1 / norm : norm) : NAN, good ? exponent : 0};
}

struct Bounds {
  float low, high;
};

constexpr int largest_filtered = 60;  // exponent, beyond which rows are scored without being filtered

// fp32 throughout: `slack` covers its rounding, the last term what underflows.
__device__ inline Bounds bounds_of(Metric metric, float product, const Gain& x, const Gain& y, float slack, float square_slack) {
  const bool cosine = metric == Metric::cosine;  // norms are inverse then
  bool known = cosine || (abs(x.exponent) <= largest_filtered && abs(y.exponent) <= largest_filtered);
  const float norms = x.norm * y.norm, both = cosine ? norms : single_power(known ? x.exponent + y.exponent : 0);
  float value = product * both, error = slack * (cosine ? 1 : norms * both) + 0x1p-100F;
  if (metric == Metric::l2) {
    const float x_norm = x.norm * single_power(known ? x.exponent : 0), y_norm = y.norm * single_power(known ? y.exponent : 0);
    const float squares = x_norm * x_norm + y_norm * y_norm;
    value = 2 * value - squares;
    error = 2 * error + square_slack * squares;
  }
  known = known && isfinite(value) && isfinite(error);
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

// The same as fp32, rounded down.
__device__ inline float rounded_down(double value) {
  const auto nearest = static_cast<float>(value);
  return static_cast<double>(nearest) > value ? nextafterf(nearest, -INFINITY) : nearest;
}

constexpr int strip_items = 16;   // rows of a thread: their bounds stay in registers
constexpr int gains_at_once = 8;  // loads of a thread that are on their way
constexpr int strip_rows = search_threads * strip_items;

struct Products {
  const float* at;                   // [parts, Q, B]
  std::int64_t parts, count, first;  // B rows of the bank from `first`
  const Gain *query_gains, *bank_gains;
  float slack, square_slack;  // of squares: of their gains and what is computed of them
  int strips, rows;           // shares of the B rows, one a block, and how many rows each has; at most strip_rows
};

// Rows of one query's strip.
struct Candidates {
  const Target& to;
  const Products& products;
  std::int64_t q, begin;
  int count;
  Gain gain;

  __device__ Candidates(const Target& target, const Products& products_, std::int64_t query, int strip)
      : to(target),
        products(products_),
        q(query),
        begin(std::int64_t{strip} * products_.rows),
        count(static_cast<int>(max(std::int64_t{0}, min(products_.count - begin, std::int64_t{products_.rows})))),
        gain(products_.query_gains[query]) {}

  __device__ const float* part(std::int64_t p) const { return products.at + (p * to.queries.count + q) * products.count + begin; }
  __device__ std::int64_t row(int i) const { return products.first + begin + i; }
  __device__ float high(int i) const {
    float sum = 0;
    for (std::int64_t p = 0; p < products.parts; ++p) sum += part(p)[i];
    return bounds_of(to.metric, sum, gain, products.bank_gains[begin + i], products.slack, products.square_slack).high;
  }
  // What every strip_items-th row may be at most, from row `thread` on; returns the most that one is at least.
  __device__ float look(float (&high)[strip_items]) const {
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t out = to.exclude == nullptr ? -1 : to.exclude[q];
    const int excluded = out >= row(0) && out < row(count) ? static_cast<int>(out - row(0)) : -1;
    float most = -INFINITY;
#pragma unroll
    for (float& sum : high) sum = 0;
    for (std::int64_t p = 0; p < products.parts; ++p) {
      const float* const from = part(p) + thread;
#pragma unroll
      for (int j = 0; j < strip_items; ++j) {  // all on their way at once
        if (j * search_threads + thread < count) high[j] += __ldcs(from + j * search_threads);
      }
    }
#pragma unroll
    for (int first = 0; first < strip_items; first += gains_at_once) {
      Gain gains[gains_at_once];
#pragma unroll
      for (int j = 0; j < gains_at_once; ++j) {
        const int i = (first + j) * search_threads + thread;
        gains[j] = i < count ? products.bank_gains[begin + i] : Gain{NAN, 0};
      }
#pragma unroll
      for (int j = 0; j < gains_at_once; ++j) {
        const int i = (first + j) * search_threads + thread;
        const Bounds found = bounds_of(to.metric, high[first + j], gain, gains[j], products.slack, products.square_slack);
        high[first + j] = found.high;
        if (i != excluded) most = fmaxf(most, found.low);
      }
    }
    return most;
  }
};

// Floats as unsigned integers of the same order.
__device__ inline unsigned order_of(float x) {
  const unsigned bits = __float_as_uint(x);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float number_of(unsigned order) {
  return __uint_as_float((order & 0x80000000U) != 0 ? order & 0x7fffffffU : ~order);
}

// A number that k of the threads reach: the k-th largest of theirs, but for its last bits. By the block; more than -infinity
// in k threads at least.
__device__ inline float reached_by(float most, int k, float (&of_warp)[search_warps]) {
  constexpr int last_bit = 8;  // 2^-15 of a number, far below the slack
  if (k == 1) {
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(all_lanes, most, step));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
    __syncthreads();
    for (const float other : of_warp) most = fmaxf(most, other);
    return most;
  }
  const unsigned own = order_of(most);
  unsigned reached = 0;
#pragma unroll 1
  for (int bit = 31; bit >= last_bit; --bit) {
    const unsigned tried = reached | 1U << bit;
    if (__syncthreads_count(own >= tried ? 1 : 0) >= k) reached = tried;
  }
  return number_of(reached);
}

// Scores the rows of bits `wanted` of the lanes, bit j of row 256 j + 32 warp + lane, and puts them into the warp's list. By a
// warp.
template <typename U, typename T>
__device__ inline void score_wanted(const Candidates& candidates, unsigned wanted, float threshold, const List& list) {
  const Target& to = candidates.to;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const Metadata metadata = to.metadata[candidates.q];
  const float first_threshold = threshold;
#pragma unroll 1
  for (int j = 0; j < strip_items; ++j) {
    for (unsigned left = __ballot_sync(all_lanes, (wanted >> j & 1) != 0 ? 1 : 0); left != 0; left &= left - 1) {
      const int i = j * search_threads + 32 * warp + __ffs(static_cast<int>(left)) - 1;
      if (threshold > first_threshold && candidates.high(i) < threshold) continue;
      const std::int64_t n = candidates.row(i);
      const double key = pair_key<U, T>(to.metric, to.queries, candidates.q, metadata, to.bank, n);
      if (isnan(key) || (to.exclude != nullptr && to.exclude[candidates.q] == n) || !list.takes(key, n)) continue;
      insert(list, key, n);
      threshold = fmaxf(threshold, rounded_down(below_key<T>(to.metric, list.keys[list.k - 1])));
    }
  }
}

// A block a query's strip. keys, rows: [Q,strips,k]; they begin here with the bank's first row. Dynamic shared memory:
// search_warps lists.
template <typename U, typename T>
__global__ void __launch_bounds__(search_threads, 2)
    select_kernel(const __grid_constant__ Target to, const __grid_constant__ Products products, int k, double* keys,
                  std::int64_t* rows) {
  THFR_SHARED(float, of_warp, [search_warps]);
  THFR_DYNAMIC_SHARED(double, memory);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned strips = static_cast<unsigned>(products.strips);
  const Candidates candidates(to, products, blockIdx.x / strips, static_cast<int>(blockIdx.x % strips));
  double* const own_keys = keys + std::int64_t{blockIdx.x} * k;
  std::int64_t* const own_rows = rows + std::int64_t{blockIdx.x} * k;
  float high[strip_items];
  const float most = candidates.look(high);
  float threshold = -INFINITY;
  if (products.first > 0 && own_rows[k - 1] != no_row) {
    threshold = rounded_down(below_key<T>(to.metric, own_keys[k - 1]));
  }
  if (__syncthreads_count(most > threshold ? 1 : 0) >= k) {  // else the rows before reach more than k of these
    threshold = fmaxf(threshold, rounded_down(below<T>(to.metric, reached_by(most, k, of_warp))));
  }
  unsigned wanted = 0;
#pragma unroll
  for (int j = 0; j < strip_items; ++j) {
    const bool there = j * search_threads + static_cast<int>(threadIdx.x) < candidates.count;
    wanted |= there && !(high[j] < threshold) ? 1U << j : 0U;
  }
  if (isnan(to.metadata[candidates.q].norm)) wanted = 0;
  if (__syncthreads_or(wanted != 0 ? 1 : 0) == 0 && products.first > 0) return;
  const List list = list_at(memory, search_warps, warp, k);
  clear(list);
  score_wanted<U, T>(candidates, wanted, threshold, list);
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
