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
  const TensorView row = sweep::as_row(scores);
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

// The negatives of some groups together.
struct Negatives {
  std::int64_t total = 0;
  sweep::Ranks ranks;
};

Negatives negatives_of(std::uint64_t groups, const std::vector<Bins>& bins, const std::vector<std::int64_t>& counts) {
  Bins sum(bins.front().size());
  Negatives found;
  for (std::size_t g = 0; g < bins.size(); ++g) {
    if ((groups >> g & 1) == 0 || counts[g] == 0) continue;
    found.total += counts[g];
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += bins[g][i];
  }
  found.ranks = sweep::ranks_of(sum);
  return found;
}

// One region's share for each limit: of its `saturation` highest pixels.
void add_shares(const std::uint32_t* ranks, std::int64_t area, std::int64_t saturation,
                const std::vector<std::uint64_t>& its_twice, const std::vector<sweep::Limit>& limits, double* shares,
                std::int64_t step) {
  std::vector<std::uint32_t> tops;
  if (saturation < area) {
    tops.assign(ranks, ranks + area);
    std::nth_element(tops.begin(), tops.begin() + saturation, tops.end(), std::greater<std::uint32_t>());
    ranks = tops.data(), area = saturation;
  }
  std::vector<sweep::Share> sums(limits.size());
  constexpr std::int64_t ahead = 32;
  for (std::int64_t i = 0; i < area; ++i) {
    __builtin_prefetch(its_twice.data() + ranks[std::min(i + ahead, area - 1)]);
    const std::uint64_t twice = its_twice[ranks[i]];
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
  const std::vector<sweep::Limit> limits = sweep::make_limits(negatives.ranks, question.limits, negatives.total);
  const auto regions = static_cast<std::int64_t>(asked.size());
  std::vector<double> shares(limits.size() * asked.size());
  const int useful = sweep::useful_threads(static_cast<std::int64_t>(ranks.size()), threads);
  sweep::parallel_items(regions, useful, [&](std::int64_t i) {
    const std::int64_t r = asked[i];
    add_shares(ranks.data() + start[r], start[r + 1] - start[r], question.saturations.as<std::int64_t>()[r],
               negatives.ranks.twice, limits, shares.data() + i, regions);
  });
  sweep::write_means(shares, regions, question.areas);
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
    const Negatives negatives = negatives_of(question.groups, bins, figures.negatives);
    answer(question, ranks, offsets.as<std::int64_t>(), group_of_region, negatives, threads);
  }
  const Negatives all = negatives_of(~std::uint64_t{0}, bins, figures.negatives);
  if (all.total == 0 || figures.positives == 0) return figures;
  Pairs twice = 0;
  if (figures.positives == scores.size[0]) {
    for (const std::uint32_t rank : ranks) twice += all.ranks.twice[rank];
  } else {  // a pixel of two regions counts once
    const sweep::Counts once = sweep::count(index, maps, covered, true, threads);
    for (std::size_t i = 0; i < all.ranks.twice.size(); ++i)
      twice += static_cast<Pairs>(once.bins[2 * i + 1]) * all.ranks.twice[i];
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
