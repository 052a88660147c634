// Elements of every float type as numbers to compute with, one or 16 bytes of them at a time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace thfr::cuda {

template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <typename T>
using Acc = typename Accumulator<T>::type;

template <typename T>
constexpr int wide = 16 / sizeof(T);  // elements of a 16-byte access

template <typename To, typename From>
__device__ inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits as another type");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }
__device__ inline float load(__half x) { return __half2float(x); }
__device__ inline float load(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ inline void store(float* to, float x) { *to = x; }
__device__ inline void store(double* to, double x) { *to = x; }
__device__ inline void store(__half* to, float x) { *to = __float2half_rn(x); }
__device__ inline void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

// What one access moves, left as it lies in memory so that waiting loads take few registers.
template <typename T, int N>
struct Packed {
  static_assert(N == wide<T>, "16 bytes or one element");
  uint4 bits;
};
template <typename T>
struct Packed<T, 1> {
  T element;
};

// Features are read only while a kernel runs: the read-only path lets loads move above the stores of gradients.
template <typename T, int N>
__device__ inline Packed<T, N> fetch(const T* from) {
  if constexpr (N == 1) {
    return {*from};
  } else {
    return {__ldg(reinterpret_cast<const uint4*>(from))};
  }
}

__device__ inline void unpack_word(unsigned word, const float*, float* to) { to[0] = __uint_as_float(word); }
__device__ inline void unpack_word(unsigned word, const __half*, float* to) {
  const float2 pair = __half22float2(bits_as<__half2>(word));
  to[0] = pair.x;
  to[1] = pair.y;
}
__device__ inline void unpack_word(unsigned word, const __nv_bfloat16*, float* to) {
  to[0] = __uint_as_float(word << 16);
  to[1] = __uint_as_float(word & 0xffff0000U);
}

template <typename T, int N>
__device__ inline void unpack(const Packed<T, N>& from, Acc<T> (&to)[N]) {
  if constexpr (N == 1) {
    to[0] = load(from.element);
  } else if constexpr (sizeof(T) == 8) {
    to[0] = bits_as<double>(make_uint2(from.bits.x, from.bits.y));
    to[1] = bits_as<double>(make_uint2(from.bits.z, from.bits.w));
  } else {
    constexpr int step = N / 4;
    const T* const type = nullptr;
    unpack_word(from.bits.x, type, to);
    unpack_word(from.bits.y, type, to + step);
    unpack_word(from.bits.z, type, to + 2 * step);
    unpack_word(from.bits.w, type, to + 3 * step);
  }
}

__device__ inline unsigned pack_word(const float* from, const float*) { return __float_as_uint(from[0]); }
__device__ inline unsigned pack_word(const float* from, const __half*) {
  return bits_as<unsigned>(__floats2half2_rn(from[0], from[1]));
}
__device__ inline unsigned pack_word(const float* from, const __nv_bfloat16*) {
  return bits_as<unsigned>(__floats2bfloat162_rn(from[0], from[1]));
}

template <typename T, int N>
__device__ inline void put(T* to, const Acc<T> (&from)[N]) {
  if constexpr (N == 1) {
    store(to, from[0]);
  } else if constexpr (sizeof(T) == 8) {
    const uint2 low = bits_as<uint2>(from[0]), high = bits_as<uint2>(from[1]);
    *reinterpret_cast<uint4*>(to) = make_uint4(low.x, low.y, high.x, high.y);
  } else {
    constexpr int step = N / 4;
    const T* const type = nullptr;
    *reinterpret_cast<uint4*>(to) = make_uint4(pack_word(from, type), pack_word(from + step, type),
                                               pack_word(from + 2 * step, type), pack_word(from + 3 * step, type));
  }
}

}  // namespace thfr::cuda
