// Many figures of one set of images from a single ranking: every pixel outside of regions is looked up once.
#include "thfr/sweep.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "sweep/cpu/area.h"
#include "sweep/cpu/count.h"
#include "sweep/cpu/sort.h"

namespace thfr {
namespace {

using sweep::Index;

using Bins = std::vector<std::uint64_t>;

template <typename Key>
std::vector<Key> keys_of(const TensorView& scores, int threads) {
  std::vector<Key> keys(static_cast<std::size_t>(scores.size[0]));
  const std::int64_t pieces = sweep::useful_threads(scores.size[0], threads);
  TensorView row = scores;
  row.dims = 2;
  row.size[0] = 1, row.size[1] = scores.size[0];
  row.stride[0] = 0, row.stride[1] = scores.stride[0];
  sweep::parallel_items(pieces, threads, [&](std::int64_t piece) {
    const std::int64_t begin = scores.size[0] * piece / pieces, end = scores.size[0] * (piece + 1) / pieces;
    Key* to = keys.data() + begin;
    sweep::visit_pixels<Key>(row, nullptr, true, 0, begin, end - begin, [&](Key key) { *to++ = key; });
  });
  return keys;
}

// The rank of each of the scores among the distinct ones.
template <typename Key>
std::vector<std::uint32_t> ranks_among(const Index<Key>& index, const TensorView& scores, int threads) {
  const std::vector<Key> keys = keys_of<Key>(scores, threads);
  std::vector<std::uint32_t> ranks(keys.size());
  const auto n = static_cast<std::int64_t>(keys.size());
  const std::int64_t pieces = sweep::useful_threads(n, threads);
  sweep::parallel_items(pieces, threads, [&](std::int64_t piece) {
    constexpr std::int64_t ahead = 32;
    const std::int64_t begin = n * piece / pieces, end = n * (piece + 1) / pieces;
    for (std::int64_t i = begin; i < end; ++i) {
      index.prefetch(keys[std::min(i + ahead, end - 1)]);
      ranks[i] = static_cast<std::uint32_t>(index.bin(keys[i]) / 2);
    }
  });
  return ranks;
}

// Of the negatives of some groups together: how many there are, and at each distinct value 2 A + E of those above and at it.
struct Negatives {
  std::int64_t total = 0;
  std::vector<const Bins*> bins;
  std::vector<std::uint64_t> twice;

  std::uint64_t equal(std::size_t value) const {
    std::uint64_t sum = 0;
    for (const Bins* one : bins) sum += (*one)[2 * value + 1];
    return sum;
  }
  std::uint64_t above(std::size_t value) const { return (twice[value] - equal(value)) / 2; }
};

Negatives negatives_of(std::uint64_t groups, const std::vector<Bins>& bins, const std::vector<std::int64_t>& counts,
                       std::size_t values) {
  Negatives found;
  for (std::size_t g = 0; g < bins.size(); ++g) {
    if ((groups >> g & 1) == 0 || counts[g] == 0) continue;
    found.total += counts[g];
    found.bins.push_back(&bins[g]);
  }
  found.twice.resize(values);
  if (found.total == 0) return found;
  std::uint64_t above = 0;
  for (const Bins* one : found.bins) above += one->back();
  for (std::size_t i = values; i-- > 0;) {
    const std::uint64_t equal = found.equal(i);
    found.twice[i] = 2 * above + equal;
    above += equal;
    for (const Bins* one : found.bins) above += (*one)[2 * i];
  }
  return found;
}

sweep::Limit limit_of(const Negatives& negatives, double limit) {
  sweep::Limit made{limit * static_cast<double>(negatives.total), static_cast<std::int64_t>(negatives.twice.size()), 0};
  std::int64_t low = 0;  // A + E falls as values rise
  while (low < made.full) {
    const std::int64_t middle = low + (made.full - low) / 2;
    const auto at = static_cast<std::size_t>(middle);
    if (static_cast<double>(negatives.above(at) + negatives.equal(at)) <= made.negatives) {
      made.full = middle;
    } else {
      low = middle + 1;
    }
  }
  if (made.full > 0) {
    const auto before = static_cast<std::size_t>(made.full - 1);
    const double rest = made.negatives - static_cast<double>(negatives.above(before));
    if (rest > 0) made.cut = rest * rest / (2 * static_cast<double>(negatives.equal(before)));
  }
  return made;
}

// One region's share for each limit: of its `saturation` highest pixels.
void add_shares(const std::uint32_t* ranks, std::int64_t area, std::int64_t saturation, const Negatives& negatives,
                const std::vector<sweep::Limit>& limits, double* shares, std::int64_t step) {
  std::vector<std::uint32_t> tops;
  if (saturation < area) {
    tops.assign(ranks, ranks + area);
    std::nth_element(tops.begin(), tops.begin() + saturation, tops.end(), std::greater<std::uint32_t>());
    ranks = tops.data(), area = saturation;
  }
  std::vector<sweep::Share> sums(limits.size());
  constexpr std::int64_t ahead = 32;
  for (std::int64_t i = 0; i < area; ++i) {
    __builtin_prefetch(negatives.twice.data() + ranks[std::min(i + ahead, area - 1)]);
    const std::uint64_t twice = negatives.twice[ranks[i]];
    for (std::size_t l = 0; l < limits.size(); ++l) sums[l].add(ranks[i], twice, limits[l]);
  }
  for (std::size_t l = 0; l < limits.size(); ++l) {
    shares[static_cast<std::int64_t>(l) * step] = sums[l].of(limits[l], static_cast<double>(saturation));
  }
}

void answer(const SweepQuestion& question, const std::vector<std::uint32_t>& ranks, const std::int64_t* start,
            const std::int64_t* group_of_region, const Negatives& negatives, int threads) {
  std::vector<std::int64_t> asked;
  for (std::int64_t r = 0; r < question.saturations.size[0]; ++r) {
    if ((question.groups >> group_of_region[r] & 1) != 0) asked.push_back(r);
  }
  if (asked.empty() || negatives.total == 0) return;
  std::vector<sweep::Limit> limits;
  for (std::int64_t l = 0; l < question.limits.size[0]; ++l) {
    limits.push_back(limit_of(negatives, question.limits.as<double>()[l]));
  }
  const auto regions = static_cast<std::int64_t>(asked.size());
  std::vector<double> shares(limits.size() * asked.size());
  const int useful = sweep::useful_threads(static_cast<std::int64_t>(ranks.size()), threads);
  sweep::parallel_items(regions, useful, [&](std::int64_t i) {
    const std::int64_t r = asked[i];
    add_shares(ranks.data() + start[r], start[r + 1] - start[r], question.saturations.as<std::int64_t>()[r], negatives, limits,
               shares.data() + i, regions);
  });
  for (std::size_t l = 0; l < limits.size(); ++l) {
    const auto begin = shares.begin() + static_cast<std::int64_t>(l) * regions, end = begin + regions;
    std::sort(begin, end);  // the order of regions must not show in the last bits
    double sum = 0;
    for (auto share = begin; share != end; ++share) sum += *share;
    question.areas.as<double>()[l] = sum / static_cast<double>(regions);
  }
}

// Twice the pairs of a pixel in a region and one outside in which the latter is higher, ties half.
using Pairs = unsigned __int128;

template <typename Key>
SweepFigures figures_of(const Views& maps, const Views& covered, const std::int64_t* group_of_image, int groups,
                        const TensorView& scores, const TensorView& offsets, const std::int64_t* group_of_region,
                        const std::vector<SweepQuestion>& questions, int threads) {
  SweepFigures figures;
  std::vector<Key> values = keys_of<Key>(scores, threads);
  sweep::sort_distinct(values, threads);
  if (!values.empty() && (sweep::is_nan(values.front()) || sweep::is_nan(values.back()))) {
    figures.nan_image = static_cast<std::int64_t>(maps.size());
    return figures;
  }
  const Index<Key> index(std::move(values));
  std::vector<Bins> bins;
  for (int g = 0; g < groups; ++g) {
    Views own, marks;
    for (std::size_t i = 0; i < maps.size(); ++i) {
      if (group_of_image[i] == g) own.push_back(maps[i]), marks.push_back(covered[i]);
    }
    sweep::Counts outside{Bins(index.bins()), {}};
    if (!own.empty()) outside = sweep::count(index, own, marks, false, threads);
    for (std::size_t i = 0, n = 0; outside.info.nan_image >= 0 && i < maps.size(); ++i) {
      if (group_of_image[i] != g || static_cast<std::int64_t>(n++) != outside.info.nan_image) continue;
      const auto nan = static_cast<std::int64_t>(i);
      figures.nan_image = figures.nan_image < 0 ? nan : std::min(figures.nan_image, nan);
    }
    std::int64_t pixels = 0;
    for (const TensorView& map : own) pixels += map.elements();
    figures.positives += pixels - outside.info.negatives;
    figures.negatives.push_back(outside.info.negatives);
    bins.push_back(std::move(outside.bins));
  }
  if (figures.nan_image >= 0) return figures;

  const std::vector<std::uint32_t> ranks = ranks_among(index, scores, threads);
  for (const SweepQuestion& question : questions) {
    const Negatives negatives = negatives_of(question.groups, bins, figures.negatives, index.size());
    answer(question, ranks, offsets.as<std::int64_t>(), group_of_region, negatives, threads);
  }
  const Negatives all = negatives_of(~std::uint64_t{0}, bins, figures.negatives, index.size());
  if (all.total == 0 || figures.positives == 0) return figures;
  Pairs twice = 0;
  if (figures.positives == scores.size[0]) {
    for (const std::uint32_t rank : ranks) twice += all.twice[rank];
  } else {  // a pixel of two regions counts once
    const sweep::Counts once = sweep::count(index, maps, covered, true, threads);
    for (std::size_t i = 0; i < all.twice.size(); ++i) twice += static_cast<Pairs>(once.bins[2 * i + 1]) * all.twice[i];
  }
  const Pairs pairs = static_cast<Pairs>(figures.positives) * static_cast<Pairs>(all.total);
  figures.auroc = static_cast<double>(2 * pairs - twice) / (2 * static_cast<double>(pairs));
  return figures;
}

}  // namespace

SweepFigures sweep_figures(const Views& maps, const Views& covered, const TensorView& image_groups, int groups,
                           const TensorView& scores, const TensorView& offsets, const TensorView& region_groups,
                           const std::vector<SweepQuestion>& questions, int threads) {
  return sweep::with_key(maps, scores, [&](auto key) {
    return figures_of<decltype(key)>(maps, covered, image_groups.as<std::int64_t>(), groups, scores, offsets,
                                     region_groups.as<std::int64_t>(), questions, threads);
  });
}

}  // namespace thfr
