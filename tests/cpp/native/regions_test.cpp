// Labels, areas and components of regions against the definitions of thfr/sweep.h.
#include "thfr/sweep.h"

#include "tensors.h"

using namespace thfr;
using namespace thfr_test;

namespace {

// Labels of one mask by flood fill, region after region in the order of first pixels; returns their number.
std::int64_t flood(const std::vector<char>& mask, std::int64_t height, std::int64_t width, std::vector<std::int64_t>& labels) {
  labels.assign(mask.size(), 0);
  std::int64_t count = 0;
  for (std::int64_t seed = 0; seed < height * width; ++seed) {
    if (mask[seed] == 0 || labels[seed] != 0) continue;
    labels[seed] = ++count;
    for (std::vector<std::int64_t> open{seed}; !open.empty();) {
      const std::int64_t y = open.back() / width, x = open.back() % width;
      open.pop_back();
      for (std::int64_t v = std::max<std::int64_t>(y - 1, 0); v <= std::min(y + 1, height - 1); ++v) {
        for (std::int64_t u = std::max<std::int64_t>(x - 1, 0); u <= std::min(x + 1, width - 1); ++u) {
          const std::int64_t i = v * width + u;
          if (mask[i] == 0 || labels[i] != 0) continue;
          labels[i] = count;
          open.push_back(i);
        }
      }
    }
  }
  return count;
}

std::vector<char> marks(const Tensor& mask, std::int64_t first, std::int64_t count) {
  std::vector<char> all;
  for (std::int64_t i = first; i < first + count; ++i) all.push_back(mask[i] != 0);
  return all;
}

void check_labels(const Tensor& masks) {
  const TensorView& size = masks.view();
  const std::int64_t plane = size.size[1] * size.size[2];
  Tensor labels(DType::i64, {size.size[0], size.size[1], size.size[2]}), counts(DType::i64, {size.size[0]});
  for_threads({&labels, &counts}, [&](int threads) { label_regions(size, labels.view(), counts.view(), threads); });
  for (std::int64_t n = 0; n < size.size[0]; ++n) {
    std::vector<std::int64_t> expected;
    CHECK(counts[n] == static_cast<double>(flood(marks(masks, n * plane, plane), size.size[1], size.size[2], expected)));
    bool same = true;
    for (std::int64_t i = 0; i < plane; ++i) same &= labels[n * plane + i] == static_cast<double>(expected[i]);
    CHECK(same);
  }
}

}  // namespace

TEST(labels) {
  Random random(1);
  for (const Sizes& sizes :
       {Sizes{1, 1, 1}, Sizes{3, 1, 17}, Sizes{2, 19, 1}, Sizes{4, 13, 23}, Sizes{0, 4, 4}, Sizes{2, 0, 5}, Sizes{2, 5, 0}}) {
    for (const Layout layout : layouts) {
      for (const double share : {0.0, 0.1, 0.4, 0.6, 1.0}) check_labels(random_masks(sizes, layout, share, random));
    }
  }
  check_labels(random_masks({3, 150, 131}, Layout::contiguous, 0.45, random));  // enough for three threads
}

TEST(areas_of_regions) {
  Random random(2);
  for (const Sizes& sizes : {Sizes{1, 1, 1}, Sizes{5, 7, 9}, Sizes{0, 3, 3}, Sizes{3, 0, 4}, Sizes{4, 130, 131}}) {
    for (const Layout layout : {Layout::contiguous, Layout::last, Layout::transposed, Layout::gaps, Layout::repeated}) {
      const Tensor regions = random_masks(sizes, layout, 0.3, random);
      Tensor areas(DType::i64, {sizes[0]});
      for_threads({&areas}, [&](int threads) { region_areas(regions.view(), areas.view(), threads); });
      for (std::int64_t r = 0; r < sizes[0]; ++r) {
        double expected = 0;
        for (std::int64_t i = 0; i < sizes[1] * sizes[2]; ++i) expected += regions[r * sizes[1] * sizes[2] + i];
        CHECK(areas[r] == expected);
      }
    }
  }
}

namespace {

// The scores of the components of `masks`, one image each.
void check_components(const std::vector<Tensor>& maps, const std::vector<Tensor>& masks) {
  std::vector<double> expected;
  std::vector<std::int64_t> ends{0};
  bool wide = false;
  for (std::size_t n = 0; n < maps.size(); ++n) {
    const std::int64_t height = maps[n].view().size[0], width = maps[n].view().size[1];
    std::vector<std::int64_t> labels;
    const std::int64_t count = flood(marks(masks[n], 0, height * width), height, width, labels);
    for (std::int64_t region = 1; region <= count; ++region) {
      for (std::int64_t i = 0; i < height * width; ++i) {
        if (labels[i] == region) expected.push_back(maps[n][i]);
      }
      ends.push_back(static_cast<std::int64_t>(expected.size()));
    }
    wide |= maps[n].view().dtype == DType::f64;
  }
  const auto pixels = static_cast<std::int64_t>(expected.size()), regions = static_cast<std::int64_t>(ends.size()) - 1;
  Tensor scores(wide ? DType::f64 : DType::f32, {pixels}), offsets(DType::i64, {regions + 1});
  const Views images = views_of(maps), marked = views_of(masks);
  for_threads({&scores, &offsets},
              [&](int threads) { CHECK(component_scores(images, marked, scores.view(), offsets.view(), threads) == regions); });
  for (std::int64_t r = 0; r <= regions; ++r) CHECK(offsets[r] == static_cast<double>(ends[static_cast<std::size_t>(r)]));
  for (std::int64_t i = 0; i < pixels; ++i) CHECK(close(scores[i], expected[static_cast<std::size_t>(i)], 0));
  if (regions == 0) return;
  const Tensor few(DType::i64, {regions}), fewer(scores.view().dtype, {pixels - 1});  // too short: said, not overrun
  CHECK(component_scores(images, marked, scores.view(), few.view(), 2) == -1);
  CHECK(component_scores(images, marked, fewer.view(), offsets.view(), 2) == -1);
}

}  // namespace

TEST(scores_of_components) {
  Random random(7);
  for (const DType dtype : floats) {
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::gaps}) {
      for (const double share : {0.0, 0.2, 0.6, 1.0}) {
        std::vector<Tensor> maps, masks;
        for (const std::int64_t side : {1, 8, 21}) {
          maps.push_back(random_tensor(dtype, {side, side + 3}, layout, Kind::random, random));
          masks.push_back(random_masks({side, side + 3}, layout, share, random));
        }
        check_components(maps, masks);
      }
    }
  }
  std::vector<Tensor> maps, masks;
  for (int n = 0; n < 4; ++n) {  // enough for three threads
    maps.push_back(random_tensor(DType::f32, {120, 130}, Layout::contiguous, Kind::random, random));
    masks.push_back(random_masks({120, 130}, Layout::contiguous, 0.3, random));
  }
  check_components(maps, masks);
}
