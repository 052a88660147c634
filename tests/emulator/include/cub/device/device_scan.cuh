// What csrc takes from CUB, on the CPU. As there, a call without memory says how much it needs.
#pragma once

#include "cuda_runtime.h"

namespace emulator {

// Whether a call has memory and does its work, which first writes junk to all that it asked for.
inline bool takes_memory(void* memory, std::size_t& bytes, std::size_t needed, cudaError_t& status) {
  status = cudaSuccess;
  if (memory == nullptr) {
    bytes = needed;
    return false;
  }
  if (bytes < needed) {
    last_problem = "invalid argument: too little memory for a sort or a running sum";
    status = cudaErrorInvalidValue;
    return false;
  }
  std::memset(memory, 0xa5, needed);
  return true;
}

}  // namespace emulator

namespace cub {

struct DeviceScan {
  template <typename Values, typename T>
  static cudaError_t InclusiveSum(void* memory, std::size_t& bytes, Values values, T* to, std::int64_t n, cudaStream_t) {
    cudaError_t status;
    if (!emulator::takes_memory(memory, bytes, 1 + static_cast<std::size_t>(n) / 100, status)) return status;
    ++emulator::statistics().sums;
    T sum = 0;
    for (std::int64_t i = 0; i < n; ++i)
      to[i] = sum = static_cast<T>(static_cast<std::uint64_t>(sum) + static_cast<std::uint64_t>(values[i]));
    return cudaSuccess;
  }
};

}  // namespace cub
