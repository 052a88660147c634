// Regions: 8-connected labelling by runs, and the scores of each region's pixels.
#include <algorithm>
#include <cstring>

#include "sweep/cpu/keys.h"
#include "sweep/cpu/trap.h"
#include "thfr/sweep.h"

namespace thfr {
namespace {

using sweep::is_true;
using sweep::parallel_items;
using sweep::useful_threads;

struct Run {
  std::int64_t row, begin, end;  // columns [begin, end)
  std::int64_t region;           // first the index of a run of the same region, in the end the region from 0
};

struct Runs {
  std::vector<Run> runs;  // row by row
  std::vector<std::int64_t> areas;
};

std::int64_t root_of(std::vector<Run>& runs, std::int64_t i) {
  while (runs[i].region != i) {
    runs[i].region = runs[runs[i].region].region;  // halves the path
    i = runs[i].region;
  }
  return i;
}

// The lower root wins, so that a region's root is the run of its first pixel.
void join(std::vector<Run>& runs, std::int64_t a, std::int64_t b) {
  a = root_of(runs, a);
  b = root_of(runs, b);
  runs[std::max(a, b)].region = std::min(a, b);
}

// The next column from x on whose mark is (not) set.
std::int64_t next_column(const TensorView& mask, std::int64_t row, std::int64_t x, bool wanted) {
  const std::int64_t width = mask.size[1], start = row * mask.stride[0];
  if (!wanted || mask.stride[1] != 1) {
    while (x < width && is_true(mask, start + x * mask.stride[1]) != wanted) ++x;
    return x;
  }
  const std::uint8_t* marks = mask.as<const std::uint8_t>() + start;
  for (std::uint64_t word = 0; x + 8 <= width; x += 8) {  // most of a mask is empty
    std::memcpy(&word, marks + x, sizeof word);
    if (word != 0) break;
  }
  while (x < width && marks[x] == 0) ++x;
  return x;
}

Runs find_runs(const TensorView& mask) {
  Runs found;
  std::vector<Run>& runs = found.runs;
  std::int64_t above = 0, above_end = 0;  // the runs of the row above
  for (std::int64_t row = 0; row < mask.size[0]; ++row) {
    const auto here = static_cast<std::int64_t>(runs.size());
    for (std::int64_t x = next_column(mask, row, 0, true); x < mask.size[1]; x = next_column(mask, row, x, true)) {
      const std::int64_t end = next_column(mask, row, x, false), self = static_cast<std::int64_t>(runs.size());
      runs.push_back({row, x, end, self});
      while (above < above_end && runs[above].end < x) ++above;
      for (std::int64_t i = above; i < above_end && runs[i].begin <= end; ++i) join(runs, i, self);
      x = end;
    }
    above = here;
    above_end = static_cast<std::int64_t>(runs.size());
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    // Roots come before their runs and already hold their region's number.
    const std::int64_t root = runs[i].region;
    if (root == static_cast<std::int64_t>(i)) {
      runs[i].region = static_cast<std::int64_t>(found.areas.size());
      found.areas.push_back(0);
    } else {
      runs[i].region = runs[root].region;
    }
    found.areas[runs[i].region] += runs[i].end - runs[i].begin;
  }
  return found;
}

TensorView plane(const TensorView& stack, std::int64_t n) {  // [H,W] of [N,H,W]
  TensorView view = stack;
  const std::int64_t bytes = stack.dtype == DType::boolean ? 1 : 8;
  view.data = stack.as<std::uint8_t>() + n * stack.stride[0] * bytes;
  view.dims = 2;
  for (int i = 0; i < 2; ++i) {
    view.size[i] = stack.size[i + 1];
    view.stride[i] = stack.stride[i + 1];
  }
  return view;
}

// Copies columns [begin, end) of a map's row to a contiguous row of scores.
template <typename Score>
void copy_scores(const TensorView& map, std::int64_t row, std::int64_t begin, std::int64_t end, Score* to) {
  sweep::with_score_type(map.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) <= sizeof(Score)) {
      const T* from = map.as<const T>() + row * map.stride[0];
      for (std::int64_t x = begin; x < end; ++x) *to++ = static_cast<Score>(THFR_ISA::load(from[x * map.stride[1]]));
    }
  });
}

void copy_scores(const TensorView& map, std::int64_t row, std::int64_t begin, std::int64_t end, const TensorView& scores,
                 std::int64_t offset) {
  if (scores.dtype == DType::f64) return copy_scores(map, row, begin, end, scores.as<double>() + offset);
  copy_scores(map, row, begin, end, scores.as<float>() + offset);
}

std::int64_t elements(const Views& views) {
  std::int64_t total = 0;
  for (const TensorView& view : views) total += view.elements();
  return total;
}

}  // namespace

void region_areas(const TensorView& regions, const TensorView& areas, int threads) {
  parallel_items(regions.size[0], useful_threads(regions.elements(), threads), [&](std::int64_t r) {
    const TensorView mask = plane(regions, r);
    std::int64_t area = 0;
    for (std::int64_t row = 0; row < mask.size[0]; ++row) {
      const std::uint8_t* marks = mask.as<const std::uint8_t>() + row * mask.stride[0];
      std::int64_t here = 0;
      if (mask.stride[1] == 1) {
        for (std::int64_t x = 0; x < mask.size[1]; ++x) here += marks[x] != 0;
      } else {
        for (std::int64_t x = 0; x < mask.size[1]; ++x) here += marks[x * mask.stride[1]] != 0;
      }
      area += here;
    }
    areas.as<std::int64_t>()[r] = area;
  });
}

void label_regions(const TensorView& masks, const TensorView& labels, const TensorView& counts, int threads) {
  parallel_items(masks.size[0], useful_threads(masks.elements(), threads), [&](std::int64_t n) {
    const Runs found = find_runs(plane(masks, n));
    const TensorView to = plane(labels, n);
    std::fill_n(to.as<std::int64_t>(), to.elements(), std::int64_t{0});
    for (const Run& run : found.runs) {
      std::fill_n(to.as<std::int64_t>() + run.row * to.size[1] + run.begin, run.end - run.begin, run.region + 1);
    }
    counts.as<std::int64_t>()[n] = static_cast<std::int64_t>(found.areas.size());
  });
}

std::int64_t component_scores(const Views& maps, const Views& masks, const TensorView& scores, const TensorView& offsets,
                              int threads) {
  threads = useful_threads(elements(masks), threads);
  std::vector<Runs> found(maps.size());
  parallel_items(static_cast<std::int64_t>(maps.size()), threads, [&](std::int64_t n) { found[n] = find_runs(masks[n]); });

  std::vector<std::int64_t> first(maps.size());
  std::int64_t regions = 0, pixels = 0;
  for (std::size_t n = 0; n < maps.size(); ++n) {
    first[n] = regions;
    for (const std::int64_t area : found[n].areas) {
      if (regions + 1 >= offsets.size[0]) return -1;
      offsets.as<std::int64_t>()[regions++] = pixels;
      pixels += area;
    }
  }
  offsets.as<std::int64_t>()[regions] = pixels;
  if (pixels > scores.size[0]) return -1;

  parallel_items(static_cast<std::int64_t>(maps.size()), threads, [&](std::int64_t n) {
    const std::int64_t* start = offsets.as<std::int64_t>() + first[n];
    std::vector<std::int64_t> next(start, start + found[n].areas.size());
    for (const Run& run : found[n].runs) {
      copy_scores(maps[n], run.row, run.begin, run.end, scores, next[run.region]);
      next[run.region] += run.end - run.begin;
    }
  });
  return regions;
}

void region_scores(const Views& maps, const Views& regions, const TensorView& offsets, const TensorView& scores,
                   const Views& covered, int threads) {
  std::vector<std::int64_t> first(maps.size());
  for (std::size_t n = 1; n < maps.size(); ++n) first[n] = first[n - 1] + regions[n - 1].size[0];
  parallel_items(static_cast<std::int64_t>(maps.size()), useful_threads(elements(regions), threads), [&](std::int64_t n) {
    auto* cover = covered[n].as<std::uint8_t>();
    std::fill_n(cover, covered[n].elements(), std::uint8_t{0});
    for (std::int64_t r = 0; r < regions[n].size[0]; ++r) {
      const TensorView mask = plane(regions[n], r);
      std::int64_t to = offsets.as<std::int64_t>()[first[n] + r];
      for (std::int64_t row = 0; row < mask.size[0]; ++row) {
        for (std::int64_t x = next_column(mask, row, 0, true); x < mask.size[1];) {
          const std::int64_t end = next_column(mask, row, x, false);
          copy_scores(maps[n], row, x, end, scores, to);
          std::fill(cover + row * mask.size[1] + x, cover + row * mask.size[1] + end, std::uint8_t{1});
          to += end - x;
          x = next_column(mask, row, end, true);
        }
      }
    }
  });
}

}  // namespace thfr
