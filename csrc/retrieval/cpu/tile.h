// The fp32 side of the retrieval kernels: packing, the register-blocked product and the choice of candidates.
#pragma once

#include "retrieval/cpu/lanes.h"

namespace thfr {
namespace THFR_ISA {
namespace {

// A tile of kQueryPanel x kBankPanel products fills the registers.
#if defined(__AVX512F__)
constexpr int kQueryPanel = 12;
#else
constexpr int kQueryPanel = 6;
#endif
constexpr int kBankPanel = 2 * kFloats;

typedef float Quad __attribute__((vector_size(16)));

// Elements [0, n) of four rows times factor, side by side in a panel `width` wide, of whose rows there are `wide` (1 to 4) left:
// panel[j * width + r] = rows[r][j] factor. n is a multiple of four. squares[r] += their squares.
template <int wide>
inline void interleave(const float* const (&rows)[4], float factor, std::int64_t n, float* panel, std::int64_t width,
                       Quad (&squares)[4]) {
  Quad sum[4] = {squares[0], squares[1], squares[2], squares[3]};
  for (std::int64_t j = 0; j < n; j += 4) {
    const Quad r0 = read<Quad>(rows[0] + j) * factor, r1 = read<Quad>(rows[1] + j) * factor,
               r2 = read<Quad>(rows[2] + j) * factor, r3 = read<Quad>(rows[3] + j) * factor;
    sum[0] += r0 * r0, sum[1] += r1 * r1, sum[2] += r2 * r2, sum[3] += r3 * r3;
    const Quad low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
               low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    const Quad out[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                         __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                         __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int t = 0; t < 4; ++t) __builtin_memcpy(panel + (j + t) * width, &out[t], wide * sizeof(float));
  }
  for (int t = 0; t < 4; ++t) squares[t] = sum[t];
}

inline void interleave(int wide, const float* const (&rows)[4], float factor, std::int64_t n, float* panel, std::int64_t width,
                       Quad (&squares)[4]) {
  switch (wide) {
    case 1: return interleave<1>(rows, factor, n, panel, width, squares);
    case 2: return interleave<2>(rows, factor, n, panel, width, squares);
    case 3: return interleave<3>(rows, factor, n, panel, width, squares);
    default: return interleave<4>(rows, factor, n, panel, width, squares);
  }
}

// Row t of the job but for the factor, where the rows cannot be read in place.
struct Plain {
  template <typename T>
  static inline void prepare(const Packing& job, int t, float* out) {
    T buffer[kDepthBlock];
    const T* from = fetch(job.rows, job.first + t, job.depth_begin, job.depth, buffer);
    const T factor = sizeof(T) == 8 ? static_cast<T>(job.factor) : T{1};
    for (std::int64_t j = 0; j < job.depth; ++j) out[j] = static_cast<float>(from[j] * factor);
  }
};
struct Centred {
  template <typename T>
  static inline void prepare(const Packing& job, int t, float* out) {
    T buffer[kDepthBlock];
    const T* from = fetch(job.rows, job.first + t, job.depth_begin, job.depth, buffer);
    const double *centre = job.centre + job.depth_begin, scale = job.scale[t], shift = job.shift[t];
    for (std::int64_t j = 0; j < job.depth; ++j) {
      out[j] = static_cast<float>(static_cast<double>(from[j]) * scale - centre[j] * shift);
    }
  }
};

template <typename Way, typename T>
void pack_rows(const Packing& job, bool in_place, float factor) {
  static constexpr float zeros[kDepthBlock] = {};
  float ready[4][kDepthBlock];
  const float* rows[4] = {zeros, zeros, zeros, zeros};
  for (int t = 0; t < job.count; ++t) {
    if (in_place) {
      rows[t] = static_cast<const float*>(job.rows.data) + (job.first + t) * job.rows.row_stride + job.depth_begin;
    } else {
      Way::template prepare<T>(job, t, ready[t]);
      rows[t] = ready[t];
    }
  }
  const std::int64_t n = job.depth, whole = n / 4 * 4;
  Quad squares[4] = {};
  interleave(job.wide, rows, factor, whole, job.out, job.panel, squares);
  if (whole < n) {  // a ragged end, padded with zeros
    float end[4][4] = {}, out[4][4];
    for (int t = 0; t < job.count; ++t) {
      for (std::int64_t j = whole; j < n; ++j) end[t][j - whole] = rows[t][j];
    }
    const float* const ends[4] = {end[0], end[1], end[2], end[3]};
    interleave(4, ends, factor, 4, out[0], 4, squares);
    for (std::int64_t j = whole; j < n; ++j) {
      for (int t = 0; t < job.wide; ++t) job.out[j * job.panel + t] = out[j - whole][t];
    }
  }
  for (int t = 0; t < job.count; ++t) job.squares[t] += static_cast<double>(total(squares[t]));
}

void pack(const Packing& job) {
  if (job.rows.dtype == DType::f64) return pack_rows<Plain, double>(job, false, 1.0f);
  pack_rows<Plain, float>(job, job.rows.dtype == DType::f32 && job.rows.stride == 1, static_cast<float>(job.factor));
}

void pack_centred(const Packing& job) {
  if (job.rows.dtype == DType::f64) return pack_rows<Centred, double>(job, false, 1.0f);
  pack_rows<Centred, float>(job, false, 1.0f);
}

template <typename Way, typename T>
void lay_rows(const Packing& job, bool in_place, float factor) {
  for (int t = 0; t < job.wide; ++t) {
    float* out = job.out + t * kDepthBlock;
    if (t >= job.count) {
      for (std::int64_t d = 0; d < job.depth; ++d) out[d] = 0;
      continue;
    }
    const float* from = out;
    if (in_place) {
      from = static_cast<const float*>(job.rows.data) + (job.first + t) * job.rows.row_stride + job.depth_begin;
    } else {
      Way::template prepare<T>(job, t, out);
    }
    Floats squares = {};
    std::int64_t d = 0;
    for (; d + kFloats <= job.depth; d += kFloats) {
      const Floats v = read<Floats>(from + d) * factor;
      __builtin_memcpy(out + d, &v, sizeof(v));
      squares += v * v;
    }
    float rest = 0;
    for (; d < job.depth; ++d) out[d] = from[d] * factor, rest += out[d] * out[d];
    job.squares[t] += static_cast<double>(total(squares)) + static_cast<double>(rest);
  }
}

void lay(const Packing& job) {
  if (job.rows.dtype == DType::f64) return lay_rows<Plain, double>(job, false, 1.0f);
  lay_rows<Plain, float>(job, job.rows.dtype == DType::f32 && job.rows.stride == 1, static_cast<float>(job.factor));
}

void lay_centred(const Packing& job) {
  if (job.rows.dtype == DType::f64) return lay_rows<Centred, double>(job, false, 1.0f);
  lay_rows<Centred, float>(job, false, 1.0f);
}

// Number m of depth d of the first factor is a[m * across + d * along].
template <std::int64_t across, std::int64_t along, bool ask>
inline void multiply(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh,
                     const char* ahead = nullptr, std::int64_t stride = 0) {
  Floats sums[kQueryPanel][2] = {};
#pragma GCC unroll 4
  for (std::int64_t d = 0; d < depth; ++d) {
    if (ask && d % 2 == 0) __builtin_prefetch(ahead + (d >> 5) * stride + ((d >> 1) & 15) * 64, 0, 2);
    const Floats low = read<Floats>(b), high = read<Floats>(b + kFloats);
#pragma GCC unroll 16
    for (int m = 0; m < kQueryPanel; ++m) {
      sums[m][0] += low * a[m * across];
      sums[m][1] += high * a[m * across];
    }
    a += along;
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

void tile(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh) {
  multiply<1, kQueryPanel, false>(a, b, depth, c, row, fresh);
}

void row_tile(const float* a, const float* b, std::int64_t depth, float* c, std::int64_t row, bool fresh, const char* ahead,
              std::int64_t stride) {
  multiply<kDepthBlock, 1, true>(a, b, depth, c, row, fresh, ahead, stride);
}

std::int64_t select(const Bounds& job, double threshold, Neighbour* found) {
  constexpr std::int64_t chunk = 64;
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < job.count; begin += chunk) {
    const std::int64_t size = smaller(chunk, job.count - begin);
    const float* c = job.c + begin;
    const double *gain = job.gain + begin, *spread = job.spread + begin, *offset = job.offset + begin;
    double bound[chunk];
    int any = 0;
    for (std::int64_t j = 0; j < size; ++j) {
      bound[j] = job.weight * gain[j] * static_cast<double>(c[j]) + job.reach * spread[j] + offset[j] + job.base;
      any |= !(bound[j] < threshold);  // NaN (an overflow) counts as a candidate
    }
    if (!any) continue;
    for (std::int64_t j = 0; j < size; ++j) {
      if (bound[j] < threshold) continue;
      found[count++] = {bound[j] == bound[j] ? bound[j] : __builtin_inf(), begin + j};
    }
  }
  return count;
}

}  // namespace
}  // namespace THFR_ISA
}  // namespace thfr
