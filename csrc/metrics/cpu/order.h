// Scores as signed integers of the same order, the same for every dtype: those of fp32 are multiples of 2^29.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "sweep/cpu/keys.h"
#include "sweep/cpu/sort.h"

namespace thfr {
namespace sweep {

using Order = std::int64_t;

inline Order to_order(double score) {
  Order bits;
  std::memcpy(&bits, &score, sizeof bits);
  return bits < 0 ? -(bits & INT64_MAX) : bits;  // -0 is 0
}

// visit(order, count) for the distinct scores of a vector, highest first. Throws if one is NaN.
template <typename Key, typename Visit>
void visit_sorted_keys(const char* name, const TensorView& scores, int threads, const Visit& visit) {
  const std::int64_t n = scores.size[0];
  std::vector<Key> keys(static_cast<std::size_t>(n));
  const auto* score = scores.as<const typename KeyRange<Key>::Score>();
  bool nan = false;
  for (std::int64_t i = 0; i < n; ++i) {
    make_key(score[i * scores.stride[0]], keys[i]);
    nan |= is_nan(keys[i]);
  }
  if (nan) throw std::invalid_argument(std::string(name) + ": scores: expected numbers, got NaN");
  sort_keys(keys, threads);
  for (auto begin = keys.rbegin(); begin != keys.rend();) {
    auto next = begin;
    while (next != keys.rend() && *next == *begin) ++next;
    visit(to_order(static_cast<double>(key_score(*begin))), static_cast<std::int64_t>(next - begin));
    begin = next;
  }
}

template <typename Visit>
void visit_sorted(const char* name, const TensorView& scores, int threads, const Visit& visit) {
  if (scores.dtype == DType::f64) {
    visit_sorted_keys<std::uint64_t>(name, scores, threads, visit);
  } else {
    visit_sorted_keys<std::uint32_t>(name, scores, threads, visit);
  }
}

}  // namespace sweep
}  // namespace thfr
