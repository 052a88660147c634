// Launches and shared memory, written so that the same sources run on the CPU too (tests/emulator).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// THFR_SHARED(float, tile, [32][33]); declares an array of the block. The one whose size the launch gives is THFR_DYNAMIC_SHARED.
#ifdef THFR_EMULATOR
#define THFR_SHARED(type, name, ...)     \
  typedef type name##_array __VA_ARGS__; \
  static char name##_site;               \
  auto& name = *static_cast<name##_array*>(emulator::shared(&name##_site, sizeof(name##_array)))
#define THFR_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(emulator::dynamic_shared())
#else
#define THFR_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define THFR_DYNAMIC_SHARED(type, name)                                       \
  extern __shared__ __align__(16) unsigned char thfr_dynamic_shared_memory[]; \
  type* const name = reinterpret_cast<type*>(thfr_dynamic_shared_memory)
#endif

namespace thfr::cuda {

constexpr unsigned all_lanes = 0xffffffffU;

// The text of an error, or nullptr.
inline const char* problem(cudaError_t status) { return status == cudaSuccess ? nullptr : cudaGetErrorString(status); }

// Starts a kernel on a stream (cudaStream_t) and returns at once; nullptr, or why it could not start.
template <typename... Parameters, typename... Arguments>
const char* launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, void* stream,
                   Arguments... arguments) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (status != cudaSuccess) return problem(status);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  cudaGetLastError();  // the error is reported here: none is left behind for the next one who asks
  return problem(status);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Multiprocessors of the current device: what a grid that loops over its work is sized by.
inline int multiprocessors() {
  int device = 0, count = 1;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

}  // namespace thfr::cuda
