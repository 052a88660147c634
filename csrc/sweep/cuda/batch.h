// The images of a set as the launches take them: a few at a time, those of a launch of one dtype.
#pragma once

#include <algorithm>
#include <vector>

#include "sweep/cuda/scores.cuh"
#include "thfr/sweep.h"

namespace thfr::cuda::sweep {

inline std::int64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::boolean: return 1;
    default: return 4;
  }
}

// Whether the last two dimensions are contiguous.
inline bool is_flat(const TensorView& view) {
  const int row = view.dims - 2, column = view.dims - 1;
  return (view.size[column] == 1 || view.stride[column] == 1) && (view.size[row] == 1 || view.stride[row] == view.size[column]);
}

inline bool is_aligned(const void* data, std::int64_t bytes) { return reinterpret_cast<std::uintptr_t>(data) % bytes == 0; }

class Batches {
 public:
  // marks: bool [R,H,W] of each image; `maps` may be empty.
  Batches(const Views& maps, const Views& marks) : maps_(maps) {
    std::int64_t region = 0;
    for (std::size_t n = 0; n < marks.size(); ++n) {
      const TensorView& mark = marks[n];
      Image image{};
      image.height = mark.size[1], image.width = mark.size[2], image.planes = mark.size[0];
      for (int i = 0; i < 3; ++i) image.mark_stride[i] = mark.stride[i];
      if (image.planes > 0) image.marks = mark.as<const std::uint8_t>();
      image.region = region;
      image.mark_vectors = is_flat(mark) && is_aligned(mark.data, 16) && (image.planes < 2 || mark.stride[0] % 16 == 0);
      if (!maps.empty()) set_map(image, maps[n], mark);
      region += image.planes;
      images_.push_back(image);
    }
  }

  std::vector<Image>& images() { return images_; }

  // Sets `chunk` to what the images before need: one plane's chunks each, or those of all planes.
  void number_chunks(bool planes, std::int64_t chunk_pixels) {
    std::int64_t chunk = 0;
    for (Image& image : images_) {
      image.chunk = chunk;
      chunk += ceil_div(image.height * image.width, chunk_pixels) * (planes ? image.planes : 1);
    }
  }

  // launch(images, dtype of their maps) with the work items of each image; the first error.
  template <typename Items, typename Launch>
  const char* visit(const Items& items_of, const Launch& launch) const {
    for (std::size_t n = 0; n < images_.size();) {
      const DType dtype = dtype_of(n);
      Images batch{};
      for (; n < images_.size() && batch.count < Images::most && dtype_of(n) == dtype; ++n) {
        Image& image = batch.image[batch.count++] = images_[n];
        image.first = batch.items;
        batch.items += items_of(image);
      }
      if (const char* error = launch(batch, dtype)) return error;
    }
    return nullptr;
  }

 private:
  DType dtype_of(std::size_t n) const { return maps_.empty() ? DType::boolean : maps_[n].dtype; }

  static void set_map(Image& image, const TensorView& map, const TensorView& mark) {
    image.map = map.data;
    image.map_stride[0] = map.stride[0], image.map_stride[1] = map.stride[1];
    image.map_vectors = is_flat(map) && is_aligned(map.data, 16) &&
                        (image.marks == nullptr || (is_flat(mark) && is_aligned(mark.data, 16 / bytes_of(map.dtype))));
  }

  const Views& maps_;
  std::vector<Image> images_;
};

}  // namespace thfr::cuda::sweep
