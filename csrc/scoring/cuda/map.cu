#include <algorithm>
#include <cstdint>

#include "scoring/cuda/blend.cuh"
#include "thfr/scoring.h"

namespace thfr::cuda {

static BlendMatrix matrix_of(const BlockedMatrix& matrix) {
  return {matrix.start.as<std::int64_t>(), matrix.weights.as<float>(), static_cast<int>(matrix.weights.size[1])};
}

static BlendLevel level_of(const MapLevel& level) {
  BlendLevel made;
  made.values = level.values.as<float>();
  made.row_start = level.row_start.as<std::int64_t>();
  made.rows = matrix_of(level.rows);
  made.columns = matrix_of(level.columns);
  made.height = static_cast<int>(level.values.size[1]);
  made.width = static_cast<int>(level.values.size[2]);
  made.row_band = static_cast<int>(level.row_band);
  made.weight = level.weight;
  return made;
}

const char* blend_levels(const MapLevel* levels, int count, Combine combine, const TensorView& map, const TensorView& scores,
                         void* stream) {
  if (map.elements() == 0) return nullptr;
  constexpr std::int64_t longest = 1 << 29;  // of any side, so that int holds sums of two
  const std::int64_t images = map.size[0], height = map.size[1], width = map.size[2];
  bool fits = height <= longest && width <= longest;
  for (int k = 0; k < count; ++k) fits = fits && levels[k].values.size[1] <= longest && levels[k].values.size[2] <= longest;
  if (!fits) return "a side of more than 2^29 locations";
  const std::int64_t row_blocks = ceil_div(height, side), column_blocks = ceil_div(width, side);
  if (images > 0x7fffffff || row_blocks * column_blocks > 0x7fffffff / images) return "more than 2^31 blocks of the map";
  for (int begin = 0; begin == 0 || begin < count; begin += max_blend_levels) {
    BlendLevels table{};
    for (; table.count < std::min(max_blend_levels, count - begin); ++table.count) {
      table.level[table.count] = level_of(levels[begin + table.count]);
    }
    const bool last = begin + max_blend_levels >= count;
    const char* error =
        launch(blend_kernel, static_cast<unsigned>(images * row_blocks * column_blocks), blend_threads, 0, stream, table, combine,
               begin > 0, map.as<float>(), height, width, row_blocks, column_blocks, last ? scores.as<unsigned>() : nullptr);
    if (error != nullptr) return error;
  }
  return nullptr;
}

}  // namespace thfr::cuda
