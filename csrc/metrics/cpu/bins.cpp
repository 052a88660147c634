// Bins: intervals with weights that bound where samples lie, joined where they are too many.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "metrics/cpu/order.h"
#include "thfr/metrics.h"

namespace thfr {
namespace sweep {
namespace {

struct Bin {
  Order hi, lo;
  std::int64_t weight;
};

// Higher first: by hi, then by lo.
inline bool before(const Bin& a, const Bin& b) { return a.hi != b.hi ? a.hi > b.hi : a.lo > b.lo; }

// Joins bins that come in order. Neighbours are joined up to a weight (`join`), bins that overlap up to another (`cap`), so
// that the bounds of bins stay where they are while samples come in. What lies in a bin that is full goes to the next layer,
// which joins its own: its bins start with half the weight and have room for twice as much more, so that few layers hold
// samples that come ever denser. As many bins as there are layers, no more, leave open on which side of a threshold they lie.
// Where the layers are too few, the tightest bin takes more than its cap: the bounds widen, and stay bounds.
class Joiner {
 public:
  Joiner(const BinLimits& limits, double total) : limits_(limits), total_(total) {}

  void push(const Bin& bin) {  // equal bins are one
    if (next_.weight > 0 && next_.hi == bin.hi && next_.lo == bin.lo) {
      next_.weight += bin.weight;
      return;
    }
    finish();
    next_ = bin;
  }
  void finish() {
    if (next_.weight == 0) return;
    place(next_);
    next_.weight = 0;
    if (static_cast<std::int64_t>(bins_.size()) > limits_.most) shrink();
  }
  double share() const { return limits_.share; }
  const std::vector<Bin>& bins() const { return bins_; }

 private:
  static constexpr std::size_t most_layers = 8;
  struct Layer {
    std::size_t last;  // its lowest bin
    double join, cap;  // weights up to which neighbours, and bins that overlap, are joined with it
  };

  void place(const Bin& bin) {
    join(bin);
    above_ += static_cast<double>(bin.weight);
  }

  void join(const Bin& bin) {
    for (Layer& layer : layers_) {
      const Bin& last = bins_[layer.last];
      const bool apart = bin.hi < last.lo, same = bin.hi == last.lo && bin.lo == last.hi;
      const double weight = static_cast<double>(last.weight + bin.weight);
      if (same || weight <= (apart ? layer.join : layer.cap)) return absorb(layer, bin);
      if (apart) {
        layer = open(bin, &layer - layers_.data());
        return;
      }
    }
    if (layers_.size() < most_layers) {
      layers_.push_back(open(bin, static_cast<std::ptrdiff_t>(layers_.size())));
    } else {
      absorb(tightest(bin), bin);
    }
  }

  void absorb(const Layer& layer, const Bin& bin) {
    Bin& last = bins_[layer.last];
    last.lo = std::min(last.lo, bin.lo);
    last.weight += bin.weight;
  }

  // Of bins that all overlap this one: the smallest that contains it, else the one that grows least.
  const Layer& tightest(const Bin& bin) const {
    const Layer* best = &layers_.front();
    for (const Layer& layer : layers_) {
      const Order lo = bins_[layer.last].lo, least = bins_[best->last].lo;
      if (lo <= bin.lo ? least > bin.lo || lo > least : least > bin.lo && lo < least) best = &layer;
    }
    return *best;
  }

  Layer open(const Bin& bin, std::ptrdiff_t layer) {
    bins_.push_back(bin);
    const double cap = limits_.share * (limits_.relative ? above_ : total_);
    return {bins_.size() - 1, std::ldexp(cap, -static_cast<int>(layer)), 2 * cap};
  }

  // The same again with larger shares, until a good part of the room is free.
  void shrink() {
    while (static_cast<std::int64_t>(bins_.size()) > limits_.most - limits_.most / 4) {
      limits_.share = std::max(1.5 * limits_.share, 1 / static_cast<double>(limits_.most));
      std::vector<Bin> bins;
      bins.swap(bins_);
      layers_.clear();
      above_ = 0;
      for (const Bin& bin : bins) place(bin);
    }
  }

  BinLimits limits_;
  double total_, above_ = 0;
  Bin next_{0, 0, 0};
  std::vector<Bin> bins_;  // in order of hi
  std::vector<Layer> layers_;
};

Bin bin_of(const TensorView& sketch, std::int64_t i) {
  const std::int64_t n = sketch.size[1], *at = sketch.as<const std::int64_t>() + i;
  return {at[0], at[n], at[2 * n]};
}

// The bins of some sketches, in order.
class Heads {
 public:
  explicit Heads(const Views& sketches) : sketches_(sketches), at_(sketches.size()) {}

  // Takes the highest bin, unless it comes after `bound`.
  bool pop_before(const Bin* bound, Bin& next) {
    std::int64_t* from = nullptr;
    for (std::size_t s = 0; s < sketches_.size(); ++s) {
      if (at_[s] == sketches_[s].size[1]) continue;
      const Bin bin = bin_of(sketches_[s], at_[s]);
      if (from == nullptr || before(bin, next)) next = bin, from = &at_[s];
    }
    if (from == nullptr || (bound != nullptr && before(*bound, next))) return false;
    ++*from;
    return true;
  }

 private:
  const Views& sketches_;
  std::vector<std::int64_t> at_;
};

// Samples at one end of their bins, highest first.
struct Samples {
  std::vector<std::pair<Order, std::int64_t>> at;
  double total = 0;

  Samples(const TensorView& bins, bool high) {
    const std::int64_t n = bins.size[1];
    at.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const Bin bin = bin_of(bins, i);
      at.emplace_back(high ? bin.hi : bin.lo, bin.weight);
      total += static_cast<double>(bin.weight);
    }
    if (!high) std::sort(at.begin(), at.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  }
};

// The area as thfr/sweep.h tells it, with weights, in units of the positives' weight.
double area(const Samples& negatives, const Samples& positives, double limit) {
  const double kept = limit * negatives.total;
  long double sum = 0;
  std::size_t next = 0;
  std::int64_t above = 0, equal = 0;
  Order level = 0;
  bool any = false;
  for (const auto& [score, weight] : positives.at) {
    if (!any || score != level) {
      above += equal, equal = 0, level = score, any = true;
      for (; next < negatives.at.size() && negatives.at[next].first > score; ++next) above += negatives.at[next].second;
      for (; next < negatives.at.size() && negatives.at[next].first == score; ++next) equal += negatives.at[next].second;
    }
    const double a = static_cast<double>(above), e = static_cast<double>(equal);
    if (a >= kept) break;
    const double step = a + e <= kept ? kept - a - e / 2 : (kept - a) * (kept - a) / (2 * e);
    sum += static_cast<long double>(weight) * step;
  }
  return static_cast<double>(sum / kept);
}

}  // namespace
}  // namespace sweep

Bins merge_bins(const Views& sketches, const TensorView& scores, BinLimits& limits, int threads) {
  double total = static_cast<double>(scores.size[0]);
  for (const TensorView& sketch : sketches) {
    for (std::int64_t i = 0; i < sketch.size[1]; ++i) total += static_cast<double>(sweep::bin_of(sketch, i).weight);
  }
  if (total > 9.2e18) throw std::overflow_error("merge_bins: the sum of all weights exceeds 2^63");
  sweep::Joiner joiner(limits, total);
  sweep::Heads heads(sketches);
  const auto push_before = [&](const sweep::Bin* bound) {
    for (sweep::Bin next{0, 0, 0}; heads.pop_before(bound, next);) joiner.push(next);
  };
  sweep::visit_sorted("merge_bins", scores, threads, [&](sweep::Order key, std::int64_t count) {
    const sweep::Bin single{key, key, count};
    push_before(&single);
    joiner.push(single);
  });
  push_before(nullptr);
  joiner.finish();
  limits.share = joiner.share();
  Bins bins;
  for (auto* row : {&bins.hi, &bins.lo, &bins.weight}) row->reserve(joiner.bins().size());
  for (const sweep::Bin& bin : joiner.bins()) {
    bins.hi.push_back(bin.hi), bins.lo.push_back(bin.lo), bins.weight.push_back(bin.weight);
  }
  return bins;
}

void bins_area(const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
               const TensorView& bounds) {
  const std::int64_t count = limits.size[0];
  for (const bool high : {false, true}) {
    const sweep::Samples below(negatives, !high), above(positives, high);
    for (std::int64_t l = 0; l < count; ++l) {
      const double limit = limits.as<double>()[l * limits.stride[0]];
      bounds.as<double>()[(high ? count : 0) + l] = sweep::area(below, above, limit) / total;
    }
  }
}

}  // namespace thfr
