#pragma once

#include <numeric>
#include <vector>

#include "cub/device/device_scan.cuh"

namespace cub {

struct DeviceRadixSort {
  // By the bits [first, last) of signed keys alone, so that a wrong choice of them shows.
  template <typename Key, typename Value>
  static cudaError_t SortPairs(void* memory, std::size_t& bytes, const Key* keys, Key* sorted, const Value* values,
                               Value* permuted, std::int64_t n, int first, int last, cudaStream_t) {
    using Bits = std::make_unsigned_t<Key>;
    constexpr int size = 8 * sizeof(Key);
    cudaError_t status;
    const auto needed = 1 + static_cast<std::size_t>(n) * (sizeof(Key) + sizeof(Value));
    if (!emulator::takes_memory(memory, bytes, needed, status)) return status;
    if (first < 0 || last > size || first > last) return cudaErrorInvalidValue;
    ++emulator::statistics().sorts;
    emulator::statistics().passes += (last - first + 7) / 8;
    const auto digits = [&](std::int64_t i) -> Bits {
      if (first == last) return 0;
      const Bits bits = static_cast<Bits>(keys[i]) ^ Bits { 1 } << (size - 1);
      return static_cast<Bits>(static_cast<Bits>(bits << (size - last)) >> (size - last + first));
    };
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return digits(a) < digits(b); });
    const std::vector<Key> before(keys, keys + n);
    const std::vector<Value> of(values, values + n);
    for (std::int64_t i = 0; i < n; ++i) {
      sorted[i] = before[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
      permuted[i] = of[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
    }
    return cudaSuccess;
  }
};

}  // namespace cub
