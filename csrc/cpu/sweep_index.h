// Counts of many scores between and at few: the sweep's inner loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "cpu/sweep_keys.h"
#include "cpu/sweep_trap.h"
#include "thfr/sweep.h"

namespace thfr {
namespace sweep {

// The rank of a key among ascending distinct values: a table over the leading bits, then a binary search.
template <typename Key>
class Index {
 public:
  explicit Index(std::vector<Key> values) : values_(std::move(values)) {
    if (values_.empty()) return;
    if (values_.size() >= UINT32_MAX) throw std::length_error("sweep: more than 2^32 distinct scores of region pixels");
    low_ = values_.front();
    int bits = 4;
    while (bits < 18 && (std::size_t{1} << bits) < values_.size()) ++bits;
    while (bits + shift_ < static_cast<int>(8 * sizeof(Key)) && ((values_.back() - low_) >> (bits + shift_)) != 0) ++shift_;
    const auto last = static_cast<std::size_t>((values_.back() - low_) >> shift_);
    first_.resize(last + 2, static_cast<std::uint32_t>(values_.size()));
    for (std::size_t i = values_.size(); i-- > 0;) {
      first_[static_cast<std::size_t>((values_[i] - low_) >> shift_)] = static_cast<std::uint32_t>(i);
    }
    for (std::size_t b = last; b-- > 0;) first_[b] = std::min(first_[b], first_[b + 1]);
  }

  const std::vector<Key>& values() const { return values_; }
  std::size_t bins() const { return 2 * values_.size() + 1; }

  // 2 r if the key lies below the r-th value and above the one before, 2 r + 1 if it is the r-th.
  std::size_t bin(Key key) const {
    if (values_.empty() || key < low_) return 0;
    if (key > values_.back()) return 2 * values_.size();
    const auto b = static_cast<std::size_t>((key - low_) >> shift_);
    const Key* base = values_.data() + first_[b];
    std::size_t left = first_[b + 1] - first_[b];
    while (left > 1) {
      const std::size_t half = left / 2;
      base += base[half - 1] < key ? half : 0;
      left -= half;
    }
    // key <= the last value: stepping past this bucket's values ends at one that exists.
    base += left == 1 && *base < key ? 1 : 0;
    return 2 * static_cast<std::size_t>(base - values_.data()) + (*base == key ? 1 : 0);
  }

 private:
  std::vector<Key> values_;
  std::vector<std::uint32_t> first_;  // of each bucket of leading bits; one more at the end
  Key low_ = 0;
  int shift_ = 0;
};

// Some rows of some images.
struct Rows {
  explicit Rows(const Views& images) {
    for (const TensorView& image : images) {
      start.push_back(total);
      total += image.size[0];
    }
  }
  std::vector<std::int64_t> start;
  std::int64_t total = 0;

  // body(image, first row, end row) for each image that has some of the rows [begin, end).
  template <typename Body>
  void visit(const Views& images, std::int64_t begin, std::int64_t end, const Body& body) const {
    auto i = static_cast<std::size_t>(std::upper_bound(start.begin(), start.end(), begin) - start.begin()) - 1;
    for (; i < images.size() && start[i] < end; ++i) {
      const std::int64_t first = std::max<std::int64_t>(begin - start[i], 0);
      const std::int64_t last = std::min(end - start[i], images[i].size[0]);
      if (first < last) body(i, first, last);
    }
  }
};

// visit(key) for each pixel of a row whose mask is `wanted` (all without a mask).
template <typename Key, typename T, typename Visit>
inline void visit_row(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t row, const Visit& visit) {
  const T* scores = map.as<const T>() + row * map.stride[0];
  const std::int64_t width = map.size[1], step = map.stride[1];
  if (mask == nullptr) {
    for (std::int64_t x = 0; x < width; ++x) visit(key_of<T, Key>(scores[x * step]));
    return;
  }
  const std::uint8_t* marks = mask->as<const std::uint8_t>() + row * mask->stride[0];
  for (std::int64_t x = 0; x < width; ++x) {
    if ((marks[x * mask->stride[1]] != 0) == wanted) visit(key_of<T, Key>(scores[x * step]));
  }
}

// As visit_row for rows [first, last) of a map of any dtype.
template <typename Key, typename Visit>
inline void visit_rows(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t first, std::int64_t last,
                       const Visit& visit) {
  with_score_type(map.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) <= sizeof(Key)) {
      for (std::int64_t row = first; row < last; ++row) visit_row<Key, T>(map, mask, wanted, row, visit);
    }
  });
}

struct Counts {
  std::vector<std::uint64_t> bins;  // of Index::bin
  SweepInfo info;
};

// Counts the pixels of maps whose mask is `wanted` (all, if `masks` is empty). Each thread has counters of its own, as many
// as fit in 8 bytes a pixel.
template <typename Key>
Counts count(const Index<Key>& index, const Views& maps, const Views& masks, bool wanted, int threads) {
  const Rows rows(maps);
  std::int64_t pixels = 0;
  for (const TensorView& map : maps) pixels += map.elements();
  const std::int64_t budget = std::max<std::int64_t>(8 * pixels, std::int64_t{1} << 24);
  const auto copies = static_cast<std::int64_t>(budget / (4 * index.bins()));
  const std::int64_t pieces =
      std::max<std::int64_t>(1, std::min<std::int64_t>({rows.total, copies, useful_threads(pixels, threads)}));

  Counts counts;
  counts.bins.resize(index.bins());
  std::vector<std::vector<std::uint32_t>> parts(static_cast<std::size_t>(pieces));
  std::vector<SweepInfo> infos(parts.size());
  std::mutex mutex;
  parallel_items(pieces, threads, [&](std::int64_t piece) {
    auto& part = parts[static_cast<std::size_t>(piece)];
    auto& info = infos[static_cast<std::size_t>(piece)];
    part.resize(index.bins());
    std::int64_t unflushed = 0;
    const auto flush = [&] {
      const std::lock_guard<std::mutex> lock(mutex);
      for (std::size_t i = 0; i < part.size(); ++i) counts.bins[i] += part[i];
      info.negatives += unflushed;
      unflushed = 0;
    };
    rows.visit(maps, rows.total * piece / pieces, rows.total * (piece + 1) / pieces,
               [&](std::size_t i, std::int64_t first, std::int64_t last) {
                 for (std::int64_t row = first; row < last; ++row) {
                   bool nan = false;
                   visit_rows<Key>(maps[i], masks.empty() ? nullptr : &masks[i], wanted, row, row + 1, [&](Key key) {
                     nan |= is_nan(key);
                     ++part[index.bin(key)];
                     ++unflushed;
                   });
                   if (nan && info.nan_image < 0) info.nan_image = static_cast<std::int64_t>(i);
                   if (unflushed > (std::int64_t{1} << 30)) {
                     flush();
                     std::fill(part.begin(), part.end(), 0u);
                   }
                 }
               });
    flush();
    part = {};
  });
  for (const SweepInfo& info : infos) {  // in the order of images
    if (counts.info.nan_image < 0) counts.info.nan_image = info.nan_image;
    counts.info.negatives += info.negatives;
  }
  return counts;
}

// Calls body with a key wide enough for every view.
template <typename Body>
auto with_key(const Views& maps, const TensorView& scores, const Body& body) {
  const auto wide = [](const TensorView& view) { return view.dtype == DType::f64; };
  if (wide(scores) || std::any_of(maps.begin(), maps.end(), wide)) return body(std::uint64_t{});
  return body(std::uint32_t{});
}

}  // namespace sweep
}  // namespace thfr
