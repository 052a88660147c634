// Running sums and sorts of the whole device, by CUB. Under the emulator, tests/emulator/include/cub stands in for it.
#pragma once

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <limits>

#include "sweep/cuda/scores.cuh"
#include "thfr/tensor_view.h"

namespace thfr::cuda::sweep {

// Memory to work in. Without any, the functions below only say how much they need.
struct Scratch {
  void* memory = nullptr;
  std::size_t bytes = 0;

  Scratch() = default;
  explicit Scratch(const TensorView& view) : memory(view.data), bytes(static_cast<std::size_t>(view.size[0])) {}
};

// to[i] = value(0) + ... + value(i). `value` may read to[i].
template <typename Value>
const char* running_sums(Scratch& scratch, const Value& value, std::int64_t* to, std::int64_t n, void* stream) {
  const auto values = thrust::make_transform_iterator(thrust::counting_iterator<std::int64_t>(0), value);
  return problem(cub::DeviceScan::InclusiveSum(scratch.memory, scratch.bytes, values, to, n, static_cast<cudaStream_t>(stream)));
}

// Stable, by the bits [first, last) of keys that are signed.
template <typename Key>
const char* sort_pairs(Scratch& scratch, const Key* keys, Key* sorted, const std::int32_t* values, std::int32_t* permuted,
                       std::int64_t n, int first, int last, void* stream) {
  return problem(cub::DeviceRadixSort::SortPairs(scratch.memory, scratch.bytes, keys, sorted, values, permuted, n, first, last,
                                                 static_cast<cudaStream_t>(stream)));
}

// An array, as what is summed.
struct Numbers {
  const std::int64_t* numbers;
  __device__ std::int64_t operator()(std::int64_t i) const { return numbers[i]; }
};

}  // namespace thfr::cuda::sweep
