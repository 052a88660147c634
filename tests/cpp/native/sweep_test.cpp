// Curves, areas under them and AUROC against the definitions of thfr/sweep.h.
#include "thfr/sweep.h"

#include <string>

#include "tensors.h"

using namespace thfr;
using namespace thfr_test;

namespace {

// A set of images with regions, each of its own size, and what the definition says of it.
struct Set {
  std::vector<Tensor> maps, regions, covered;
  std::vector<std::vector<double>> scores;  // of each region's pixels
  std::vector<double> negatives;            // of the pixels in no region
  std::vector<std::int64_t> saturations;
  bool wide = false;

  void add(Tensor map, Tensor region_masks) {
    const std::int64_t plane = map.elements(), count = region_masks.view().size[0];
    std::vector<bool> inside(static_cast<std::size_t>(plane));
    for (std::int64_t r = 0; r < count; ++r) {
      scores.emplace_back();
      for (std::int64_t i = 0; i < plane; ++i) {
        if (region_masks[r * plane + i] == 0) continue;
        scores.back().push_back(map[i]);
        inside[static_cast<std::size_t>(i)] = true;
      }
    }
    for (std::int64_t i = 0; i < plane; ++i) {
      if (!inside[static_cast<std::size_t>(i)]) negatives.push_back(map[i]);
    }
    wide |= map.view().dtype == DType::f64;
    covered.emplace_back(DType::boolean, Sizes{map.view().size[0], map.view().size[1]});
    maps.push_back(std::move(map));
    regions.push_back(std::move(region_masks));
  }

  Tensor offsets() const {
    Tensor made(DType::i64, {static_cast<std::int64_t>(scores.size()) + 1});
    double at = 0;
    made.set(0, 0);
    for (std::size_t r = 0; r < scores.size(); ++r)
      made.set(static_cast<std::int64_t>(r) + 1, at += static_cast<double>(scores[r].size()));
    return made;
  }
  std::int64_t pixels() const {
    std::size_t all = 0;
    for (const auto& region : scores) all += region.size();
    return static_cast<std::int64_t>(all);
  }
  DType dtype() const { return wide ? DType::f64 : DType::f32; }
  // The definition of the integral, term by term.
  long double area(double limit) const {
    std::vector<double> sorted = negatives;
    std::sort(sorted.begin(), sorted.end());
    const auto all = static_cast<long double>(sorted.size()),
               j = static_cast<long double>(limit * static_cast<double>(sorted.size()));
    long double sum = 0;
    for (std::size_t r = 0; r < scores.size(); ++r) {
      std::vector<double> top = scores[r];
      std::sort(top.rbegin(), top.rend());
      const auto kept = std::min<std::size_t>(top.size(), static_cast<std::size_t>(saturations[r]));
      long double terms = 0;
      for (std::size_t i = 0; i < kept; ++i) {
        const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), top[i]);
        const auto equal = static_cast<long double>(high - low), above = static_cast<long double>(sorted.end() - high);
        if (above + equal <= j) terms += (j - above - equal) + equal / 2;
        if (above < j && j < above + equal) terms += (j - above) * (j - above) / (2 * equal);
      }
      sum += terms / static_cast<long double>(saturations[r]);
    }
    return all == 0 ? 0 : sum / (static_cast<long double>(scores.size()) * j);
  }
};

// Scores of many ties, with both zeros and infinities.
double score(Kind kind, Random& random, DType dtype) {
  const auto die = random() % 40;
  if (kind == Kind::tied && die == 0) return -0.0;
  if (kind == Kind::tied && die == 1) return HUGE_VAL;
  if (kind == Kind::tied && die == 2) return -HUGE_VAL;
  return number(kind, random, dtype);
}

Set random_set(int images, std::int64_t side, DType dtype, Kind kind, Layout layout, Random& random) {
  Set set;
  for (int n = 0; n < images; ++n) {
    const std::int64_t height = side + n, width = 2 * side - n, count = n % 3;  // every third is good
    const DType own = n == 0 && dtype == DType::f64 ? DType::f32 : dtype;       // mixed
    Tensor map(own, {height, width}, layout);
    map.fill([&](std::int64_t) { return score(kind, random, own); });
    Tensor masks = random_masks({count, height, width}, layout, 0.2, random);  // regions overlap
    for (std::int64_t r = 0; r < count; ++r) masks.set(r * height * width, 1), masks.set((r + 1) * height * width - 1, 0);
    set.add(std::move(map), std::move(masks));
  }
  for (const auto& region : set.scores) set.saturations.push_back(1 + static_cast<std::int64_t>(random() % (region.size() + 2)));
  return set;
}

void check_curve(const Set& set, const Curve& curve) {
  std::vector<double> thresholds = set.negatives, sorted = set.negatives;
  for (const auto& region : set.scores) thresholds.insert(thresholds.end(), region.begin(), region.end());
  std::sort(thresholds.rbegin(), thresholds.rend());
  thresholds.erase(std::unique(thresholds.begin(), thresholds.end()), thresholds.end());
  std::sort(sorted.begin(), sorted.end());
  CHECK(curve.thresholds.size() == thresholds.size() + 1);
  if (curve.thresholds.size() != thresholds.size() + 1) return;
  for (std::size_t i = 0; i <= thresholds.size(); ++i) {
    const bool last = i == thresholds.size();  // takes in every pixel
    const auto above = [&](const std::vector<double>& pixels) {
      return last ? static_cast<double>(pixels.size())
                  : static_cast<double>(std::count_if(pixels.begin(), pixels.end(), [&](double p) { return p > thresholds[i]; }));
    };
    double overlap = 0;
    for (std::size_t r = 0; r < set.scores.size(); ++r) {
      overlap += std::min(above(set.scores[r]) / static_cast<double>(set.saturations[r]), 1.0);
    }
    CHECK(last ? curve.thresholds[i] == -HUGE_VAL : curve.thresholds[i] == thresholds[i]);
    CHECK(close(curve.fpr[i], above(sorted) / static_cast<double>(sorted.size()), 1e-15));
    CHECK(close(curve.overlap[i], overlap / static_cast<double>(set.scores.size()), 1e-12));
  }
}

// region_scores, spro_area and spro_curve.
void check_set(Set& set, bool with_curve) {
  const Tensor offsets = set.offsets();
  Tensor scores(set.dtype(), {set.pixels()});
  std::vector<Tensor*> outputs{&scores};
  for (Tensor& cover : set.covered) outputs.push_back(&cover);
  const Views maps = views_of(set.maps), regions = views_of(set.regions), covered = views_of(set.covered);
  for_threads(outputs, [&](int threads) { region_scores(maps, regions, offsets.view(), scores.view(), covered, threads); });
  std::int64_t at = 0;
  for (const auto& region : set.scores) {
    for (const double expected : region) CHECK(close(scores[at++], expected, 0));
  }
  double outside = 0;
  for (const Tensor& cover : set.covered) {
    for (std::int64_t i = 0; i < cover.elements(); ++i) outside += cover[i] == 0;
  }
  CHECK(outside == static_cast<double>(set.negatives.size()));

  Tensor saturations(DType::i64, {static_cast<std::int64_t>(set.saturations.size())});
  saturations.fill([&](std::int64_t r) { return static_cast<double>(set.saturations[static_cast<std::size_t>(r)]); });
  const double bounds[] = {1e-4, 0.05, 0.3, 0.5, 1.0};
  Tensor limits(DType::f64, {5}), areas(DType::f64, {5});
  limits.fill([&](std::int64_t l) { return bounds[l]; });
  for_threads({&areas}, [&](int threads) {
    const SweepInfo info =
        spro_area(maps, covered, scores.view(), offsets.view(), saturations.view(), limits.view(), areas.view(), threads);
    CHECK(info.nan_image == -1 && info.negatives == static_cast<std::int64_t>(set.negatives.size()));
  });
  for (std::int64_t l = 0; l < 5; ++l) CHECK(close(areas[l], static_cast<double>(set.area(bounds[l])), 1e-12));
  if (!with_curve) return;
  Curve first;
  for (const int threads : {1, 2, 3}) {
    Curve curve = spro_curve(maps, covered, scores.view(), offsets.view(), saturations.view(), threads);
    if (threads == 1) {
      first = curve;
    } else {
      CHECK(curve.fpr == first.fpr && curve.overlap == first.overlap && curve.thresholds == first.thresholds);
    }
  }
  check_curve(set, first);
}

}  // namespace

TEST(areas_and_curves_of_all_dtypes_layouts_and_kinds) {
  Random random(3);
  for (const DType dtype : floats) {
    for (const Kind kind : kinds) {
      for (const Layout layout : layouts) {
        at_case("dtype " + std::to_string(static_cast<int>(dtype)) + " kind " + std::to_string(static_cast<int>(kind)) +
                " layout " + std::to_string(static_cast<int>(layout)));
        Set set = random_set(4, 5, dtype, kind, layout, random);
        check_set(set, true);
      }
    }
  }
}

TEST(areas_of_enough_pixels_for_three_threads) {
  Random random(4);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const Kind kind : {Kind::random, Kind::tied, Kind::constant}) {
      Set set = random_set(5, 97, dtype, kind, Layout::contiguous, random);
      check_set(set, false);
    }
  }
}

TEST(a_thousand_regions_of_a_pixel_each) {
  Random random(5);
  Set set;
  Tensor map = random_tensor(DType::f32, {40, 41}, Layout::contiguous, Kind::tied, random), masks(DType::boolean, {1000, 40, 41});
  masks.fill([](std::int64_t i) { return i % 1640 == i / 1640 ? 1.0 : 0.0; });
  set.add(std::move(map), std::move(masks));
  set.saturations.assign(1000, 1);
  check_set(set, true);
}

TEST(images_without_a_pixel_add_nothing) {
  Random random(6);
  Set set = random_set(3, 4, DType::f32, Kind::tied, Layout::contiguous, random);
  for (const Sizes& empty : {Sizes{0, 7}, Sizes{7, 0}, Sizes{0, 0}}) {
    set.add(Tensor(DType::f32, empty), Tensor(DType::boolean, {0, empty[0], empty[1]}));
  }
  check_set(set, true);
}

TEST(not_a_number_is_found_in_its_image) {
  Random random(8);
  for (const DType dtype : floats) {
    for (const int bad : {0, 2, 3}) {
      for (const double sign : {1.0, -1.0}) {
        for (const std::int64_t side : {5, 90}) {
          Set set = random_set(4, side, dtype, Kind::random, Layout::contiguous, random);
          set.maps[static_cast<std::size_t>(bad)].set(set.maps[static_cast<std::size_t>(bad)].elements() - 1,
                                                      std::copysign(std::nan(""), sign));
          const Tensor offsets = set.offsets();
          Tensor scores(set.dtype(), {set.pixels()}), limits(DType::f64, {1}), areas(DType::f64, {1});
          Tensor saturations(DType::i64, {static_cast<std::int64_t>(set.scores.size())});
          saturations.fill([](std::int64_t) { return 3.0; });
          limits.set(0, 0.3);
          const Views maps = views_of(set.maps), covered = views_of(set.covered);
          region_scores(maps, views_of(set.regions), offsets.view(), scores.view(), covered, 2);
          for (const int threads : {1, 3}) {
            CHECK(
                spro_area(maps, covered, scores.view(), offsets.view(), saturations.view(), limits.view(), areas.view(), threads)
                    .nan_image == bad);
            CHECK(spro_curve(maps, covered, scores.view(), offsets.view(), saturations.view(), threads).info.nan_image == bad);
          }
        }
      }
    }
  }
}

TEST(no_negative_is_said) {
  Random random(9);
  Set set;
  Tensor all(DType::boolean, {1, 3, 4});
  all.fill([](std::int64_t) { return 1.0; });
  set.add(random_tensor(DType::f32, {3, 4}, Layout::contiguous, Kind::random, random), std::move(all));
  const Tensor offsets = set.offsets();
  Tensor scores(DType::f32, {12}), limits(DType::f64, {1}), areas(DType::f64, {1}), saturations(DType::i64, {1});
  saturations.set(0, 3);
  limits.set(0, 0.3);
  const Views maps = views_of(set.maps), covered = views_of(set.covered);
  region_scores(maps, views_of(set.regions), offsets.view(), scores.view(), covered, 1);
  CHECK(spro_area(maps, covered, scores.view(), offsets.view(), saturations.view(), limits.view(), areas.view(), 2).negatives ==
        0);
  CHECK(spro_curve(maps, covered, scores.view(), offsets.view(), saturations.view(), 2).info.negatives == 0);
}

TEST(auroc_of_all_dtypes_layouts_and_kinds) {
  Random random(10);
  for (const DType dtype : floats) {
    for (const Kind kind : kinds) {
      for (const Layout layout : {Layout::contiguous, Layout::gaps}) {
        for (const std::int64_t n : {2, 3, 37, 400, 60001}) {
          if (n > 400 && (kind != Kind::tied || dtype == DType::f16)) continue;
          Tensor scores(dtype, {n}, layout), labels = random_masks({n}, layout, n % 2 == 0 ? 0.2 : 0.8, random);
          scores.fill([&](std::int64_t) { return score(kind, random, dtype); });
          labels.set(0, 1), labels.set(n - 1, 0);
          std::vector<double> positives, negatives;
          for (std::int64_t i = 0; i < n; ++i) (labels[i] != 0 ? positives : negatives).push_back(scores[i]);
          std::sort(negatives.begin(), negatives.end());
          long double twice = 0;
          for (const double p : positives) {
            const auto [low, high] = std::equal_range(negatives.begin(), negatives.end(), p);
            twice += static_cast<long double>((low - negatives.begin()) + (high - negatives.begin()));
          }
          const auto pairs = static_cast<long double>(positives.size()) * static_cast<long double>(negatives.size());
          Tensor area(DType::f64, {1});
          for_threads({&area}, [&](int threads) {
            const SweepInfo info = auroc(scores.view(), labels.view(), area.view().as<double>(), threads);
            CHECK(info.nan_image == -1 && info.negatives == static_cast<std::int64_t>(negatives.size()));
          });
          CHECK(close(area[0], static_cast<double>(twice / (2 * pairs)), 1e-15));
          scores.set(n / 2, std::nan(""));
          double unused = 0;
          CHECK(auroc(scores.view(), labels.view(), &unused, 3).nan_image == 0);
        }
      }
    }
  }
}

TEST(auroc_of_one_class_counts_it) {
  Random random(11);
  for (const double share : {0.0, 1.0}) {
    const Tensor scores = random_tensor(DType::f32, {50}, Layout::contiguous, Kind::random, random);
    double unused = 0;
    const Tensor labels = random_masks({50}, Layout::contiguous, share, random);
    CHECK(auroc(scores.view(), labels.view(), &unused, 2).negatives == (share == 0 ? 50 : 0));
  }
}
