// The exact areas and curves; the method is told in thfr/sweep.h.
#include "thfr/sweep.h"

#include <algorithm>
#include <limits>

#include "cpu/sweep_index.h"
#include "cpu/sweep_sort.h"

namespace thfr {
namespace {

using sweep::Index;
using sweep::parallel_items;
using sweep::useful_threads;

TensorView as_row(const TensorView& vector) {
  TensorView row = vector;
  row.dims = 2;
  row.size[0] = 1, row.size[1] = vector.size[0];
  row.stride[0] = 0, row.stride[1] = vector.stride[0];
  return row;
}

// The s_i highest scores of each region as keys, region after region.
template <typename Key>
struct Tops {
  std::vector<Key> keys;
  std::vector<std::int64_t> offsets;
};

template <typename Key>
Tops<Key> top_keys(const TensorView& scores, const TensorView& offsets, const TensorView& saturations, int threads) {
  const std::int64_t regions = saturations.size[0];
  const std::int64_t *start = offsets.as<std::int64_t>(), *saturation = saturations.as<std::int64_t>();
  Tops<Key> tops;
  tops.offsets.resize(static_cast<std::size_t>(regions) + 1);
  for (std::int64_t r = 0; r < regions; ++r) {
    tops.offsets[r + 1] = tops.offsets[r] + std::min(saturation[r], start[r + 1] - start[r]);
  }
  tops.keys.resize(static_cast<std::size_t>(tops.offsets.back()));
  parallel_items(regions, useful_threads(scores.size[0], threads), [&](std::int64_t r) {
    const std::int64_t area = start[r + 1] - start[r], kept = tops.offsets[r + 1] - tops.offsets[r];
    TensorView region = scores;  // one row
    region.dims = 2;
    region.size[0] = 1, region.size[1] = area;
    region.stride[0] = 0, region.stride[1] = scores.stride[0];
    region.data = scores.as<std::uint8_t>() + start[r] * scores.stride[0] * (scores.dtype == DType::f64 ? 8 : 4);
    Key* to = tops.keys.data() + tops.offsets[r];
    if (kept == area) {
      sweep::visit_rows<Key>(region, nullptr, true, 0, 1, [&](Key key) { *to++ = key; });
      return;
    }
    std::vector<Key> all;
    all.reserve(static_cast<std::size_t>(area));
    sweep::visit_rows<Key>(region, nullptr, true, 0, 1, [&](Key key) { all.push_back(key); });
    std::nth_element(all.begin(), all.begin() + kept, all.end(), std::greater<Key>());
    std::copy_n(all.begin(), kept, to);
  });
  return tops;
}

// At each distinct value: negatives above (A) and at it (E).
struct Ranks {
  std::vector<std::int64_t> above, equal;
};

Ranks ranks_of(const std::vector<std::uint64_t>& bins) {
  const std::size_t values = bins.size() / 2;
  Ranks ranks{std::vector<std::int64_t>(values), std::vector<std::int64_t>(values)};
  std::int64_t above = static_cast<std::int64_t>(bins.back());
  for (std::size_t i = values; i-- > 0;) {
    ranks.above[i] = above;
    ranks.equal[i] = static_cast<std::int64_t>(bins[2 * i + 1]);
    above += ranks.equal[i] + static_cast<std::int64_t>(bins[2 * i]);
  }
  return ranks;
}

// One limit: values from `full` up lie inside it whole; the one before may be cut, each of its pixels then adds `cut`.
struct Limit {
  double negatives;  // J
  std::int64_t full;
  double cut;
};

Limit make_limit(const Ranks& ranks, double negatives) {
  const auto values = static_cast<std::int64_t>(ranks.above.size());
  Limit limit{negatives, values, 0};
  std::int64_t low = 0;  // A + E falls as values rise
  while (low < limit.full) {
    const std::int64_t middle = low + (limit.full - low) / 2;
    if (static_cast<double>(ranks.above[middle] + ranks.equal[middle]) <= negatives) {
      limit.full = middle;
    } else {
      low = middle + 1;
    }
  }
  if (limit.full > 0) {
    const double rest = negatives - static_cast<double>(ranks.above[limit.full - 1]);
    if (rest > 0) limit.cut = rest * rest / (2 * static_cast<double>(ranks.equal[limit.full - 1]));
  }
  return limit;
}

// shares[l * regions + r]: region r's area up to limits[l], over the limit: 0 to 1.
template <typename Key>
std::vector<double> region_shares(const Index<Key>& index, const Tops<Key>& tops, const Ranks& ranks,
                                  const std::vector<Limit>& limits, const TensorView& saturations, int threads) {
  const std::int64_t regions = saturations.size[0];
  std::vector<double> shares(limits.size() * static_cast<std::size_t>(regions));
  const auto pixels = static_cast<std::int64_t>(tops.keys.size());
  parallel_items(regions, useful_threads(pixels, threads), [&](std::int64_t r) {
    struct Sums {
      std::int64_t full = 0, cut = 0;  // pixels
      std::uint64_t twice = 0;         // sum of 2 A + E over the full ones: at most 2 N s
    };
    std::vector<Sums> sums(limits.size());
    for (std::int64_t i = tops.offsets[r]; i < tops.offsets[r + 1]; ++i) {
      const auto value = static_cast<std::int64_t>(index.bin(tops.keys[i]) / 2);
      const auto twice = static_cast<std::uint64_t>(2 * ranks.above[value] + ranks.equal[value]);
      for (std::size_t l = 0; l < limits.size(); ++l) {
        const std::int64_t over = value - limits[l].full;
        sums[l].full += over >= 0;
        sums[l].twice += over >= 0 ? twice : 0;
        sums[l].cut += over == -1;
      }
    }
    const auto saturation = static_cast<double>(saturations.as<std::int64_t>()[r]);
    for (std::size_t l = 0; l < limits.size(); ++l) {
      const double area = static_cast<double>(sums[l].full) * limits[l].negatives - 0.5 * static_cast<double>(sums[l].twice) +
                          static_cast<double>(sums[l].cut) * limits[l].cut;
      const double share = area / (saturation * limits[l].negatives);
      shares[l * static_cast<std::size_t>(regions) + r] = std::clamp(share, 0.0, 1.0);
    }
  });
  return shares;
}

template <typename Key>
SweepInfo spro_area_of(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                       const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
  const Tops<Key> tops = top_keys<Key>(scores, offsets, saturations, threads);
  std::vector<Key> values = tops.keys;
  sweep::sort_distinct(values, threads);
  const Index<Key> index(std::move(values));
  const sweep::Counts counts = sweep::count(index, maps, covered, false, threads);
  if (counts.info.negatives == 0) return counts.info;
  const Ranks ranks = ranks_of(counts.bins);

  std::vector<Limit> cuts;
  for (std::int64_t l = 0; l < limits.size[0]; ++l) {
    const double limit = limits.as<double>()[l * limits.stride[0]];
    cuts.push_back(make_limit(ranks, limit * static_cast<double>(counts.info.negatives)));
  }
  std::vector<double> shares = region_shares(index, tops, ranks, cuts, saturations, threads);
  const std::int64_t regions = saturations.size[0];
  for (std::int64_t l = 0; l < limits.size[0]; ++l) {
    const auto begin = shares.begin() + l * regions, end = begin + regions;
    std::sort(begin, end);  // the order of regions must not show in the last bits
    double sum = 0;
    for (auto share = begin; share != end; ++share) sum += *share;
    areas.as<double>()[l] = sum / static_cast<double>(regions);
  }
  return counts.info;
}

}  // namespace

SweepInfo spro_area(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                    const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
  return sweep::with_key(maps, scores, [&](auto key) {
    return spro_area_of<decltype(key)>(maps, covered, scores, offsets, saturations, limits, areas, threads);
  });
}

namespace {

template <typename Key>
SweepInfo auroc_of(const Views& maps, const Views& labels, double* area, int threads) {
  const TensorView &map = maps[0], &label = labels[0];
  std::int64_t positives = 0;
  for (std::int64_t i = 0; i < map.size[1]; ++i) positives += sweep::is_true(label, i * label.stride[1]);
  const bool few_positives = positives <= map.size[1] - positives;

  std::vector<Key> few;  // the smaller class is sorted, the larger counted
  few.reserve(static_cast<std::size_t>(std::min(positives, map.size[1] - positives)));
  bool nan = false;
  sweep::visit_rows<Key>(map, &label, few_positives, 0, 1, [&](Key key) {
    nan |= sweep::is_nan(key);
    few.push_back(key);
  });
  std::vector<Key> values = few;
  sweep::sort_distinct(values, threads);
  const Index<Key> index(std::move(values));
  const sweep::Counts counts = sweep::count(index, maps, labels, !few_positives, threads);
  SweepInfo info{nan ? 0 : counts.info.nan_image, map.size[1] - positives};
  if (info.nan_image >= 0 || few.empty() || counts.info.negatives == 0) return info;

  const Ranks ranks = ranks_of(counts.bins);
  unsigned __int128 twice = 0;  // sum of 2 A + E: twice the pairs in which the larger class scores above, ties half
  for (const Key key : few) {
    const std::size_t value = index.bin(key) / 2;
    twice += static_cast<unsigned __int128>(2 * ranks.above[value] + ranks.equal[value]);
  }
  const unsigned __int128 pairs = static_cast<unsigned __int128>(few.size()) * counts.info.negatives;
  *area = static_cast<double>(few_positives ? 2 * pairs - twice : twice) / (2 * static_cast<double>(pairs));
  return info;
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
  const Tops<Key> tops = top_keys<Key>(scores, offsets, saturations, threads);
  std::vector<double> rise(index.values().size());  // of the overlap at each value, times the number of regions
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
    add_point(static_cast<double>(sweep::key_score(index.values()[i])));
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
