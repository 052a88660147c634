// Compiled once for each instruction set (cmake/simd.cmake): no standard-library templates here.
#include "cpu/retrieval_simd.h"

#include "cpu/half.h"

namespace thfr {
namespace THFR_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kQueryPanel = 12;
#elif defined(__AVX__)
constexpr int kBytes = 32, kQueryPanel = 6;
#else
constexpr int kBytes = 16, kQueryPanel = 6;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef double Doubles __attribute__((vector_size(kBytes)));
typedef float HalfFloats __attribute__((vector_size(kBytes / 2)));
constexpr int kFloats = kBytes / 4, kDoubles = kBytes / 8;
constexpr int kBankPanel = 2 * kFloats;

// Exact sums run over 32 interleaved lanes whatever the vector width, so that every instruction set adds in one order.
constexpr int kLanes = 32, kSums = kLanes / kDoubles;
constexpr std::int64_t kBlock = 512;  // elements fetched at a time, a multiple of kLanes
static_assert(kBlock % kLanes == 0, "blocks must keep the lanes");

template <typename V, typename T>
inline V read(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
inline void read_wide(const float* p, Doubles& out) { out = __builtin_convertvector(read<HalfFloats>(p), Doubles); }
inline void read_wide(const double* p, Doubles& out) { out = read<Doubles>(p); }

template <typename S, typename T>
inline const T* convert(const Rows& x, std::int64_t i, std::int64_t d, std::int64_t n, T* buffer) {
  const S* from = static_cast<const S*>(x.data) + i * x.row_stride + d * x.stride;
  if (x.stride == 1) {
    for (std::int64_t j = 0; j < n; ++j) buffer[j] = load(from[j]);
  } else {
    for (std::int64_t j = 0; j < n; ++j) buffer[j] = load(from[j * x.stride]);
  }
  return buffer;
}

// Elements [d, d + n) of row i: in place if they lie there as T, else in `buffer`.
inline const float* fetch(const Rows& x, std::int64_t i, std::int64_t d, std::int64_t n, float* buffer) {
  if (x.dtype == DType::f16) return convert<f16>(x, i, d, n, buffer);
  if (x.dtype == DType::bf16) return convert<bf16>(x, i, d, n, buffer);
  if (x.stride == 1) return static_cast<const float*>(x.data) + i * x.row_stride + d;
  return convert<float>(x, i, d, n, buffer);
}
inline const double* fetch(const Rows& x, std::int64_t i, std::int64_t d, std::int64_t n, double* buffer) {
  if (x.stride == 1) return static_cast<const double*>(x.data) + i * x.row_stride + d;
  return convert<double>(x, i, d, n, buffer);
}

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

struct LaneSums {
  Doubles part[kSums] = {};

  double total() const {
    double lanes[kLanes];
    __builtin_memcpy(lanes, part, sizeof(lanes));
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
    }
    return lanes[0];
  }
};

struct Product {
  template <typename T>
  static inline void add(const T* x, double xs, const T* y, double ys, LaneSums& sums) {
    for (int j = 0; j < kSums; ++j) {
      Doubles a, b;
      read_wide(x + j * kDoubles, a);
      read_wide(y + j * kDoubles, b);
      if (sizeof(T) == 8) a *= xs, b *= ys;
      sums.part[j] += a * b;
    }
  }
};

struct SquaredDifference {
  template <typename T>
  static inline void add(const T* x, double xs, const T* y, double ys, LaneSums& sums) {
    for (int j = 0; j < kSums; ++j) {
      Doubles a, b;
      read_wide(x + j * kDoubles, a);
      read_wide(y + j * kDoubles, b);
      if (sizeof(T) == 8) a *= xs, b *= ys;
      a -= b;
      sums.part[j] += a * a;
    }
  }
};

// Adds n elements; a ragged end is padded with zeros, which add nothing.
template <typename Term, typename T>
inline void add_block(const T* x, double xs, const T* y, double ys, std::int64_t n, LaneSums& sums) {
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) Term::add(x + j, xs, y + j, ys, sums);
  if (j == n) return;
  T a[kLanes] = {}, b[kLanes] = {};
  for (std::int64_t t = 0; t < n - j; ++t) a[t] = x[j + t], b[t] = y[j + t];
  Term::add(a, xs, b, ys, sums);
}

template <typename Term, typename T>
double exact_sum(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys) {
  LaneSums sums;
  T a[kBlock], b[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    add_block<Term>(fetch(x, i, d, n, a), xs, fetch(y, j, d, n, b), ys, n, sums);
  }
  return sums.total();
}

double dot(const Rows& x, std::int64_t i, double xs, const Rows& y, std::int64_t j, double ys) {
  if (x.dtype == DType::f64) return exact_sum<Product, double>(x, i, xs, y, j, ys);
  return exact_sum<Product, float>(x, i, xs, y, j, ys);
}

double distance2(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, double s) {
  if (x.dtype == DType::f64) return exact_sum<SquaredDifference, double>(x, i, s, y, j, s);
  return exact_sum<SquaredDifference, float>(x, i, s, y, j, s);
}

template <typename T>
double largest_in(const Rows& x, std::int64_t i) {
  double most = 0;
  T buffer[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    T high = 0;
    int ordered = 1;
    for (std::int64_t j = 0; j < n; ++j) {
      const T size = from[j] < 0 ? -from[j] : from[j];
      high = size > high ? size : high;
      ordered &= from[j] == from[j];
    }
    if (!ordered) return __builtin_nan("");
    most = high > most ? high : most;
  }
  return most;
}

double largest(const Rows& x, std::int64_t i) {
  return x.dtype == DType::f64 ? largest_in<double>(x, i) : largest_in<float>(x, i);
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

template <typename T>
void moments_of(const Rows& x, std::int64_t i, double scale, const double* centre, double* along, double* spread) {
  LaneSums products, squares;
  T buffer[kBlock];
  double scaled[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    for (std::int64_t j = 0; j < n; ++j) scaled[j] = scale * static_cast<double>(from[j]);
    add_block<Product>(scaled, 1.0, centre + d, 1.0, n, products);
    add_block<SquaredDifference>(scaled, 1.0, centre + d, 1.0, n, squares);
  }
  *along = products.total();
  *spread = squares.total();
}

void moments(const Rows& x, std::int64_t i, double scale, const double* centre, double* along, double* spread) {
  if (x.dtype == DType::f64) return moments_of<double>(x, i, scale, centre, along, spread);
  moments_of<float>(x, i, scale, centre, along, spread);
}

template <typename T>
void pack_panels(const Packing& job, std::int64_t panel_begin, std::int64_t panel_end) {
  T buffer[kBlock];
  float ready[kBlock];
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    float* panel = job.out + p * job.panel * job.depth;
    for (int r = 0; r < job.panel; ++r) {
      const std::int64_t place = p * job.panel + r, row = job.first + place;
      if (place >= job.count) {
        for (std::int64_t d = 0; d < job.depth; ++d) panel[d * job.panel + r] = 0.0f;
        continue;
      }
      const double scale = job.scale[row], shift = job.shift[row];
      for (std::int64_t d = 0; d < job.depth; d += kBlock) {
        const std::int64_t n = smaller(kBlock, job.depth - d);
        const T* from = fetch(job.rows, row, job.depth_begin + d, n, buffer);
        const double* centre = job.centre + job.depth_begin + d;
        for (std::int64_t j = 0; j < n; ++j) {
          ready[j] = static_cast<float>(static_cast<double>(from[j]) * scale - centre[j] * shift);
        }
        for (std::int64_t j = 0; j < n; ++j) panel[(d + j) * job.panel + r] = ready[j];
      }
    }
  }
}

void pack(const Packing& job, std::int64_t panel_begin, std::int64_t panel_end) {
  if (job.rows.dtype == DType::f64) return pack_panels<double>(job, panel_begin, panel_end);
  pack_panels<float>(job, panel_begin, panel_end);
}

void tile(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row) {
  Floats sums[kQueryPanel][2] = {};
  for (std::int64_t d = 0; d < depth; ++d) {
    const Floats low = read<Floats>(b), high = read<Floats>(b + kFloats);
#pragma GCC unroll 16
    for (int m = 0; m < kQueryPanel; ++m) {
      sums[m][0] += low * a[m];
      sums[m][1] += high * a[m];
    }
    a += kQueryPanel;
    b += kBankPanel;
  }
#pragma GCC unroll 16
  for (int m = 0; m < kQueryPanel; ++m) {
    Floats low = read<Floats>(c + m * row), high = read<Floats>(c + m * row + kFloats);
    low += sums[m][0];
    high += sums[m][1];
    __builtin_memcpy(c + m * row, &low, sizeof(low));
    __builtin_memcpy(c + m * row + kFloats, &high, sizeof(high));
  }
}

std::int64_t select(const float* c, const double* spread, const double* offset, std::int64_t n, double weight, double slack,
                    double base, double threshold, std::int32_t* places, double* bounds) {
  constexpr std::int64_t chunk = 64;
  std::int64_t found = 0;
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t size = smaller(chunk, n - begin);
    double bound[chunk];
    int any = 0;
    for (std::int64_t j = 0; j < size; ++j) {
      bound[j] = weight * spread[begin + j] * (static_cast<double>(c[begin + j]) + slack) + offset[begin + j] + base;
      any |= !(bound[j] < threshold);  // NaN (an overflow) counts as a candidate
    }
    if (!any) continue;
    for (std::int64_t j = 0; j < size; ++j) {
      if (bound[j] < threshold) continue;
      places[found] = static_cast<std::int32_t>(begin + j);
      bounds[found++] = bound[j];
    }
  }
  return found;
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
    const Floats together = (part[0] + part[1]) + (part[2] + part[3]);
    float sum = 0;
    for (int t = 0; t < kFloats; ++t) sum += together[t];
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
  static constexpr RetrievalKernels table{kQueryPanel, kBankPanel, dot,  distance2, largest,       accumulate,
                                          moments,     pack,       tile, select,    coreset_update};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
