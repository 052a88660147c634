// The kernel tables of scoring.
#pragma once

#include <cstdint>

#include "thfr/scoring.h"

namespace thfr {

// One tensor of a run of locations: element (channel c, location l) is at data + c * channel + l * location.
struct Strip {
  void* data = nullptr;
  std::int64_t channel = 0;
  std::int64_t location = 0;
};

// A run of at most `max_locations` locations of one image, for the cosine kernels.
struct CosineBlock {
  static constexpr std::int64_t max_locations = 1024;  // rows: long enough to stream
  static constexpr std::int64_t max_packed = 64;       // packed: small enough for a tile on the stack

  // rows: location strides are 1, channels: channel strides are 1, packed: any; of every tensor there is.
  enum class Route { rows, channels, packed };

  Strip x, y, grad_x, grad_y;
  Route route = Route::packed;
  std::int64_t channels = 0;
  std::int64_t locations = 0;
  double eps = 0;
  void* distance = nullptr;  // forward: the output; backward: the gradient for it, read only
};

struct CosineKernels {
  void (*forward)(DType dtype, const CosineBlock& block);
  void (*backward)(DType dtype, const CosineBlock& block);
};

struct MapKernels {
  // out[W] = weight * (one row of level.values) . columns
  void (*expand_row)(const MapLevel& level, const float* values, float weight, std::int64_t width, float* out);
  // One row of the map from each level's expanded rows [h,W]; returns its maximum.
  float (*combine_row)(const MapLevel* levels, int count, Combine combine, const float* const* expanded, std::int64_t row,
                       std::int64_t width, float* out);
};

}  // namespace thfr
