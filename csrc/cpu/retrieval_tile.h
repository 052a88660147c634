// The fp32 side of the retrieval kernels: packing, the register-blocked product and the choice of candidates.
#pragma once

#include "cpu/retrieval_lanes.h"

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
constexpr std::int64_t kPackBlock = 256;  // elements of a row packed at a time

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

}  // namespace
}  // namespace THFR_ISA
}  // namespace thfr
