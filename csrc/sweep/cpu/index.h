// The rank of any score among few: the sweep's look-up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "sweep/cpu/keys.h"

namespace thfr {
namespace sweep {

// Ascending distinct values, a table over the leading bits of a key, and a step of at most three comparisons in nearly
// every case.
template <typename Key>
class Index {
 public:
  explicit Index(std::vector<Key> values) : values_(std::move(values)), size_(values_.size()) {
    if (size_ == 0) return;
    if (size_ >= UINT32_MAX) throw std::length_error("sweep: more than 2^32 distinct scores of region pixels");
    const Key low = values_.front(), range = values_.back() - low;
    int bits = 4;
    while (bits < 22 && (std::size_t{1} << bits) < 2 * size_) ++bits;
    while (bits + shift_ < static_cast<int>(8 * sizeof(Key)) && (range >> (bits + shift_)) != 0) ++shift_;
    const auto last = static_cast<std::size_t>(range >> shift_);
    first_.resize(last + 2, static_cast<std::uint32_t>(size_));
    for (std::size_t i = size_; i-- > 0;) {
      first_[static_cast<std::size_t>((values_[i] - low) >> shift_)] = static_cast<std::uint32_t>(i);
    }
    for (std::size_t b = last; b-- > 0;) first_[b] = std::min(first_[b], first_[b + 1]);
    values_.insert(values_.end(), steps, values_.back());
  }

  std::size_t size() const { return size_; }
  Key operator[](std::size_t i) const { return values_[i]; }
  std::size_t bins() const { return 2 * size_ + 1; }

  // 2 r if the key lies below the r-th value and above the one before, 2 r + 1 if it is the r-th.
  std::size_t bin(Key key) const {
    if (size_ == 0 || key < values_.front()) return 0;
    if (key > values_[size_ - 1]) return 2 * size_;
    const std::size_t r = finder().rank(key);
    return 2 * r + (values_[r] == key ? 1 : 0);
  }

  // For a key between the first and the last value.
  void prefetch(Key key) const { __builtin_prefetch(first_.data() + ((key - values_.front()) >> shift_)); }

  // What a look-up reads, for a loop to hold in registers.
  struct Finder {
    const Key* values;
    const std::uint32_t* first;
    Key low;
    int shift;

    // The first value that is not below a key, which lies between the first and the last one.
    std::size_t rank(Key key) const {
      const auto b = static_cast<std::size_t>((key - low) >> shift);
      const std::uint32_t begin = first[b], end = first[b + 1];
      const Key* at = values + begin;
      if (end - begin > steps) return static_cast<std::size_t>(std::lower_bound(at, values + end, key) - values);
      // No branch to guess: values past this bucket's are larger than the key, and copies of the last one are not smaller.
      std::size_t below = begin;
      for (std::size_t i = 0; i < steps; ++i) below += at[i] < key;
      return below;
    }
  };
  Finder finder() const { return {values_.data(), first_.data(), values_.front(), shift_}; }

 private:
  static constexpr std::size_t steps = 3;

  std::vector<Key> values_;  // and `steps` copies of the last one
  std::size_t size_;
  std::vector<std::uint32_t> first_;  // of each bucket of leading bits; one more at the end
  int shift_ = 0;
};

}  // namespace sweep
}  // namespace thfr
