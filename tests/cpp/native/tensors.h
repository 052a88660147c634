// Tensors for the tests: storage of exactly the extent of a view, so that AddressSanitizer sees one element too far; numbers
// of many kinds; and conversions by the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "thfr/tensor_view.h"

namespace thfr_test {

using thfr::DType;
using thfr::TensorView;
using Sizes = std::vector<std::int64_t>;

inline std::int64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32: return 4;
    case DType::boolean: return 1;
    default: return 2;
  }
}

// The value of a float with so many bits of exponent and mantissa.
inline double decode(unsigned bits, int exponent_bits, int mantissa_bits) {
  const unsigned mantissa = bits & ((1u << mantissa_bits) - 1), exponent = bits >> mantissa_bits & ((1u << exponent_bits) - 1);
  const double sign = bits >> (exponent_bits + mantissa_bits) != 0 ? -1 : 1;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1u << exponent_bits) - 1) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1u << mantissa_bits), static_cast<int>(exponent) - bias - mantissa_bits);
}

// The nearest such float, ties to even.
inline unsigned encode(double x, int exponent_bits, int mantissa_bits) {
  const unsigned sign = (std::signbit(x) ? 1u : 0u) << (exponent_bits + mantissa_bits);
  const unsigned infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  if (std::isnan(x)) return sign | infinity | 1u;
  const double magnitude = std::fabs(x);
  if (std::isinf(magnitude)) return sign | infinity;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = magnitude == 0 ? 1 - bias : std::max(std::ilogb(magnitude), 1 - bias);
  const double steps = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));  // of the last bit
  // The leading bit of the mantissa, if there is one, adds 1 to the exponent; so does rounding up past the last mantissa.
  const double code = std::ldexp(exponent + bias - 1, mantissa_bits) + steps;
  return sign | (code >= infinity ? infinity : static_cast<unsigned>(code));
}

inline double get(DType dtype, const void* at) {
  std::uint16_t half;
  switch (dtype) {
    case DType::f64: return *static_cast<const double*>(at);
    case DType::f32: return *static_cast<const float*>(at);
    case DType::boolean: return *static_cast<const std::uint8_t*>(at);
    case DType::i64: return static_cast<double>(*static_cast<const std::int64_t*>(at));
    default: std::memcpy(&half, at, sizeof half); return dtype == DType::f16 ? decode(half, 5, 10) : decode(half, 8, 7);
  }
}

inline void put(DType dtype, void* at, double x) {
  switch (dtype) {
    case DType::f64: *static_cast<double*>(at) = x; return;
    case DType::f32: *static_cast<float*>(at) = static_cast<float>(x); return;
    case DType::boolean: *static_cast<std::uint8_t*>(at) = x != 0; return;
    case DType::i64: *static_cast<std::int64_t*>(at) = static_cast<std::int64_t>(x); return;
    default: {
      const auto half = static_cast<std::uint16_t>(dtype == DType::f16 ? encode(x, 5, 10) : encode(x, 8, 7));
      std::memcpy(at, &half, sizeof half);
    }
  }
}

// contiguous; last: the second dimension is innermost (channels-last); transposed: dimensions reversed in memory; gaps: every
// other element, and every other row; repeated: the first dimension has stride 0.
enum class Layout { contiguous, last, transposed, gaps, repeated };
constexpr Layout layouts[] = {Layout::contiguous, Layout::last, Layout::transposed, Layout::gaps};

// Owns what its view shows. The view starts one element into the storage, so that it is aligned for its elements only, and ends
// where the storage ends.
class Tensor {
 public:
  Tensor(DType dtype, const Sizes& sizes, Layout layout = Layout::contiguous) {
    view_.dtype = dtype;
    view_.dims = static_cast<int>(sizes.size());
    std::vector<int> order;  // from the innermost dimension
    for (int i = view_.dims; i-- > 0;) order.push_back(i);
    if (layout == Layout::transposed) std::reverse(order.begin(), order.end());
    if (layout == Layout::last && view_.dims > 2)
      std::rotate(order.begin(), std::find(order.begin(), order.end(), 1), order.end());
    std::int64_t stride = layout == Layout::gaps ? 2 : 1, extent = 1;
    for (const int i : order) {
      view_.size[i] = sizes[static_cast<std::size_t>(i)];
      view_.stride[i] = layout == Layout::repeated && i == 0 ? 0 : stride;
      if (view_.stride[i] != 0) stride *= std::max<std::int64_t>(view_.size[i], 1) + (layout == Layout::gaps ? 1 : 0);
      extent += (view_.size[i] - 1) * view_.stride[i];
    }
    count_ = view_.elements() == 0 ? 1 : extent + 1;
    storage_.reset(new char[static_cast<std::size_t>(count_ * bytes_of(dtype))]);
    view_.data = storage_.get() + bytes_of(dtype);
    clear();
  }

  const TensorView& view() const { return view_; }
  std::int64_t elements() const { return view_.elements(); }

  // Everything that is not written afterwards stands out: all bits set is NaN or -1.
  void clear() { std::memset(storage_.get(), 0xff, static_cast<std::size_t>(count_ * bytes_of(view_.dtype))); }
  std::vector<char> bytes() const { return {storage_.get(), storage_.get() + count_ * bytes_of(view_.dtype)}; }

  // Element number i in the order of the sizes.
  void* at(std::int64_t i) const {
    std::int64_t offset = 0;
    for (int d = view_.dims; d-- > 0; i /= view_.size[d]) offset += i % view_.size[d] * view_.stride[d];
    return view_.as<char>() + offset * bytes_of(view_.dtype);
  }
  double operator[](std::int64_t i) const { return get(view_.dtype, at(i)); }
  void set(std::int64_t i, double x) { put(view_.dtype, at(i), x); }
  template <typename Make>
  Tensor& fill(const Make& make) {
    for (std::int64_t i = 0; i < elements(); ++i) set(i, make(i));
    return *this;
  }

 private:
  TensorView view_;
  std::int64_t count_ = 0;
  std::unique_ptr<char[]> storage_;
};

using Random = std::mt19937_64;

constexpr DType floats[] = {DType::f32, DType::f64, DType::f16, DType::bf16};

enum class Kind { random, positive, tied, constant, zero, skewed, tiny, huge };
constexpr Kind kinds[] = {Kind::random, Kind::positive, Kind::tied, Kind::constant,
                          Kind::zero,   Kind::skewed,   Kind::tiny, Kind::huge};

inline double number(Kind kind, Random& random, DType dtype) {
  const double x = std::normal_distribution<double>()(random);
  const bool half_range = dtype == DType::f16;  // 6e-8 to 65504
  const double far = dtype == DType::f64 ? 1e290 : half_range ? 1e4 : 1e37;
  switch (kind) {
    case Kind::positive: return std::fabs(x);
    case Kind::tied: return std::round(x);
    case Kind::constant: return 0.7;
    case Kind::zero: return 0;
    case Kind::skewed:
      return x * std::pow(10.0, std::uniform_real_distribution<double>(half_range ? -3 : -9, half_range ? 3 : 9)(random));
    case Kind::tiny: return x * (dtype == DType::f64 ? 1e-290 : half_range ? 1e-6 : 1e-39);  // subnormal but in fp64
    case Kind::huge: return std::clamp(x, -3.0, 3.0) * far;
    default: return x;
  }
}

inline Tensor random_tensor(DType dtype, const Sizes& sizes, Layout layout, Kind kind, Random& random) {
  Tensor tensor(dtype, sizes, layout);
  tensor.fill([&](std::int64_t) { return number(kind, random, dtype); });
  return tensor;
}

inline Tensor random_masks(const Sizes& sizes, Layout layout, double share, Random& random) {
  Tensor masks(DType::boolean, sizes, layout);
  masks.fill([&](std::int64_t) { return std::uniform_real_distribution<double>()(random) < share ? 1.0 : 0.0; });
  return masks;
}

inline std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) {
  std::vector<TensorView> all;
  for (const Tensor& tensor : tensors) all.push_back(tensor.view());
  return all;
}

// Runs with 1, 2 and 3 threads: `outputs` must come out the same to the bit. They hold the result afterwards.
inline void for_threads(const std::vector<Tensor*>& outputs, const std::function<void(int)>& run) {
  std::vector<std::vector<char>> first;
  for (const int threads : {1, 2, 3}) {
    for (Tensor* output : outputs) output->clear();
    run(threads);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (threads == 1) {
        first.push_back(outputs[i]->bytes());
      } else {
        CHECK(outputs[i]->bytes() == first[i]);
      }
    }
  }
}

// |got - expected| <= tolerance; NaN equals NaN, infinities themselves.
inline bool close(double got, double expected, double tolerance) {
  if (std::isnan(expected)) return std::isnan(got);
  return got == expected || std::fabs(got - expected) <= tolerance;
}

inline void at_case(const std::string& where) { check::tally().where = where; }

}  // namespace thfr_test
