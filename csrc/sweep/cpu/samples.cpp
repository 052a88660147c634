// The scores of negatives, one after another: for metrics, which need them more than once.
#include <algorithm>
#include <vector>

#include "sweep/cpu/keys.h"
#include "sweep/cpu/trap.h"
#include "thfr/sweep.h"

namespace thfr {
namespace {

// Writes the row's scores where the mask is false, and past them; returns how many, or -1 if there is a NaN.
template <typename T, typename Score>
std::int64_t take_row(const TensorView& map, const TensorView& mask, std::int64_t row, Score* to) {
  const T* scores = map.as<const T>() + row * map.stride[0];
  const std::uint8_t* marks = mask.as<const std::uint8_t>() + row * mask.stride[0];
  std::int64_t taken = 0;
  bool nan = false;
  for (std::int64_t x = 0; x < map.size[1]; ++x) {
    const auto score = static_cast<Score>(THFR_ISA::load(scores[x * map.stride[1]]));
    nan |= score != score;
    to[taken] = score;
    taken += marks[x * mask.stride[1]] == 0 ? 1 : 0;
  }
  return nan ? -1 : taken;
}

// The negatives of one image; false if it has a NaN (in or out of regions).
template <typename Score>
bool take_image(const TensorView& map, const TensorView& mask, std::int64_t count, Score* to) {
  std::vector<Score> row(static_cast<std::size_t>(map.size[1]) + 1);
  bool numbers = true;
  std::int64_t taken = 0;
  sweep::with_score_type(map.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) <= sizeof(Score)) {
      for (std::int64_t y = 0; numbers && y < map.size[0]; ++y) {
        const std::int64_t found = take_row<T, Score>(map, mask, y, row.data());
        numbers = found >= 0;
        if (!numbers || found > count - taken) break;  // a mask that changes while it is read must not write past the end
        std::copy_n(row.data(), found, to + taken);
        taken += found;
      }
    }
  });
  return numbers;
}

}  // namespace

std::int64_t negative_scores(const Views& maps, const Views& masks, const TensorView& counts, const TensorView& scores,
                             int threads) {
  const std::int64_t* count = counts.as<const std::int64_t>();
  std::vector<std::int64_t> start(maps.size());
  std::int64_t pixels = 0;
  for (std::size_t n = 0; n < maps.size(); ++n) {
    start[n] = n == 0 ? 0 : start[n - 1] + count[n - 1];
    pixels += maps[n].elements();
  }
  std::vector<std::uint8_t> numbers(maps.size());
  sweep::parallel_items(static_cast<std::int64_t>(maps.size()), sweep::useful_threads(pixels, threads), [&](std::int64_t n) {
    const auto at = static_cast<std::size_t>(n);
    numbers[at] = scores.dtype == DType::f64 ? take_image(maps[at], masks[at], count[at], scores.as<double>() + start[at])
                                             : take_image(maps[at], masks[at], count[at], scores.as<float>() + start[at]);
  });
  for (std::size_t n = 0; n < maps.size(); ++n) {
    if (numbers[n] == 0) return static_cast<std::int64_t>(n);
  }
  return -1;
}

}  // namespace thfr
