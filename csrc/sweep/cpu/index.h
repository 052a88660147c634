// The rank of any score among few: the sweep's look-up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "sweep/cpu/keys.h"

namespace thfr {
namespace sweep {

// Ascending distinct values in parts of about as many values each, with a table over the leading bits of the keys of each
// part: however unevenly scores lie, a look-up is a step of at most three comparisons in nearly every case.
template <typename Key>
class Index {
 public:
  explicit Index(std::vector<Key> values) : values_(std::move(values)), size_(values_.size()) {
    if (size_ == 0) return;
    if (size_ >= UINT32_MAX) throw std::length_error("sweep: more than 2^32 distinct scores of region pixels");
    const Key low = values_.front(), range = values_.back() - low;
    while ((range >> cell_shift_) >= cells) ++cell_shift_;
    const std::size_t last = static_cast<std::size_t>(range >> cell_shift_);
    std::vector<std::size_t> rank(last + 2, size_);  // of each cell's first value
    for (std::size_t i = size_; i-- > 0;) rank[static_cast<std::size_t>((values_[i] - low) >> cell_shift_)] = i;
    for (std::size_t c = last + 1; c-- > 0;) rank[c] = std::min(rank[c], rank[c + 1]);

    const std::size_t wanted = std::clamp<std::size_t>(size_ / in_part, 1, most_parts);
    part_of_.resize(last + 1);
    for (std::size_t begin = 0; begin <= last;) {
      const std::size_t share = std::min(rank[begin] * wanted / size_, wanted - 1);
      std::size_t end = begin;
      while (end <= last && std::min(rank[end] * wanted / size_, wanted - 1) == share) {
        part_of_[end++] = static_cast<std::uint16_t>(parts_.size());
      }
      const Key first = low + (static_cast<Key>(begin) << cell_shift_);
      const Key cell = (static_cast<Key>(end - begin) << cell_shift_) - 1;  // at most the rest of the range
      add_part(first, std::min<Key>(cell, values_.back() - first), rank[begin], rank[end]);
      begin = end;
    }
    values_.insert(values_.end(), steps, values_.back());
  }

  std::size_t size() const { return size_; }
  Key operator[](std::size_t i) const { return values_[i]; }
  std::size_t bins() const { return 2 * size_ + 1; }

  std::size_t parts() const { return parts_.size(); }
  // For a key between the first and the last value.
  std::size_t part(Key key) const { return part_of_[static_cast<std::size_t>((key - values_.front()) >> cell_shift_)]; }

  // 2 r if the key lies below the r-th value and above the one before, 2 r + 1 if it is the r-th.
  std::size_t bin(Key key) const {
    if (size_ == 0 || key < values_.front()) return 0;
    if (key > values_[size_ - 1]) return 2 * size_;
    const std::size_t r = finder(part(key)).rank(key);
    return 2 * r + (values_[r] == key ? 1 : 0);
  }

  // For a key between the first and the last value.
  void prefetch(Key key) const {
    const Part& part_of_key = parts_[part(key)];
    __builtin_prefetch(first_.data() + part_of_key.table + ((key - part_of_key.low) >> part_of_key.shift));
  }

  // What the look-ups of one part read, for a loop to hold in registers.
  struct Finder {
    const Key* values;
    const std::uint32_t* first;
    Key low;
    int shift;

    // The first value that is not below a key of this part.
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
  Finder finder(std::size_t number) const {
    const Part& part = parts_[number];
    return {values_.data(), first_.data() + part.table, part.low, part.shift};
  }

 private:
  static constexpr std::size_t steps = 3;
  static constexpr std::size_t cells = 16384, most_parts = 512, in_part = 2048;

  struct Part {
    Key low;
    std::size_t table;  // where in first_
    int shift;
  };

  // Keys low to low + range, values [begin, end).
  void add_part(Key low, Key range, std::size_t begin, std::size_t end) {
    Part part{low, first_.size(), 0};
    int bits = 4;
    while (bits < 31 && (std::size_t{1} << bits) < end - begin) ++bits;
    while (bits + part.shift < static_cast<int>(8 * sizeof(Key)) && (range >> (bits + part.shift)) != 0) ++part.shift;
    const auto last = static_cast<std::size_t>(range >> part.shift);
    first_.resize(part.table + last + 2, static_cast<std::uint32_t>(end));
    std::uint32_t* first = first_.data() + part.table;
    for (std::size_t i = end; i-- > begin;) first[(values_[i] - low) >> part.shift] = static_cast<std::uint32_t>(i);
    for (std::size_t b = last + 1; b-- > 0;) first[b] = std::min(first[b], first[b + 1]);
    parts_.push_back(part);
  }

  std::vector<Key> values_;  // and `steps` copies of the last one
  std::size_t size_;
  std::vector<std::uint16_t> part_of_;  // of each cell: equal shares of the range of keys
  int cell_shift_ = 0;
  std::vector<Part> parts_;
  std::vector<std::uint32_t> first_;  // of each bucket of each part; one more at the end of a part
};

}  // namespace sweep
}  // namespace thfr
