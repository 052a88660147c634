// The exact areas and curves; the method is told in thfr/sweep.h.
#include "thfr/sweep.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "common/simd.h"
#include "sweep/cpu/area.h"
#include "sweep/cpu/count.h"
#include "sweep/cpu/sort.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(SweepKernels, sweep_kernels)

const SweepKernels& active_sweep_kernels() { return sweep_kernels(); }

namespace {

using sweep::as_row;
using sweep::Index;
using sweep::Ranks;
using sweep::Tops;
using sweep::useful_threads;

// A key that about `share` of the negatives reach, from a sample of them; 0 if there are too few to be worth it.
template <typename Key>
Key guess_cut(const Views& maps, const Views& covered, double share) {
  constexpr std::int64_t wanted = 1 << 16, run = 4;
  std::int64_t pixels = 0;
  for (const TensorView& map : maps) pixels += map.elements();
  const std::int64_t step = run * (pixels / wanted) + 1;  // not a multiple of usual widths: every column has its turn
  if (pixels < 8 * wanted) return 0;
  std::vector<Key> sample;
  std::int64_t x = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const TensorView* mask = covered.empty() ? nullptr : &covered[i];
    const std::int64_t width = maps[i].size[1], end = maps[i].elements();
    for (; x < end; x += step) {
      const std::int64_t column = x % width;
      sweep::visit_pixels<Key>(maps[i], mask, false, x / width, column, std::min(run, width - column),
                               [&](Key key) { sample.push_back(key); });
    }
    x -= end;
  }
  const auto place = static_cast<std::size_t>(share * static_cast<double>(sample.size()));
  if (place + 1 >= sample.size()) return 0;
  std::nth_element(sample.begin(), sample.begin() + place, sample.end(), std::greater<Key>());
  return sample[place];
}

// Drops keys below the cut: each region then has fewer.
template <typename Key>
void drop_below(Key cut, Tops<Key>& tops) {
  std::int64_t kept = 0, begin = 0;
  for (std::size_t r = 0; r + 1 < tops.offsets.size(); ++r) {
    const std::int64_t end = tops.offsets[r + 1];
    for (std::int64_t i = begin; i < end; ++i) {
      if (tops.keys[i] >= cut) tops.keys[kept++] = tops.keys[i];
    }
    begin = end;
    tops.offsets[r + 1] = kept;
  }
  tops.keys.resize(kept);
}

template <typename Key>
SweepInfo spro_area_of(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                       const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
  double widest = 0;
  for (std::int64_t l = 0; l < limits.size[0]; ++l) widest = std::max(widest, limits.as<double>()[l * limits.stride[0]]);
  // Scores that more than the widest limit's negatives reach add nothing: most need not be looked up. The guess leaves a
  // margin; where it was too high after all, everything is counted.
  Key cut = widest < 1 ? guess_cut<Key>(maps, covered, 1.1 * widest + 0.01) : 0;
  for (;; cut = 0) {
    Tops<Key> tops = sweep::top_keys<Key>(scores, offsets, saturations, threads);
    if (cut > 0) drop_below(cut, tops);
    std::vector<Key> values = tops.keys;
    if (cut > 0) values.push_back(cut);
    sweep::sort_distinct(values, threads);
    const Index<Key> index(std::move(values));
    const sweep::Counts counts = sweep::count(index, maps, covered, false, threads);
    const std::int64_t negatives = counts.info.negatives;
    const auto below = static_cast<double>(counts.bins.front());  // the index begins with the cut
    if (cut > 0 && static_cast<double>(negatives) - below < widest * static_cast<double>(negatives)) continue;
    if (negatives > 0) sweep::write_areas(index, tops, counts.bins, negatives, saturations, limits, areas, threads);
    return counts.info;
  }
}

}  // namespace

SweepInfo spro_area(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                    const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
  return sweep::with_key(maps, scores, [&](auto key) {
    return spro_area_of<decltype(key)>(maps, covered, scores, offsets, saturations, limits, areas, threads);
  });
}

namespace {

std::int64_t count_true(const TensorView& marks, int threads) {  // [1,n]
  const std::int64_t n = marks.size[1], step = marks.stride[1], pieces = useful_threads(n, threads);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(pieces));
  sweep::parallel_items(pieces, threads, [&](std::int64_t piece) {
    std::int64_t count = 0;
    for (std::int64_t i = n * piece / pieces; i < n * (piece + 1) / pieces; ++i) count += sweep::is_true(marks, i * step);
    counts[piece] = count;
  });
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

template <typename Key>
std::vector<Key> sorted_class(const TensorView& map, const TensorView& label, bool wanted, std::int64_t size, int threads) {
  std::vector<Key> keys;
  keys.reserve(static_cast<std::size_t>(size));
  sweep::visit_rows<Key>(map, &label, wanted, 0, 1, [&](Key key) { keys.push_back(key); });
  sweep::sort_keys(keys, threads);
  return keys;
}

template <typename Key>
SweepInfo auroc_of(const Views& maps, const Views& labels, double* area, int threads) {
  const std::int64_t all = maps[0].size[1], positives = count_true(labels[0], threads), negatives = all - positives;
  // The smaller class is sorted, the larger counted.
  const bool few_positives = positives <= negatives;
  const std::vector<Key> few = sorted_class<Key>(maps[0], labels[0], few_positives, std::min(positives, negatives), threads);
  if (few.empty()) return {-1, negatives};
  if (sweep::is_nan(few.front()) || sweep::is_nan(few.back())) return {0, negatives};
  std::vector<Key> values = few;
  values.erase(std::unique(values.begin(), values.end()), values.end());
  const Index<Key> index(std::move(values));
  const sweep::Counts counts = sweep::count(index, maps, labels, !few_positives, threads);
  if (counts.info.nan_image >= 0) return {0, negatives};

  const Ranks ranks = sweep::ranks_of(counts.bins);
  unsigned __int128 twice = 0;  // twice the pairs in which the larger class scores above, ties half
  std::size_t value = 0;
  for (const Key key : few) {
    while (index[value] < key) ++value;
    twice += ranks.twice[value];
  }
  const unsigned __int128 pairs = static_cast<unsigned __int128>(positives) * static_cast<unsigned __int128>(negatives);
  *area = static_cast<double>(few_positives ? 2 * pairs - twice : twice) / (2 * static_cast<double>(pairs));
  return {-1, negatives};
}

}  // namespace

SweepInfo auroc(const TensorView& scores, const TensorView& labels, double* area, int threads) {
  const Views maps{as_row(scores)}, masks{as_row(labels)};
  return sweep::with_key(maps, scores, [&](auto key) { return auroc_of<decltype(key)>(maps, masks, area, threads); });
}

namespace {

// A running sum that keeps what rounding loses (Neumaier): a curve of millions of steps ends where it should.
class Sum {
 public:
  explicit Sum(double start) : sum_(start) {}
  void add(double x) {
    const double next = sum_ + x;
    lost_ += sum_ >= x ? (sum_ - next) + x : (x - next) + sum_;  // both are positive
    sum_ = next;
  }
  double value() const { return sum_ + lost_; }

 private:
  double sum_, lost_ = 0;
};

template <typename Key>
std::vector<Key> distinct_scores(const Views& maps, const TensorView& scores, SweepInfo& info, int threads) {
  std::vector<Key> keys;
  auto pixels = static_cast<std::size_t>(scores.size[0]);
  for (const TensorView& map : maps) pixels += static_cast<std::size_t>(map.elements());
  keys.reserve(pixels);
  for (std::size_t i = 0; i < maps.size(); ++i) {
    bool nan = false;
    sweep::visit_rows<Key>(maps[i], nullptr, true, 0, maps[i].size[0], [&](Key key) {
      nan |= sweep::is_nan(key);
      keys.push_back(key);
    });
    if (nan && info.nan_image < 0) info.nan_image = static_cast<std::int64_t>(i);
  }
  sweep::visit_rows<Key>(as_row(scores), nullptr, true, 0, 1, [&](Key key) { keys.push_back(key); });
  sweep::sort_distinct(keys, threads);
  return keys;
}

template <typename Key>
Curve spro_curve_of(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                    const TensorView& saturations, int threads) {
  Curve curve;
  const Index<Key> index(distinct_scores<Key>(maps, scores, curve.info, threads));
  if (curve.info.nan_image >= 0) return curve;
  const sweep::Counts counts = sweep::count(index, maps, covered, false, threads);
  curve.info.negatives = counts.info.negatives;
  if (curve.info.negatives == 0) return curve;

  const std::int64_t regions = saturations.size[0];
  const Tops<Key> tops = sweep::top_keys<Key>(scores, offsets, saturations, threads);
  std::vector<double> rise(index.size());  // of the overlap at each value, times the number of regions
  double end = 0;  // its last value, without the rounding of many steps: exactly 1 if every region saturates
  for (std::int64_t r = 0; r < regions; ++r) {
    const auto saturation = static_cast<double>(saturations.as<std::int64_t>()[r]);
    const double step = 1 / saturation;
    end += static_cast<double>(tops.offsets[r + 1] - tops.offsets[r]) / saturation;
    for (std::int64_t i = tops.offsets[r]; i < tops.offsets[r + 1]; ++i) rise[index.bin(tops.keys[i]) / 2] += step;
  }

  const std::size_t points = rise.size() + 1;
  curve.fpr.reserve(points), curve.overlap.reserve(points), curve.thresholds.reserve(points);
  std::int64_t above = 0;
  Sum overlap(0);
  const auto add_point = [&](double threshold) {
    curve.thresholds.push_back(threshold);
    curve.fpr.push_back(static_cast<double>(above) / static_cast<double>(curve.info.negatives));
    curve.overlap.push_back(std::min(overlap.value(), end) / static_cast<double>(regions));
  };
  for (std::size_t i = rise.size(); i-- > 0;) {
    add_point(static_cast<double>(sweep::key_score(index[i])));
    above += static_cast<std::int64_t>(counts.bins[2 * i + 1]);
    overlap.add(rise[i]);
  }
  overlap = Sum(end);
  add_point(-std::numeric_limits<double>::infinity());
  return curve;
}

}  // namespace

Curve spro_curve(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                 const TensorView& saturations, int threads) {
  return sweep::with_key(
      maps, scores, [&](auto key) { return spro_curve_of<decltype(key)>(maps, covered, scores, offsets, saturations, threads); });
}

}  // namespace thfr
