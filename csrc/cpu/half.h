// Loads of any float type as fp32 or fp64, in the namespace of the instruction set being compiled.
#pragma once

#include <cstdint>

namespace thfr {
namespace THFR_ISA {

struct f16 {
  std::uint16_t bits;
};
struct bf16 {
  std::uint16_t bits;
};

inline float bits_to_float(std::uint32_t bits) {
  union {
    std::uint32_t u;
    float f;
  } pun{bits};
  return pun.f;
}

inline float load(float x) { return x; }
inline double load(double x) { return x; }
inline float load(bf16 x) { return bits_to_float(static_cast<std::uint32_t>(x.bits) << 16); }
inline float load(f16 x) {
  // Shift exponent and mantissa into place, then multiply by 2^112: exact for subnormals too; inf and NaN are mended.
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const float scaled = bits_to_float(magnitude) * bits_to_float(0x77800000u);
  const std::uint32_t special = magnitude >= 0x0f800000u ? (magnitude | 0x7f800000u) : 0u;
  union {
    float f;
    std::uint32_t u;
  } pun{scaled};
  return bits_to_float((special != 0u ? special : pun.u) | sign);
}

// The type that sums of T are kept in.
template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

}  // namespace THFR_ISA
}  // namespace thfr
