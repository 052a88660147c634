// Scores as unsigned integers of the same order, so that sorting, equality and ties need no float comparison.
#pragma once

#ifndef THFR_ISA
#define THFR_ISA scalar
#endif

#include <cstdint>
#include <cstring>

#include "common/half.h"
#include "thfr/tensor_view.h"

namespace thfr {
namespace sweep {

// Of a number's bits: sign-magnitude to offset binary. -0 becomes +0 here and not by an addition, which could flush
// denormals where the caller has asked the processor to.
template <typename Key>
inline Key ordered(Key bits) {
  constexpr Key sign = Key(1) << (8 * sizeof(Key) - 1);
  if (bits == sign) bits = 0;
  return (bits & sign) != 0 ? ~bits : (bits | sign);
}

inline void make_key(float x, std::uint32_t& key) {
  std::memcpy(&key, &x, sizeof key);
  key = ordered(key);
}
inline void make_key(double x, std::uint64_t& key) {
  std::memcpy(&key, &x, sizeof key);
  key = ordered(key);
}
inline void make_key(float x, std::uint64_t& key) { make_key(static_cast<double>(x), key); }
void make_key(double x, std::uint32_t& key) = delete;  // would merge distinct scores

// NaNs of either sign lie outside [lowest, highest] = [-inf, inf].
template <typename Key>
struct KeyRange;
template <>
struct KeyRange<std::uint32_t> {
  using Score = float;
  static constexpr std::uint32_t lowest = 0x007fffffu, highest = 0xff800000u;
};
template <>
struct KeyRange<std::uint64_t> {
  using Score = double;
  static constexpr std::uint64_t lowest = 0x000fffffffffffffu, highest = 0xfff0000000000000u;
};

template <typename Key>
inline bool is_nan(Key key) {
  return key - KeyRange<Key>::lowest > KeyRange<Key>::highest - KeyRange<Key>::lowest;
}

template <typename Key>
inline typename KeyRange<Key>::Score key_score(Key key) {
  constexpr Key sign = Key(1) << (8 * sizeof(Key) - 1);
  const Key bits = (key & sign) != 0 ? (key & ~sign) : ~key;
  typename KeyRange<Key>::Score score;
  std::memcpy(&score, &bits, sizeof score);
  return score;
}

// Calls visit(T{}) with the element type of a map.
template <typename Visit>
inline auto with_score_type(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::f64: return visit(double{});
    case DType::f16: return visit(THFR_ISA::f16{});
    case DType::bf16: return visit(THFR_ISA::bf16{});
    default: return visit(float{});
  }
}

template <typename T, typename Key>
inline Key key_of(T score) {
  Key key;
  make_key(THFR_ISA::load(score), key);
  return key;
}

// Keys are 32 bits unless a map needs 64; a narrower map is widened.
template <typename T, typename Key>
constexpr bool fits = sizeof(T) <= sizeof(Key);

inline bool is_true(const TensorView& mask, std::int64_t offset) { return mask.as<const std::uint8_t>()[offset] != 0; }

}  // namespace sweep
}  // namespace thfr
