// Half precision as the kernels use it: kept as bits, computed as float.
#pragma once

#include "cuda_runtime.h"

struct __half {
  std::uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __half2float(__half x) {
  _Float16 value;
  std::memcpy(&value, &x, 2);
  return static_cast<float>(value);
}
inline __half __float2half_rn(float x) {
  const auto value = static_cast<_Float16>(x);
  __half made;
  std::memcpy(&made, &value, 2);
  return made;
}
inline float2 __half22float2(__half2 x) { return {__half2float(x.x), __half2float(x.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
