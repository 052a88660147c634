// Vectors, rows and exact sums for the retrieval kernels, in the namespace of the instruction set being compiled. Everything is
// in an unnamed namespace: nothing here may become the copy that the linker keeps for everyone.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "retrieval/cpu/simd.h"

namespace thfr {
namespace THFR_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef double Doubles __attribute__((vector_size(kBytes)));
typedef float HalfFloats __attribute__((vector_size(kBytes / 2)));
constexpr int kFloats = kBytes / 4, kDoubles = kBytes / 8;

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
inline std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

// The sum of a vector of floats, folded in halves.
template <typename V>
inline float total(const V& lanes) {
  constexpr int count = sizeof(V) / sizeof(float);
  float fold[count];
  __builtin_memcpy(fold, &lanes, sizeof(fold));
  for (int width = count / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) fold[j] += fold[j + width];
  }
  return fold[0];
}

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

}  // namespace
}  // namespace THFR_ISA
}  // namespace thfr
