// Cosine distance and its gradient. Compiled once for each instruction set (cmake/simd.cmake): no standard-library
// templates here.
//
// Sums: products are added in the accumulator type over a chunk of channels, chunks in fp64, so that the error does not grow
// with C. A location whose squared norms leave the range in which that is safe is summed again, in fp64 with scaling.
#include "scoring/cpu/simd.h"

#include <cmath>

#include "common/half.h"

namespace thfr {
namespace THFR_ISA {
namespace {

using std::int64_t;

constexpr int64_t max_locations = CosineBlock::max_locations;
constexpr int64_t max_packed = CosineBlock::max_packed;
constexpr int64_t chunk = 64;  // channels summed in the accumulator type
// The same where channels are contiguous and go through the lanes of a vector: as many in each lane.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // their checks keep the loop scalar
constexpr int64_t stretch = chunk;
#elif defined(__AVX512F__)
constexpr int64_t stretch = 16 * chunk;
#elif defined(__AVX2__)
constexpr int64_t stretch = 8 * chunk;
#else
constexpr int64_t stretch = 4 * chunk;
#endif

// Squared norms within these bounds lost nothing on the way, products of two of them do not overflow.
template <typename Acc>
constexpr double smallest = sizeof(Acc) == 4 ? 1e-20 : 1e-140;
template <typename Acc>
constexpr double largest = sizeof(Acc) == 4 ? 1e30 : 1e140;

template <typename Acc>
inline bool safe(double square) {
  return square >= smallest<Acc> && square <= largest<Acc>;
}

// <x,y>, <x,x> and <y,y> of a block's locations.
struct Sums {
  double xy[max_locations], xx[max_locations], yy[max_locations];
};

template <typename T>
inline const T* at(const Strip& strip, int64_t channel, int64_t location) {
  return static_cast<const T*>(strip.data) + channel * strip.channel + location * strip.location;
}

template <typename T>
inline T* mutable_at(const Strip& strip, int64_t channel, int64_t location) {
  return static_cast<T*>(strip.data) + channel * strip.channel + location * strip.location;
}

template <typename Acc>
struct Partial {
  Acc xy[max_locations], xx[max_locations], yy[max_locations];

  void clear(int64_t n) {
    for (int64_t l = 0; l < n; ++l) xy[l] = xx[l] = yy[l] = 0;
  }
  void add_to(Sums& sums, int64_t n) const {
    for (int64_t l = 0; l < n; ++l) sums.xy[l] += xy[l];
    for (int64_t l = 0; l < n; ++l) sums.xx[l] += xx[l];
    for (int64_t l = 0; l < n; ++l) sums.yy[l] += yy[l];
  }
};

// Adds `count` channels, four at a time: the partial sums stay in the first-level cache, the rows stream through.
template <typename T, typename Acc>
void add_rows(const T* x, int64_t x_step, const T* y, int64_t y_step, int64_t count, int64_t n, Partial<Acc>& partial) {
  Acc* __restrict xy = partial.xy;
  Acc* __restrict xx = partial.xx;
  Acc* __restrict yy = partial.yy;
  int64_t c = 0;
  for (; c + 4 <= count; c += 4, x += 4 * x_step, y += 4 * y_step) {
    const T *x1 = x + x_step, *x2 = x1 + x_step, *x3 = x2 + x_step;
    const T *y1 = y + y_step, *y2 = y1 + y_step, *y3 = y2 + y_step;
    for (int64_t l = 0; l < n; ++l) {
      const Acc a0 = load(x[l]), a1 = load(x1[l]), a2 = load(x2[l]), a3 = load(x3[l]);
      const Acc b0 = load(y[l]), b1 = load(y1[l]), b2 = load(y2[l]), b3 = load(y3[l]);
      xy[l] += (a0 * b0 + a1 * b1) + (a2 * b2 + a3 * b3);
      xx[l] += (a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3);
      yy[l] += (b0 * b0 + b1 * b1) + (b2 * b2 + b3 * b3);
    }
  }
  for (; c < count; ++c, x += x_step, y += y_step) {
    for (int64_t l = 0; l < n; ++l) {
      const Acc a = load(x[l]), b = load(y[l]);
      xy[l] += a * b;
      xx[l] += a * a;
      yy[l] += b * b;
    }
  }
}

// A tile [count][n] of a strip, rows max_packed apart.
template <typename T, typename Acc>
void pack(const Strip& strip, int64_t channel, int64_t count, int64_t n, Acc* tile) {
  const T* from = at<T>(strip, channel, 0);
  if (strip.channel == 1) {
    for (int64_t l = 0; l < n; ++l, from += strip.location) {
      for (int64_t c = 0; c < count; ++c) tile[c * max_packed + l] = load(from[c]);
    }
  } else {
    for (int64_t c = 0; c < count; ++c, from += strip.channel) {
      for (int64_t l = 0; l < n; ++l) tile[c * max_packed + l] = load(from[l * strip.location]);
    }
  }
}

template <typename T, typename Acc>
void unpack(const Acc* tile, const Strip& strip, int64_t channel, int64_t count, int64_t n) {
  T* to = mutable_at<T>(strip, channel, 0);
  if (strip.channel == 1) {
    for (int64_t l = 0; l < n; ++l, to += strip.location) {
      for (int64_t c = 0; c < count; ++c) store(to + c, tile[c * max_packed + l]);
    }
  } else {
    for (int64_t c = 0; c < count; ++c, to += strip.channel) {
      for (int64_t l = 0; l < n; ++l) store(to + l * strip.location, tile[c * max_packed + l]);
    }
  }
}

template <typename T, typename Acc>
void sum_rows(const CosineBlock& block, Sums& sums) {
  const int64_t n = block.locations;
  Partial<Acc> partial;
  for (int64_t c = 0; c < block.channels; c += chunk) {
    const int64_t count = block.channels - c < chunk ? block.channels - c : chunk;
    partial.clear(n);
    if (block.route == CosineBlock::Route::rows) {
      add_rows(at<T>(block.x, c, 0), block.x.channel, at<T>(block.y, c, 0), block.y.channel, count, n, partial);
    } else {
      Acc x[chunk * max_packed], y[chunk * max_packed];
      pack<T>(block.x, c, count, n, x);
      pack<T>(block.y, c, count, n, y);
      add_rows<Acc>(x, max_packed, y, max_packed, count, n, partial);
    }
    partial.add_to(sums, n);
  }
}

template <typename T, typename Acc>
void sum_channels(const CosineBlock& block, Sums& sums) {
  for (int64_t l = 0; l < block.locations; ++l) {
    const T *x = at<T>(block.x, 0, l), *y = at<T>(block.y, 0, l);
    for (int64_t begin = 0; begin < block.channels; begin += stretch) {
      const int64_t end = block.channels - begin < stretch ? block.channels : begin + stretch;
      Acc xy = 0, xx = 0, yy = 0;
#pragma omp simd reduction(+ : xy, xx, yy)
      for (int64_t c = begin; c < end; ++c) {
        const Acc a = load(x[c]), b = load(y[c]);
        xy += a * b;
        xx += a * a;
        yy += b * b;
      }
      sums.xy[l] += xy;
      sums.xx[l] += xx;
      sums.yy[l] += yy;
    }
  }
}

template <typename T, typename Acc>
void sum_block(const CosineBlock& block, Sums& sums) {
  for (int64_t l = 0; l < block.locations; ++l) sums.xy[l] = sums.xx[l] = sums.yy[l] = 0;
  if (block.route == CosineBlock::Route::channels) return sum_channels<T, Acc>(block, sums);
  sum_rows<T, Acc>(block, sums);
}

// One location, whatever its magnitudes: norms and cosine in fp64, of vectors scaled by powers of two.
struct Exact {
  double x_norm, y_norm, cosine;
  bool zero;     // a vector is zero: the cosine is 0
  bool clamped;  // the product of the norms is below eps
};

// A power of two that brings `magnitude` near 1, or 1 for zero, infinity and NaN.
inline double power_scale(double magnitude) {
  if (!(magnitude > 0 && magnitude < HUGE_VAL)) return 1;
  int exponent = std::ilogb(magnitude);
  exponent = exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent;
  return std::ldexp(1.0, -exponent);
}

template <typename T>
double largest_magnitude(const Strip& strip, int64_t channels, int64_t location) {
  double most = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double value = std::fabs(static_cast<double>(load(*at<T>(strip, c, location))));
    most = value > most || value != value ? value : most;
  }
  return most;
}

template <typename T>
Exact exact(const CosineBlock& block, int64_t location) {
  const double x_most = largest_magnitude<T>(block.x, block.channels, location);
  const double y_most = largest_magnitude<T>(block.y, block.channels, location);
  const double x_scale = power_scale(x_most), y_scale = power_scale(y_most);
  double xy = 0, xx = 0, yy = 0;
  for (int64_t c = 0; c < block.channels; ++c) {
    const double a = x_scale * static_cast<double>(load(*at<T>(block.x, c, location)));
    const double b = y_scale * static_cast<double>(load(*at<T>(block.y, c, location)));
    xy += a * b;
    xx += a * a;
    yy += b * b;
  }
  const double norm = std::sqrt(xx * yy), eps = block.eps * x_scale * y_scale;
  Exact result;
  result.x_norm = std::sqrt(xx) / x_scale;
  result.y_norm = std::sqrt(yy) / y_scale;
  result.zero = norm == 0;
  result.clamped = norm < eps;
  result.cosine = result.zero ? 0 : xy / (result.clamped ? eps : norm);
  return result;
}

// Rounding takes the cosine past 1 by an ulp or so: the distance stays within [0, 2]. NaN stays NaN.
inline double distance_of(double cosine) {
  const double distance = 1 - cosine;
  return distance < 0 ? 0 : distance > 2 ? 2 : distance;
}

template <typename T>
void forward(const CosineBlock& block) {
  using Acc = typename Accumulator<T>::type;
  Sums sums;
  sum_block<T, Acc>(block, sums);
  Acc* __restrict distance = static_cast<Acc*>(block.distance);
  const double eps = block.eps;
  int unsafe = 0;
  for (int64_t l = 0; l < block.locations; ++l) {
    const double xx = sums.xx[l], yy = sums.yy[l], norm = std::sqrt(xx * yy);
    unsafe |= static_cast<int>(!safe<Acc>(xx)) | static_cast<int>(!safe<Acc>(yy));
    distance[l] = static_cast<Acc>(distance_of(sums.xy[l] / (norm > eps ? norm : eps)));
  }
  if (unsafe == 0) return;
  for (int64_t l = 0; l < block.locations; ++l) {
    if (safe<Acc>(sums.xx[l]) && safe<Acc>(sums.yy[l])) continue;
    distance[l] = static_cast<Acc>(distance_of(exact<T>(block, l).cosine));
  }
}

// grad_x = across * y + x_along * x and grad_y = across * x + y_along * y.
template <typename Acc>
struct Factors {
  Acc across[max_locations], x_along[max_locations], y_along[max_locations];
  bool exact[max_locations];  // these factors are not to be used: the location's gradient is made by exact_gradient
  bool any_exact;
};

template <typename T, typename Acc>
void find_factors(const CosineBlock& block, const Sums& sums, Factors<Acc>& factors) {
  factors.any_exact = false;
  for (int64_t l = 0; l < block.locations; ++l) {
    const double grad = static_cast<double>(static_cast<const Acc*>(block.distance)[l]);
    const double xx = sums.xx[l], yy = sums.yy[l], xy = sums.xy[l], norm = std::sqrt(xx * yy);
    const bool clamped = norm < block.eps;
    const double across = -grad / (clamped ? block.eps : norm);
    const double x_along = clamped ? 0 : -across * xy / xx, y_along = clamped ? 0 : -across * xy / yy;
    factors.across[l] = static_cast<Acc>(across);
    factors.x_along[l] = static_cast<Acc>(x_along);
    factors.y_along[l] = static_cast<Acc>(y_along);
    // The factors, too, must keep within the accumulator type. A gradient of 0 makes them 0.
    const bool within = grad == 0 || safe<Acc>(std::fabs(across));
    factors.exact[l] = !(safe<Acc>(xx) && safe<Acc>(yy) && within);
    factors.any_exact |= factors.exact[l];
  }
}

template <typename T>
void exact_gradient(const CosineBlock& block, int64_t l) {
  using Acc = typename Accumulator<T>::type;
  const double grad = static_cast<double>(static_cast<const Acc*>(block.distance)[l]);
  const Exact found = exact<T>(block, l);
  // In two steps, factor within and `outer` without, so that no intermediate leaves the range of fp64.
  const auto write = [&](const Strip& to, const Strip& own, const Strip& other, double own_norm, double other_norm) {
    const double outer = found.zero ? 0 : found.clamped ? grad : grad / own_norm;
    const double across = found.zero ? 0 : -1 / (found.clamped ? block.eps : other_norm);
    const double along = found.zero || found.clamped ? 0 : found.cosine / own_norm;
    for (int64_t c = 0; c < block.channels; ++c) {
      const double a = static_cast<double>(load(*at<T>(own, c, l))), b = static_cast<double>(load(*at<T>(other, c, l)));
      store(mutable_at<T>(to, c, l), outer * (across * b + along * a));
    }
  };
  if (block.grad_x.data != nullptr) write(block.grad_x, block.x, block.y, found.x_norm, found.y_norm);
  if (block.grad_y.data != nullptr) write(block.grad_y, block.y, block.x, found.y_norm, found.x_norm);
}

template <typename T, typename Out, typename Acc>
void combine_row(const T* __restrict other, const Acc* __restrict across, const T* __restrict own, const Acc* __restrict along,
                 int64_t n, Out* __restrict to) {
  for (int64_t l = 0; l < n; ++l) store(to + l, across[l] * load(other[l]) + along[l] * load(own[l]));
}

template <typename T, typename Acc>
void gradient_rows(const CosineBlock& block, const Factors<Acc>& factors) {
  const int64_t n = block.locations;
  for (int64_t c = 0; c < block.channels; ++c) {
    const T *x = at<T>(block.x, c, 0), *y = at<T>(block.y, c, 0);
    if (block.grad_x.data != nullptr) combine_row(y, factors.across, x, factors.x_along, n, mutable_at<T>(block.grad_x, c, 0));
    if (block.grad_y.data != nullptr) combine_row(x, factors.across, y, factors.y_along, n, mutable_at<T>(block.grad_y, c, 0));
  }
}

template <typename T, typename Acc>
void combine_channels(const T* __restrict other, Acc across, const T* __restrict own, Acc along, int64_t n, T* __restrict to) {
  for (int64_t c = 0; c < n; ++c) store(to + c, across * load(other[c]) + along * load(own[c]));
}

template <typename T, typename Acc>
void gradient_channels(const CosineBlock& block, const Factors<Acc>& factors) {
  for (int64_t l = 0; l < block.locations; ++l) {
    const T *x = at<T>(block.x, 0, l), *y = at<T>(block.y, 0, l);
    const Acc across = factors.across[l];
    if (block.grad_x.data != nullptr) {
      combine_channels(y, across, x, factors.x_along[l], block.channels, mutable_at<T>(block.grad_x, 0, l));
    }
    if (block.grad_y.data != nullptr) {
      combine_channels(x, across, y, factors.y_along[l], block.channels, mutable_at<T>(block.grad_y, 0, l));
    }
  }
}

template <typename T, typename Acc>
void gradient_packed(const CosineBlock& block, const Factors<Acc>& factors) {
  const int64_t n = block.locations;
  Acc x[chunk * max_packed], y[chunk * max_packed], out[chunk * max_packed];
  for (int64_t c = 0; c < block.channels; c += chunk) {
    const int64_t count = block.channels - c < chunk ? block.channels - c : chunk;
    pack<T>(block.x, c, count, n, x);
    pack<T>(block.y, c, count, n, y);
    const auto write = [&](const Strip& to, const Acc* own, const Acc* other, const Acc* along) {
      if (to.data == nullptr) return;
      for (int64_t i = 0; i < count * max_packed; i += max_packed) {
        combine_row(other + i, factors.across, own + i, along, n, out + i);
      }
      unpack<T>(out, to, c, count, n);
    };
    write(block.grad_x, x, y, factors.x_along);
    write(block.grad_y, y, x, factors.y_along);
  }
}

template <typename T, typename Acc>
void gradient(const CosineBlock& block, const Factors<Acc>& factors) {
  switch (block.route) {
    case CosineBlock::Route::rows: return gradient_rows<T>(block, factors);
    case CosineBlock::Route::channels: return gradient_channels<T>(block, factors);
    default: return gradient_packed<T>(block, factors);
  }
}

template <typename T>
void backward(const CosineBlock& block) {
  using Acc = typename Accumulator<T>::type;
  Sums sums;
  Factors<Acc> factors;
  sum_block<T, Acc>(block, sums);
  find_factors<T>(block, sums, factors);
  gradient<T>(block, factors);
  if (!factors.any_exact) return;
  for (int64_t l = 0; l < block.locations; ++l) {
    if (factors.exact[l]) exact_gradient<T>(block, l);
  }
}

void forward_any(DType dtype, const CosineBlock& block) {
  switch (dtype) {
    case DType::f64: return forward<double>(block);
    case DType::f16: return forward<f16>(block);
    case DType::bf16: return forward<bf16>(block);
    default: return forward<float>(block);
  }
}

void backward_any(DType dtype, const CosineBlock& block) {
  switch (dtype) {
    case DType::f64: return backward<double>(block);
    case DType::f16: return backward<f16>(block);
    case DType::bf16: return backward<bf16>(block);
    default: return backward<float>(block);
  }
}

}  // namespace

const CosineKernels& cosine_kernels() {
  static constexpr CosineKernels table{forward_any, backward_any};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
