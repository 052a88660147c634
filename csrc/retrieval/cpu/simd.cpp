// Compiled once for each instruction set (cmake/simd.cmake): no standard-library templates here.
#include "retrieval/cpu/few.h"
#include "retrieval/cpu/lanes.h"
#include "retrieval/cpu/tile.h"

namespace thfr {
namespace THFR_ISA {
namespace {

// Has a block of row i come in, a few behind element d: the processor's own look-ahead ends with the page.
inline void ask_ahead(const Rows& x, std::int64_t i, std::int64_t d) {
  constexpr std::int64_t ahead = 3 * kBlock;
  if (x.stride != 1 || d + ahead + kBlock > x.width) return;
  const std::int64_t bytes = x.dtype == DType::f64 ? 8 : x.dtype == DType::f32 ? 4 : 2;
  const char* from = static_cast<const char*>(x.data) + (i * x.row_stride + d + ahead) * bytes;
  for (std::int64_t b = 0; b < kBlock * bytes; b += 64) __builtin_prefetch(from + b);
}

template <typename Term, typename T>
double exact_sum(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys) {
  LaneSums sums;
  T a[kBlock], b[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    ask_ahead(x, i, d), ask_ahead(y, j, d);
    add_block<Term>(fetch(x, i, d, n, a), xs, fetch(y, j, d, n, b), ys, n, sums);
  }
  return sums.total();
}

double dot(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys) {
  if (x.dtype == DType::f64) return exact_sum<Product, double>(x, i, xs, y, j, ys);
  return exact_sum<Product, float>(x, i, xs, y, j, ys);
}

template <typename T>
void dot_and_square_of(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double out[2]) {
  LaneSums products, squares;
  T a[kBlock], b[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T *from = fetch(x, i, d, n, a), *to = fetch(y, j, d, n, b);
    add_block<Product>(from, 1.0, to, 1.0, n, products);
    add_block<Product>(to, 1.0, to, 1.0, n, squares);
  }
  out[0] = products.total();
  out[1] = squares.total();
}

void dot_and_square(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double out[2]) {
  if (x.dtype == DType::f64) return dot_and_square_of<double>(x, i, y, j, out);
  dot_and_square_of<float>(x, i, y, j, out);
}

double distance2(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double s) {
  if (x.dtype == DType::f64) return exact_sum<SquaredDifference, double>(x, i, s, y, j, s);
  return exact_sum<SquaredDifference, float>(x, i, s, y, j, s);
}

// Magnitudes are compared as integers: that order is theirs, with infinity and then NaN at the end.
template <typename T, typename Bits>
double largest_in(const Rows& x, std::int64_t i) {
  constexpr Bits magnitude = static_cast<Bits>(~Bits{0}) >> 1;
  Bits high = 0;
  T buffer[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    for (std::int64_t j = 0; j < n; ++j) {
      Bits bits;
      __builtin_memcpy(&bits, from + j, sizeof(bits));
      bits &= magnitude;
      high = bits > high ? bits : high;
    }
  }
  T most;
  __builtin_memcpy(&most, &high, sizeof(most));
  return static_cast<double>(most);
}

double largest(const Rows& x, std::int64_t i) {
  return x.dtype == DType::f64 ? largest_in<double, std::uint64_t>(x, i) : largest_in<float, std::uint32_t>(x, i);
}

template <typename T>
void accumulate_as(const Rows& x, std::int64_t i, double scale, double* sum) {
  T buffer[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    for (std::int64_t j = 0; j < n; ++j) sum[d + j] += scale * static_cast<double>(from[j]);
  }
}

void accumulate(const Rows& x, std::int64_t i, double scale, double* sum) {
  if (x.dtype == DType::f64) return accumulate_as<double>(x, i, scale, sum);
  accumulate_as<float>(x, i, scale, sum);
}

struct Moments {
  LaneSums squares, products, differences;

  template <typename T>
  inline void add(const T* x, const double* centre) {
    for (int j = 0; j < kSums; ++j) {
      Doubles a, c;
      read_wide(x + j * kDoubles, a);
      read_wide(centre + j * kDoubles, c);
      squares.part[j] += a * a;
      products.part[j] += a * c;
      a -= c;
      differences.part[j] += a * a;
    }
  }
};

template <typename T>
void moments_of(const Rows& x, std::int64_t i, const double* centre, double out[3]) {
  Moments sums;
  T buffer[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    std::int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) sums.add(from + j, centre + d + j);
    if (j == n) continue;
    T a[kLanes] = {};
    double c[kLanes] = {};
    for (std::int64_t t = 0; t < n - j; ++t) a[t] = from[j + t], c[t] = centre[d + j + t];
    sums.add(a, c);
  }
  out[0] = sums.squares.total();
  out[1] = sums.products.total();
  out[2] = sums.differences.total();
}

void moments(const Rows& x, std::int64_t i, const double* centre, double out[3]) {
  if (x.dtype == DType::f64) return moments_of<double>(x, i, centre, out);
  moments_of<float>(x, i, centre, out);
}

// Whether the squared distance is proved to be at least `limit`: fp32 partial sums only grow, so reading may stop early.
inline bool proved_far(const Rows& x, std::int64_t i, std::int64_t centre, double limit) {
  constexpr int sums = 4;
  constexpr int lanes = sums * kFloats;
  // Sums of positive terms: a relative error of one rounding for each addition in a lane, and a few for the terms.
  const double shrink = 1.0 - static_cast<double>(x.width / lanes + 64) * 0x1p-23;
  Floats part[sums] = {};
  float a[kBlock], b[kBlock];
  for (std::int64_t d = 0; d + lanes <= x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const float* from = fetch(x, i, d, n, a);
    const float* to = fetch(x, centre, d, n, b);
    for (std::int64_t j = 0; j + lanes <= n; j += lanes) {
      for (int t = 0; t < sums; ++t) {
        const Floats gap = read<Floats>(from + j + t * kFloats) - read<Floats>(to + j + t * kFloats);
        part[t] += gap * gap;
      }
    }
    const float sum = total((part[0] + part[1]) + (part[2] + part[3]));
    // Outside these bounds an overflow or a vanishing product would break the proof.
    if (sum > 1e-25f && sum < 1e38f && static_cast<double>(sum) * shrink >= limit) return true;
  }
  return false;
}

std::int64_t coreset_update(const Rows& x, std::int64_t centre, double s, double* distances, std::int64_t begin,
                            std::int64_t end) {
  std::int64_t farthest = -1;
  double most = -1;
  for (std::int64_t n = begin; n < end; ++n) {
    if (distances[n] > 0 && (x.dtype == DType::f64 || !proved_far(x, n, centre, distances[n]))) {
      const double d = distance2(x, n, x, centre, s);
      if (d < distances[n]) distances[n] = d;
    }
    if (distances[n] > most) most = distances[n], farthest = n;
  }
  return farthest;
}

}  // namespace

const RetrievalKernels& retrieval_kernels() {
  static constexpr RetrievalKernels table{kQueryPanel, kBankPanel, dot,          dot_and_square, distance2,     largest,
                                          accumulate,  moments,    pack,         pack_centred,   lay,           lay_centred,
                                          tile,        row_tile,   few_products, select,         coreset_update};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
