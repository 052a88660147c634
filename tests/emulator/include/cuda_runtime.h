// What the kernels and launchers of csrc take from CUDA, on the CPU: fibers.h says how.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../fibers.h"

#define THFR_EMULATOR 1
#define __global__
#define __noinline__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

// Vectors: aligned as on the device, so that UBSan finds a load that is not.
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::isfinite;
using std::isinf;
using std::isnan;

// Threads
inline void __syncthreads(int line = __builtin_LINE()) { emulator::barrier(0, line); }
inline int __syncthreads_count(int value, int line = __builtin_LINE()) { return emulator::barrier(value, line); }
inline int __syncthreads_or(int value, int line = __builtin_LINE()) { return emulator::barrier(value, line) != 0; }
inline int __syncthreads_and(int value, int line = __builtin_LINE()) { return emulator::barrier(value == 0, line) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emulator {

template <typename T>
unsigned long long to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a lane gives at most eight bytes");
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <typename T>
T from_bits(unsigned long long bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// The value of lane `source`; the own one if that lies outside the segment.
template <typename T>
T shuffle(unsigned mask, T value, int source, bool inside, int line) {
  const Lanes all = exchange(mask, to_bits(value), line);
  if (!inside) return value;
  if ((mask >> source & 1U) == 0) fail("a shuffle reads a lane outside its mask in line " + std::to_string(line));
  return from_bits<T>(all.value[source]);
}

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const int first = emulator::lane() / width * width;
  return emulator::shuffle(mask, value, first + (source & (width - 1)), true, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
  const int end = emulator::lane() / width * width + width, source = emulator::lane() ^ bits;
  return emulator::shuffle(mask, value, source, source < end, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32, int line = __builtin_LINE()) {
  const int end = emulator::lane() / width * width + width, source = emulator::lane() + static_cast<int>(step);
  return emulator::shuffle(mask, value, source, source < end, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32, int line = __builtin_LINE()) {
  const int first = emulator::lane() / width * width, source = emulator::lane() - static_cast<int>(step);
  return emulator::shuffle(mask, value, source, source >= first, line);
}
inline unsigned __ballot_sync(unsigned mask, int value, int line = __builtin_LINE()) {
  const emulator::Lanes all = emulator::exchange(mask, value != 0, line);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (mask >> i & 1U) != 0 && all.value[i] != 0 ? 1U << i : 0U;
  return bits;
}
inline int __any_sync(unsigned mask, int value, int line = __builtin_LINE()) { return __ballot_sync(mask, value, line) != 0; }
inline int __all_sync(unsigned mask, int value, int line = __builtin_LINE()) {
  return __ballot_sync(mask, value, line) == mask ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffU, int line = __builtin_LINE()) { emulator::exchange(mask, 0, line); }
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  const emulator::Lanes all = emulator::exchange(mask, emulator::to_bits(value), line);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (mask >> i & 1U) != 0 && all.value[i] == emulator::to_bits(value) ? 1U << i : 0U;
  return bits;
}

// Atomics: nothing runs beside a fiber.
template <typename T, typename Change>
T emulated_atomic(T* place, Change change) {
  const T before = *place;
  *place = change(before);
  return before;
}
template <typename T>
T atomicAdd(T* place, std::common_type_t<T> value) {
  return emulated_atomic(place, [&](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicMax(T* place, std::common_type_t<T> value) {
  static_assert(std::is_integral_v<T>, "the device has none for floating point");
  return emulated_atomic(place, [&](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* place, std::common_type_t<T> value) {
  static_assert(std::is_integral_v<T>, "the device has none for floating point");
  return emulated_atomic(place, [&](T old) { return std::min(old, value); });
}
template <typename T>
T atomicOr(T* place, std::common_type_t<T> value) {
  return emulated_atomic(place, [&](T old) { return old | value; });
}
template <typename T>
T atomicExch(T* place, std::common_type_t<T> value) {
  return emulated_atomic(place, [&](T) { return value; });
}
template <typename T>
T atomicCAS(T* place, std::common_type_t<T> compare, std::common_type_t<T> value) {
  return emulated_atomic(place, [&](T old) { return old == compare ? value : old; });
}

// Arithmetic
template <typename T>
T min(T a, std::common_type_t<T> b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, std::common_type_t<T> b) {
  return a < b ? b : a;
}
template <typename T>
T __ldg(const T* place) {
  return *place;
}
template <typename T>
T __ldcs(const T* place) {
  return *place;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __float_as_uint(float x) { return emulator::from_bits<unsigned>(emulator::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return emulator::from_bits<float>(emulator::to_bits(x)); }
inline int __float_as_int(float x) { return emulator::from_bits<int>(emulator::to_bits(x)); }
inline float __int_as_float(int x) { return emulator::from_bits<float>(emulator::to_bits(x)); }
inline long long __double_as_longlong(double x) { return emulator::from_bits<long long>(emulator::to_bits(x)); }
inline double __longlong_as_double(long long x) { return emulator::from_bits<double>(emulator::to_bits(x)); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }

// The host's side: one device, everything is done when a call returns.
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719 };
struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace emulator {

inline cudaError_t last_error = cudaSuccess;
inline std::string last_problem;
inline const void* large_kernel = nullptr;  // the one that was last allowed more than 48 KiB
inline int large_bytes = 0;

inline cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const unsigned long long threads = 1ULL * block.x * block.y * block.z;
  const std::size_t allowed = kernel == large_kernel ? static_cast<std::size_t>(large_bytes) : 48 * 1024;
  last_error = cudaErrorInvalidConfiguration;
  last_problem = "invalid configuration of a launch";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > 65535 || grid.z > 65535) return last_error;
  if (threads == 0 || threads > 1024 || block.z > 64 || config.dynamicSmemBytes > allowed) return last_error;
  last_error = run(grid, block, config.dynamicSmemBytes, body, &last_problem) ? cudaSuccess : cudaErrorLaunchFailure;
  return last_error;
}

}  // namespace emulator

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const std::tuple<Parameters...> given(std::forward<Arguments>(arguments)...);  // copied, as a launch does
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel), [&] { std::apply(kernel, given); });
}
inline cudaError_t cudaGetLastError() { return std::exchange(emulator::last_error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t) { return emulator::last_problem.c_str(); }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 3;  // few and odd: loops over a grid that is smaller than the work are run
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  if (bytes > 227 * 1024) {
    emulator::last_problem = "invalid argument: more than 227 KiB of shared memory";
    return cudaErrorInvalidValue;
  }
  emulator::large_kernel = reinterpret_cast<const void*>(kernel);
  emulator::large_bytes = bytes;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
