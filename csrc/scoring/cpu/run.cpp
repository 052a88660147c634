// Scoring: cuts the work into pieces that depend on the shapes only, never on the number of threads, so that the result
// does not either.
#include "thfr/scoring.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/simd.h"
#include "scoring/cpu/simd.h"
#include "thfr/parallel.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(CosineKernels, cosine_kernels)
THFR_DEFINE_SIMD_TABLE(MapKernels, map_kernels)

namespace {

using Route = CosineBlock::Route;

// The locations of an image as `rows` runs of `length`, evenly spaced within a run in every tensor.
struct Plane {
  std::int64_t rows, length;
  bool flat;  // one run: rows follow each other at the location stride

  std::int64_t location_stride(const TensorView& view) const {
    return flat && view.size[3] == 1 ? view.stride[2] : view.stride[3];
  }
};

Plane plane_of(const TensorView* const* tensors, int count) {
  const std::int64_t height = tensors[0]->size[2], width = tensors[0]->size[3];
  bool flat = true;
  for (int i = 0; i < count; ++i) {
    const TensorView& view = *tensors[i];
    if (view.data != nullptr && height != 1 && width != 1 && view.stride[2] != width * view.stride[3]) flat = false;
  }
  return flat ? Plane{1, height * width, true} : Plane{height, width, false};
}

Route route_of(const TensorView* const* tensors, int count, const Plane& plane) {
  const std::int64_t channels = tensors[0]->size[1];
  bool rows = true, across = true;
  for (int i = 0; i < count; ++i) {
    const TensorView& view = *tensors[i];
    if (view.data == nullptr) continue;
    rows = rows && (plane.length == 1 || plane.location_stride(view) == 1);
    across = across && (channels == 1 || view.stride[1] == 1);
  }
  if (rows && across) return channels >= plane.length ? Route::channels : Route::rows;
  return rows ? Route::rows : across ? Route::channels : Route::packed;
}

std::int64_t element_size(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }

// Runs `kernel` over all locations. `distance` is written forward; it is the gradient that is read backward.
void for_each_block(void (*kernel)(DType, const CosineBlock&), const TensorView& features, const TensorView& restored, double eps,
                    const TensorView& grad_features, const TensorView& grad_restored, const TensorView& distance, bool backward,
                    int threads) {
  const TensorView* const tensors[] = {&features, &restored, &grad_features, &grad_restored};
  const Plane plane = plane_of(tensors, 4);
  const Route route = route_of(tensors, 4, plane);
  const std::int64_t channels = features.size[1], locations = distance.elements();
  if (locations == 0) return;

  // Backward reads its block twice: it must fit the second-level cache. Few locations: blocks short enough to share out.
  std::int64_t longest = route == Route::packed ? CosineBlock::max_packed : CosineBlock::max_locations;
  if (backward) {
    longest = std::min(longest, (std::int64_t{1} << 19) / std::max<std::int64_t>(channels * element_size(features.dtype), 1));
  }
  longest = std::min(longest, (locations / 32 + 63) / 64 * 64);
  longest = std::max<std::int64_t>(longest, 64);
  const std::int64_t blocks = (plane.length + longest - 1) / longest, items = features.size[0] * plane.rows * blocks;
  const std::int64_t grain = std::max<std::int64_t>(32768 / std::max<std::int64_t>(channels * longest, 1), 1);

  const std::int64_t bytes = element_size(features.dtype), distance_bytes = element_size(distance.dtype);
  parallel_for(items, threads, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t b = item / (plane.rows * blocks), row = item / blocks % plane.rows, first = item % blocks * longest;
      const auto strip = [&](const TensorView& view) {
        Strip part;
        if (view.data == nullptr) return part;
        part.channel = view.stride[1];
        part.location = plane.location_stride(view);
        part.data = view.as<char>() + bytes * (b * view.stride[0] + row * view.stride[2] + first * part.location);
        return part;
      };
      CosineBlock block;
      block.x = strip(features);
      block.y = strip(restored);
      block.grad_x = strip(grad_features);
      block.grad_y = strip(grad_restored);
      block.route = route;
      block.channels = channels;
      block.locations = std::min(longest, plane.length - first);
      block.eps = eps;
      char* at = distance.as<char>() + distance_bytes * ((b * plane.rows + row) * plane.length + first);
      block.distance = at;
      kernel(features.dtype, block);
    }
  });
}

}  // namespace

void cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                     int threads) {
  for_each_block(cosine_kernels().forward, features, restored, eps, {}, {}, distance, false, threads);
}

void cosine_distance_backward(const TensorView& grad_distance, const TensorView& features, const TensorView& restored, double eps,
                              const TensorView& grad_features, const TensorView& grad_restored, int threads) {
  if (features.elements() == 0) return;
  for_each_block(cosine_kernels().backward, features, restored, eps, grad_features, grad_restored, grad_distance, true, threads);
}

void blend_levels(const MapLevel* levels, int count, Combine combine, const TensorView& map, const TensorView& score,
                  int threads) {
  const MapKernels& kernels = map_kernels();
  const std::int64_t batch = map.size[0], height = map.size[1], width = map.size[2];
  // First every level's rows are expanded to the map's width, [levels][B,h,W]; then its columns, all levels at once.
  std::vector<std::int64_t> first_row(static_cast<std::size_t>(count) + 1, 0);
  for (int k = 0; k < count; ++k) {
    first_row[static_cast<std::size_t>(k) + 1] = first_row[static_cast<std::size_t>(k)] + batch * levels[k].values.size[1];
  }
  const std::int64_t rows = first_row.back(), grain = std::max<std::int64_t>(16384 / std::max<std::int64_t>(width, 1), 1);
  const std::unique_ptr<float[]> expanded(new float[static_cast<std::size_t>(rows * width)]);  // all of it gets written
  parallel_for(rows, threads, grain, [&](std::int64_t begin, std::int64_t end) {
    int k = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      while (row >= first_row[static_cast<std::size_t>(k) + 1]) ++k;
      const MapLevel& level = levels[k];
      const float* values = level.values.as<float>() + (row - first_row[static_cast<std::size_t>(k)]) * level.values.size[2];
      kernels.expand_row(level, values, combine == Combine::sum ? level.weight : 1, width, expanded.get() + row * width);
    }
  });

  std::vector<float> row_most(static_cast<std::size_t>(batch * height));
  const std::size_t levels_count = static_cast<std::size_t>(count);
  std::vector<const float*> inputs(static_cast<std::size_t>(batch) * levels_count);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::size_t k = 0; k < levels_count; ++k) {
      inputs[static_cast<std::size_t>(b) * levels_count + k] =
          expanded.get() + (first_row[k] + b * levels[k].values.size[1]) * width;
    }
  }
  parallel_for(batch * height, threads, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      row_most[static_cast<std::size_t>(i)] =
          kernels.combine_row(levels, count, combine, inputs.data() + static_cast<std::size_t>(i / height) * levels_count,
                              i % height, width, map.as<float>() + i * width);
    }
  });
  if (score.data == nullptr) return;
  for (std::int64_t b = 0; b < batch; ++b) {
    float most = -HUGE_VALF;
    for (std::int64_t y = 0; y < height; ++y) {
      const float row = row_most[static_cast<std::size_t>(b * height + y)];
      if (row > most || row != row) most = row;
      if (most != most) break;
    }
    score.as<float>()[b] = most;
  }
}

}  // namespace thfr
