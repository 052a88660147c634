// Loads of any float type as fp32 or fp64 and stores back, in the namespace of the instruction set being compiled.
// No branches: loops over them are vectorised.
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

inline std::uint32_t float_to_bits(float x) {
  union {
    float f;
    std::uint32_t u;
  } pun{x};
  return pun.u;
}

inline float load(float x) { return x; }
inline double load(double x) { return x; }
inline float load(bf16 x) { return bits_to_float(static_cast<std::uint32_t>(x.bits) << 16); }
inline float load(f16 x) {
  // Shift exponent and mantissa into place, then multiply by 2^112: exact for subnormals too; inf and NaN are mended.
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const std::uint32_t scaled = float_to_bits(bits_to_float(magnitude) * bits_to_float(0x77800000u));
  return bits_to_float((magnitude >= 0x0f800000u ? (magnitude | 0x7f800000u) : scaled) | sign);
}

// Rounds to nearest, ties to even; what is too large becomes infinity.
inline void store(float* at, float x) { *at = x; }
inline void store(double* at, double x) { *at = x; }
inline void store(float* at, double x) { *at = static_cast<float>(x); }
inline void store(bf16* at, float x) {
  const std::uint32_t bits = float_to_bits(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  at->bits = static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}
inline void store(f16* at, float x) {
  const std::uint32_t bits = float_to_bits(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  // Normal halves: rebias the exponent and round. Subnormal ones: adding 0.5 lets the FPU do the rounding.
  const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t subnormal = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  at->bits = static_cast<std::uint16_t>((magnitude >= 0x47800000u ? special : finite) | sign);
}
// Through fp32: the two roundings differ from one only within half an fp32 ulp of a tie.
inline void store(bf16* at, double x) { store(at, static_cast<float>(x)); }
inline void store(f16* at, double x) { store(at, static_cast<float>(x)); }

// The type that short sums of T are kept in.
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
