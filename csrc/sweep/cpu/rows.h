// The pixels of a set of images as keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sweep/cpu/keys.h"
#include "thfr/sweep.h"

namespace thfr {
namespace sweep {

// The pixels of some images in strips: rows, or parts of long ones, so that threads can share a single row too.
class Strips {
 public:
  static constexpr std::int64_t length = 1 << 16;

  explicit Strips(const Views& images) : images_(images) {
    for (const TensorView& image : images) {
      start_.push_back(total_);
      total_ += image.size[0] * in_row(image);
    }
  }

  std::int64_t total() const { return total_; }

  // body(image, row, first column, pixels) for strips [begin, end).
  template <typename Body>
  void visit(std::int64_t begin, std::int64_t end, const Body& body) const {
    auto i = static_cast<std::size_t>(std::upper_bound(start_.begin(), start_.end(), begin) - start_.begin()) - 1;
    for (; i < images_.size() && start_[i] < end; ++i) {
      const std::int64_t each = in_row(images_[i]), strips = images_[i].size[0] * each, width = images_[i].size[1];
      for (std::int64_t s = std::max<std::int64_t>(begin - start_[i], 0); s < std::min(end - start_[i], strips); ++s) {
        const std::int64_t x = s % each * length;
        body(i, s / each, x, std::min(length, width - x));
      }
    }
  }

 private:
  static std::int64_t in_row(const TensorView& image) { return (image.size[1] + length - 1) / length; }

  const Views& images_;
  std::vector<std::int64_t> start_;
  std::int64_t total_ = 0;
};

// Elements [begin, end) of a vector of `bytes` each as an image of one row.
inline TensorView as_row(const TensorView& vector, std::int64_t begin, std::int64_t end, std::int64_t bytes) {
  TensorView row = vector;
  row.data = vector.as<std::uint8_t>() + begin * vector.stride[0] * bytes;
  row.dims = 2;
  row.size[0] = 1, row.size[1] = end - begin;
  row.stride[0] = 0, row.stride[1] = vector.stride[0];
  return row;
}
inline TensorView as_row(const TensorView& vector) { return as_row(vector, 0, vector.size[0], 0); }

// visit(key) for each of n pixels of a row, from column x on, whose mask is `wanted` (all without a mask).
template <typename Key, typename T, typename Visit>
inline void visit_row(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t row, std::int64_t x,
                      std::int64_t n, const Visit& visit) {
  const std::int64_t step = map.stride[1];
  const T* scores = map.as<const T>() + row * map.stride[0] + x * step;
  if (mask == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) visit(key_of<T, Key>(scores[i * step]));
    return;
  }
  const std::int64_t mark_step = mask->stride[1];
  const std::uint8_t* marks = mask->as<const std::uint8_t>() + row * mask->stride[0] + x * mark_step;
  for (std::int64_t i = 0; i < n; ++i) {
    if ((marks[i * mark_step] != 0) == wanted) visit(key_of<T, Key>(scores[i * step]));
  }
}

// As visit_row for a map of any dtype.
template <typename Key, typename Visit>
inline void visit_pixels(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t row, std::int64_t x,
                         std::int64_t n, const Visit& visit) {
  with_score_type(map.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) <= sizeof(Key)) visit_row<Key, T>(map, mask, wanted, row, x, n, visit);
  });
}

// As visit_row for rows [first, last).
template <typename Key, typename Visit>
inline void visit_rows(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t first, std::int64_t last,
                       const Visit& visit) {
  for (std::int64_t row = first; row < last; ++row) visit_pixels<Key>(map, mask, wanted, row, 0, map.size[1], visit);
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
