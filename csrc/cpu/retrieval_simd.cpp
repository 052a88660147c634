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
constexpr std::int64_t kPackBlock = 256;
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

  // Lane j takes lane j + width, for width 16, 8, 4, 2, 1.
  double total() const {
    Doubles folded[kSums];
    __builtin_memcpy(folded, part, sizeof(part));
    for (int width = kSums / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) folded[j] += folded[j + width];
    }
    double lanes[kDoubles];
    __builtin_memcpy(lanes, folded, sizeof(lanes));
    for (int width = kDoubles / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
    }
    return lanes[0];
  }
};

struct Product {
  static inline void add(const Doubles& a, const Doubles& b, Doubles& sum) { sum += a * b; }
};
struct SquaredDifference {
  static inline void add(const Doubles& a, const Doubles& b, Doubles& sum) {
    const Doubles gap = a - b;
    sum += gap * gap;
  }
};

template <typename Term, typename X, typename Y>
inline void add_lanes(const X* x, double xs, const Y* y, double ys, LaneSums& sums) {
  for (int j = 0; j < kSums; ++j) {
    Doubles a, b;
    read_wide(x + j * kDoubles, a);
    read_wide(y + j * kDoubles, b);
    if (sizeof(X) == 8) a *= xs;
    if (sizeof(Y) == 8) b *= ys;
    Term::add(a, b, sums.part[j]);
  }
}

// Adds n elements; a ragged end is padded with zeros, which add nothing.
template <typename Term, typename X, typename Y>
inline void add_block(const X* x, double xs, const Y* y, double ys, std::int64_t n, LaneSums& sums) {
  LaneSums local = sums;
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) add_lanes<Term>(x + j, xs, y + j, ys, local);
  if (j < n) {
    X a[kLanes] = {};
    Y b[kLanes] = {};
    for (std::int64_t t = 0; t < n - j; ++t) a[t] = x[j + t], b[t] = y[j + t];
    add_lanes<Term>(a, xs, b, ys, local);
  }
  sums = local;
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
void widen_as(const Rows& x, std::int64_t i, double scale, double* out) {
  T buffer[kBlock];
  for (std::int64_t d = 0; d < x.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, x.width - d);
    const T* from = fetch(x, i, d, n, buffer);
    for (std::int64_t j = 0; j < n; ++j) out[d + j] = static_cast<double>(from[j]) * scale;
  }
}

void widen(const Rows& x, std::int64_t i, double scale, double* out) {
  if (x.dtype == DType::f64) return widen_as<double>(x, i, scale, out);
  widen_as<float>(x, i, scale, out);
}

template <typename Term, typename T>
void stream_as(const Rows& y, std::int64_t j, const double* queries, std::int64_t count, double* out) {
  LaneSums squares, sums[kStreamQueries];
  T buffer[kBlock];
  for (std::int64_t d = 0; d < y.width; d += kBlock) {
    const std::int64_t n = smaller(kBlock, y.width - d);
    const T* from = fetch(y, j, d, n, buffer);
    add_block<Product>(from, 1.0, from, 1.0, n, squares);
    for (std::int64_t q = 0; q < count; ++q) add_block<Term>(queries + q * y.width + d, 1.0, from, 1.0, n, sums[q]);
  }
  out[0] = squares.total();
  for (std::int64_t q = 0; q < count; ++q) out[1 + q] = sums[q].total();
}

void stream(const Rows& y, std::int64_t j, const double* queries, std::int64_t count, bool differences, double* out) {
  if (y.dtype == DType::f64) {
    if (differences) return stream_as<SquaredDifference, double>(y, j, queries, count, out);
    return stream_as<Product, double>(y, j, queries, count, out);
  }
  if (differences) return stream_as<SquaredDifference, float>(y, j, queries, count, out);
  stream_as<Product, float>(y, j, queries, count, out);
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

typedef float Quad __attribute__((vector_size(16)));

// Four rows of n elements side by side in a panel `width` wide. n is a multiple of four.
inline void interleave(const float* rows, std::int64_t stride, std::int64_t n, float* panel, std::int64_t width) {
  for (std::int64_t j = 0; j < n; j += 4) {
    const Quad r0 = read<Quad>(rows + j), r1 = read<Quad>(rows + stride + j), r2 = read<Quad>(rows + 2 * stride + j),
               r3 = read<Quad>(rows + 3 * stride + j);
    const Quad low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
               low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    const Quad out[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                         __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                         __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int t = 0; t < 4; ++t) __builtin_memcpy(panel + (j + t) * width, &out[t], sizeof(Quad));
  }
}

inline std::int64_t element_bytes(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }

inline void prefetch(const char* from, std::int64_t bytes) {
  for (std::int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(from + b);
}

// Elements [d, d + n) of row `place` of the job, centred and scaled; zeros where there is no row.
template <typename T>
inline void prepare(const Packing& job, std::int64_t place, std::int64_t d, std::int64_t n, float* out) {
  if (place >= job.count) {
    for (std::int64_t j = 0; j < n; ++j) out[j] = 0.0f;
    return;
  }
  T buffer[kPackBlock];
  const std::int64_t row = job.first + place;
  const T* from = fetch(job.rows, row, job.depth_begin + d, n, buffer);
  if (job.rows.stride == 1 && place + 4 < job.count) {
    // The next quad's part of this row's neighbour: rows lie far apart, and nobody else would have asked for it.
    const std::int64_t bytes = element_bytes(job.rows.dtype);
    const std::int64_t next = (row + 4) * job.rows.row_stride + job.depth_begin + d;
    prefetch(static_cast<const char*>(job.rows.data) + next * bytes, n * bytes);
  }
  const double *centre = job.centre + job.depth_begin + d, scale = job.scale[place], shift = job.shift[place];
  for (std::int64_t j = 0; j < n; ++j) {
    out[j] = static_cast<float>(static_cast<double>(from[j]) * scale - centre[j] * shift);
  }
}

template <typename T>
void pack_panels(const Packing& job, std::int64_t panel_begin, std::int64_t panel_end) {
  float ready[4 * kPackBlock];
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    for (std::int64_t d = 0; d < job.depth; d += kPackBlock) {
      const std::int64_t n = smaller(kPackBlock, job.depth - d);
      float* panel = job.out + (p * job.depth + d) * job.panel;
      for (int r = 0; r < job.panel; r += 4) {
        const int rows = job.panel - r < 4 ? job.panel - r : 4;
        for (int t = 0; t < rows; ++t) prepare<T>(job, p * job.panel + r + t, d, n, ready + t * kPackBlock);
        const std::int64_t whole = rows == 4 ? n / 4 * 4 : 0;
        interleave(ready, kPackBlock, whole, panel + r, job.panel);
        for (std::int64_t j = whole; j < n; ++j) {
          for (int t = 0; t < rows; ++t) panel[j * job.panel + r + t] = ready[t * kPackBlock + j];
        }
      }
    }
  }
}

void pack(const Packing& job, std::int64_t panel_begin, std::int64_t panel_end) {
  if (job.rows.dtype == DType::f64) return pack_panels<double>(job, panel_begin, panel_end);
  pack_panels<float>(job, panel_begin, panel_end);
}

void tile(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh) {
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
    Floats low = sums[m][0], high = sums[m][1];
    if (!fresh) low += read<Floats>(c + m * row), high += read<Floats>(c + m * row + kFloats);
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
  static constexpr RetrievalKernels table{kQueryPanel, kBankPanel, dot,  distance2, widen,  stream,        largest,
                                          accumulate,  moments,    pack, tile,      select, coreset_update};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
