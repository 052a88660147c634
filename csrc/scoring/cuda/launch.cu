#include "scoring/cuda/distance.cuh"

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "scoring/cuda/backward.cuh"
#include "thfr/scoring.h"

namespace thfr::cuda {

static int element_size(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }

static Operand operand_of(const TensorView& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2], view.stride[3]};
}

static bool is_multiple(const TensorView& view, int dim, int of) { return view.size[dim] == 1 || view.stride[dim] % of == 0; }

static bool is_aligned(const TensorView& view) { return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0; }

// Every 16 bytes are `wide` locations that follow each other.
static bool has_planes(const TensorView& view, int wide) {
  const std::int64_t height = view.size[2], width = view.size[3];
  const bool flat = (width == 1 || view.stride[3] == 1) && (height == 1 || view.stride[2] == width);
  return flat && height * width % wide == 0 && is_aligned(view) && is_multiple(view, 0, wide) && is_multiple(view, 1, wide);
}

// Every 16 bytes are `wide` channels.
static bool has_channels(const TensorView& view, int wide) {
  return view.stride[1] == 1 && view.size[1] % wide == 0 && is_aligned(view) && is_multiple(view, 0, wide) &&
         is_multiple(view, 2, wide) && is_multiple(view, 3, wide);
}

static Route route_of(std::initializer_list<const TensorView*> tensors, int wide) {
  const auto all = [&](bool (*fits)(const TensorView&, int)) {
    return std::all_of(tensors.begin(), tensors.end(), [&](const TensorView* t) { return t->data == nullptr || fits(*t, wide); });
  };
  return all(has_planes) ? Route::planes : all(has_channels) ? Route::channels : Route::strided;
}

// Threads along locations: enough of them for whole sectors of memory, few enough for some 32 blocks an image, since the
// deep levels have many channels and few locations; more where there are too few channels for the rows of the block.
static int lanes_along_locations(std::int64_t vectors, std::int64_t channels, bool packed) {
  int lanes = packed ? 2 : 8;
  while (lanes < (packed ? 8 : 32) && vectors / (2 * lanes) >= 32) lanes *= 2;
  while (lanes < 32 && channels < 4 * (block_threads / lanes)) lanes *= 2;
  return lanes;
}

// Threads along the channels of a location: four loads each, so that they are in flight at once.
static int lanes_along_channels(std::int64_t vectors) {
  int lanes = 1;
  while (lanes < 32 && lanes * unroll < vectors) lanes *= 2;
  return lanes;
}

static Level level_of(const TensorView& features, const TensorView& restored, const TensorView& distance, Route route) {
  const int wide = 16 / element_size(features.dtype);
  Level level;
  level.x = operand_of(features);
  level.y = operand_of(restored);
  level.distance = distance.data;
  level.distance_f64 = distance.dtype == DType::f64;
  level.channels = features.size[1];
  level.width = features.size[3];
  level.locations = features.size[2] * features.size[3];
  level.route = route;
  if (route == Route::channels) {
    level.lanes = lanes_along_channels(level.channels / wide);
    level.tile = block_threads / level.lanes;
  } else {
    const int each = route == Route::planes ? wide : 1;
    level.lanes = lanes_along_locations(level.locations / each, level.channels, each > 1);
    level.tile = level.lanes * each;
  }
  return level;
}

// Numbers the blocks of a level from `first` on; returns the first of the next level, or a negative number: too many.
static std::int64_t number_blocks(Level& level, std::int64_t images, std::int64_t first) {
  const std::int64_t tiles = ceil_div(level.locations, level.tile);
  if (tiles > 0x7fffffff || images > 0x7fffffff || first + images * tiles > 0x7fffffff) return -1;
  level.tiles = static_cast<unsigned>(tiles);
  level.first_block = static_cast<unsigned>(first);
  return first + images * tiles;
}

static constexpr const char* too_many = "more than 2^31 blocks of locations";

template <typename T>
static const char* launch_levels(const Levels& levels, std::int64_t blocks, double eps, const TensorView& scores, void* stream) {
  return launch(distance_kernel<T>, static_cast<unsigned>(blocks), block_threads, 0, stream, levels, eps, scores.as<unsigned>(),
                scores.data == nullptr ? 0 : scores.size[0]);
}

static const char* launch_levels(DType dtype, const Levels& levels, std::int64_t blocks, double eps, const TensorView& scores,
                                 void* stream) {
  switch (dtype) {
    case DType::f64: return launch_levels<double>(levels, blocks, eps, scores, stream);
    case DType::f16: return launch_levels<__half>(levels, blocks, eps, scores, stream);
    case DType::bf16: return launch_levels<__nv_bfloat16>(levels, blocks, eps, scores, stream);
    default: return launch_levels<float>(levels, blocks, eps, scores, stream);
  }
}

const char* cosine_distances(const DistanceLevel* levels, int count, double eps, const TensorView& scores, void* stream) {
  TensorView to_clear = scores;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64}) {
    int k = 0;
    while (k < count) {
      Levels table;
      std::int64_t blocks = 0;
      for (; k < count && table.count < max_levels; ++k) {
        const auto& [features, restored, distance] = levels[k];
        if (features.dtype != dtype || distance.elements() == 0) continue;
        const Route route = route_of({&features, &restored}, 16 / element_size(dtype));
        Level& level = table.level[table.count++] = level_of(features, restored, distance, route);
        blocks = number_blocks(level, features.size[0], blocks);
        if (blocks < 0) return too_many;
      }
      if (table.count == 0) break;
      if (const char* error = launch_levels(dtype, table, blocks, eps, to_clear, stream)) return error;
      to_clear = {};
    }
  }
  return nullptr;
}

const char* cosine_distance_backward(const TensorView& grad_distance, const TensorView& features, const TensorView& restored,
                                     double eps, const TensorView& grad_features, const TensorView& grad_restored, void* stream) {
  if (features.elements() == 0 || (grad_features.data == nullptr && grad_restored.data == nullptr)) return nullptr;
  const Route route = route_of({&features, &restored, &grad_features, &grad_restored}, 16 / element_size(features.dtype));
  Level level = level_of(features, restored, grad_distance, route);
  const std::int64_t blocks = number_blocks(level, features.size[0], 0);
  if (blocks < 0) return too_many;
  const Gradients gradients{operand_of(grad_features), operand_of(grad_restored)};
  const auto run = [&](void (*kernel)(Level, Gradients, double)) {
    return launch(kernel, static_cast<unsigned>(blocks), block_threads, 0, stream, level, gradients, eps);
  };
  switch (features.dtype) {
    case DType::f64: return run(backward_kernel<double>);
    case DType::f16: return run(backward_kernel<__half>);
    case DType::bf16: return run(backward_kernel<__nv_bfloat16>);
    default: return run(backward_kernel<float>);
  }
}

}  // namespace thfr::cuda
