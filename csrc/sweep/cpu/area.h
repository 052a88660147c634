// From the counts of negatives to areas: what follows once the sweep's inner loop is done.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "sweep/cpu/index.h"
#include "sweep/cpu/rows.h"
#include "sweep/cpu/trap.h"

namespace thfr {
namespace sweep {

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
    const TensorView region = as_row(scores, start[r], start[r + 1], scores.dtype == DType::f64 ? 8 : 4);
    Key* to = tops.keys.data() + tops.offsets[r];
    if (kept == area) {
      visit_rows<Key>(region, nullptr, true, 0, 1, [&](Key key) { *to++ = key; });
      return;
    }
    std::vector<Key> all;
    all.reserve(static_cast<std::size_t>(area));
    visit_rows<Key>(region, nullptr, true, 0, 1, [&](Key key) { all.push_back(key); });
    std::nth_element(all.begin(), all.begin() + kept, all.end(), std::greater<Key>());
    std::copy_n(all.begin(), kept, to);
  });
  return tops;
}

// At each distinct value: negatives above (A) and at it (E).
struct Ranks {
  std::vector<std::uint64_t> twice;  // 2 A + E
  std::vector<std::uint64_t> equal;  // E

  double above(std::int64_t value) const { return static_cast<double>((twice[value] - equal[value]) / 2); }
  double reached(std::int64_t value) const { return static_cast<double>((twice[value] + equal[value]) / 2); }  // A + E
};

// From bins as of Index::bin.
inline Ranks ranks_of(const std::vector<std::uint64_t>& bins) {
  const std::size_t values = bins.size() / 2;
  Ranks ranks{std::vector<std::uint64_t>(values), std::vector<std::uint64_t>(values)};
  std::uint64_t above = bins.back();
  for (std::size_t i = values; i-- > 0;) {
    ranks.equal[i] = bins[2 * i + 1];
    ranks.twice[i] = 2 * above + ranks.equal[i];
    above += ranks.equal[i] + bins[2 * i];
  }
  return ranks;
}

// One limit: values from `full` up lie inside it whole; the one before may be cut, each of its pixels then adds `cut`.
struct Limit {
  double negatives;  // J
  std::int64_t full;
  double cut;
};

inline Limit make_limit(const Ranks& ranks, double negatives) {
  const auto values = static_cast<std::int64_t>(ranks.twice.size());
  Limit limit{negatives, values, 0};
  std::int64_t low = 0;  // A + E falls as values rise
  while (low < limit.full) {
    const std::int64_t middle = low + (limit.full - low) / 2;
    if (ranks.reached(middle) <= negatives) {
      limit.full = middle;
    } else {
      low = middle + 1;
    }
  }
  if (limit.full > 0) {
    const double rest = negatives - ranks.above(limit.full - 1);
    if (rest > 0) limit.cut = rest * rest / (2 * static_cast<double>(ranks.equal[limit.full - 1]));
  }
  return limit;
}

// What a pixel of a region adds to its sums for each limit.
struct Share {
  std::int64_t full = 0, cut = 0;  // pixels
  std::uint64_t twice = 0;         // sum of 2 A + E over the full ones: at most 2 N s

  void add(std::int64_t value, std::uint64_t its_twice, const Limit& limit) {
    const std::int64_t over = value - limit.full;
    full += over >= 0;
    twice += over >= 0 ? its_twice : 0;
    cut += over == -1;
  }
  // 0 to 1
  double of(const Limit& limit, double saturation) const {
    const double area =
        static_cast<double>(full) * limit.negatives - 0.5 * static_cast<double>(twice) + static_cast<double>(cut) * limit.cut;
    return std::clamp(area / (saturation * limit.negatives), 0.0, 1.0);
  }
};

// shares[l * regions + r]: region r's area up to limits[l], over the limit.
template <typename Key>
std::vector<double> region_shares(const Index<Key>& index, const Tops<Key>& tops, const Ranks& ranks,
                                  const std::vector<Limit>& limits, const TensorView& saturations, int threads) {
  const std::int64_t regions = saturations.size[0];
  std::vector<double> shares(limits.size() * static_cast<std::size_t>(regions));
  parallel_items(regions, useful_threads(static_cast<std::int64_t>(tops.keys.size()), threads), [&](std::int64_t r) {
    std::vector<Share> sums(limits.size());
    constexpr std::int64_t ahead = 64;  // the ranks of so many pixels first, so that none waits alone for memory
    std::size_t value[ahead];
    for (std::int64_t i = tops.offsets[r]; i < tops.offsets[r + 1]; i += ahead) {
      const std::int64_t n = std::min(ahead, tops.offsets[r + 1] - i);
      for (std::int64_t j = 0; j < n; ++j) index.prefetch(tops.keys[i + j]);
      for (std::int64_t j = 0; j < n; ++j) {
        value[j] = index.bin(tops.keys[i + j]) / 2;
        __builtin_prefetch(ranks.twice.data() + value[j]);
      }
      for (std::size_t l = 0; l < limits.size(); ++l) {
        for (std::int64_t j = 0; j < n; ++j) sums[l].add(static_cast<std::int64_t>(value[j]), ranks.twice[value[j]], limits[l]);
      }
    }
    const auto saturation = static_cast<double>(saturations.as<std::int64_t>()[r]);
    for (std::size_t l = 0; l < limits.size(); ++l) {
      shares[l * static_cast<std::size_t>(regions) + r] = sums[l].of(limits[l], saturation);
    }
  });
  return shares;
}

// areas[l]: the mean of shares [limits,regions]. They are sorted first: the order of regions must not show in the last bits.
inline void write_means(std::vector<double>& shares, std::int64_t regions, const TensorView& areas) {
  for (std::int64_t l = 0; l < areas.size[0]; ++l) {
    const auto begin = shares.begin() + l * regions, end = begin + regions;
    std::sort(begin, end);
    areas.as<double>()[l] = std::accumulate(begin, end, 0.0) / static_cast<double>(regions);
  }
}

inline std::vector<Limit> make_limits(const Ranks& ranks, const TensorView& limits, std::int64_t negatives) {
  std::vector<Limit> made;
  for (std::int64_t l = 0; l < limits.size[0]; ++l) {
    made.push_back(make_limit(ranks, limits.as<double>()[l * limits.stride[0]] * static_cast<double>(negatives)));
  }
  return made;
}

// areas[l] = AU(limits[l]). bins: of the negatives, as of Index::bin.
template <typename Key>
void write_areas(const Index<Key>& index, const Tops<Key>& tops, const std::vector<std::uint64_t>& bins, std::int64_t negatives,
                 const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
  const Ranks ranks = ranks_of(bins);
  const std::vector<Limit> cuts = make_limits(ranks, limits, negatives);
  std::vector<double> shares = region_shares(index, tops, ranks, cuts, saturations, threads);
  write_means(shares, saturations.size[0], areas);
}

}  // namespace sweep
}  // namespace thfr
