// Ascending radix sort of keys.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "thfr/parallel.h"

namespace thfr {
namespace sweep {

constexpr int radix_bits = 11;
using Digits = std::array<std::int64_t, 1 << radix_bits>;

template <typename Key>
inline std::size_t digit(Key key, int shift) {
  return static_cast<std::size_t>(key >> shift) & ((1u << radix_bits) - 1);
}

// One stable pass; false, and nothing moved, if every key has the same digit. counts: one table a piece.
template <typename Key>
bool radix_pass(const Key* from, Key* to, std::int64_t n, int shift, std::vector<Digits>& counts, int threads) {
  const auto pieces = static_cast<std::int64_t>(counts.size());
  parallel_for(pieces, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      Digits& count = counts[static_cast<std::size_t>(piece)];
      count.fill(0);
      for (std::int64_t i = n * piece / pieces; i < n * (piece + 1) / pieces; ++i) ++count[digit(from[i], shift)];
    }
  });
  std::int64_t total = 0;
  for (std::size_t d = 0; d < std::size_t{1} << radix_bits; ++d) {
    const std::int64_t before = total;
    for (Digits& count : counts) {
      const std::int64_t here = count[d];
      count[d] = total;
      total += here;
    }
    if (total - before == n) return false;
  }
  parallel_for(pieces, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      Digits& next = counts[static_cast<std::size_t>(piece)];
      for (std::int64_t i = n * piece / pieces; i < n * (piece + 1) / pieces; ++i) to[next[digit(from[i], shift)]++] = from[i];
    }
  });
  return true;
}

// Sorts keys.
template <typename Key>
void sort_keys(std::vector<Key>& keys, int threads) {
  const auto n = static_cast<std::int64_t>(keys.size());
  if (n < 4096) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  std::vector<Digits> counts(static_cast<std::size_t>(std::clamp<std::int64_t>(n / 65536, 1, std::max(threads, 1))));
  std::vector<Key> other(keys.size());
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(Key)); shift += radix_bits) {
    if (radix_pass(keys.data(), other.data(), n, shift, counts, threads)) keys.swap(other);
  }
}

// Sorts keys and drops repetitions.
template <typename Key>
void sort_distinct(std::vector<Key>& keys, int threads) {
  sort_keys(keys, threads);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
}

}  // namespace sweep
}  // namespace thfr
