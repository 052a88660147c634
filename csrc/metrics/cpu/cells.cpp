// Cells: intervals with weights that bound where samples lie, joined where they are too many.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "metrics/cpu/order.h"
#include "thfr/metrics.h"

namespace thfr {
namespace sweep {
namespace {

struct Cell {
  Order hi, lo;
  std::int64_t weight;
};

// Higher first: by hi, then by lo.
inline bool before(const Cell& a, const Cell& b) { return a.hi != b.hi ? a.hi > b.hi : a.lo > b.lo; }

// Joins cells that come in order. Neighbours are joined up to a weight (`join`), cells that overlap up to another (`cap`), so
// that the bounds of cells stay where they are while samples come in. What lies in a cell that is full goes to the next layer,
// which joins its own: its cells start with half the weight and have room for twice as much more, so that few layers hold
// samples that come ever denser. As many cells as there are layers, no more, leave open on which side of a threshold they lie.
// Where the layers are too few, the tightest cell takes more than its cap: the bounds widen, and stay bounds.
class Joiner {
 public:
  Joiner(const CellLimits& limits, double total) : limits_(limits), total_(total) {}

  void push(const Cell& cell) {  // equal cells are one
    if (next_.weight > 0 && next_.hi == cell.hi && next_.lo == cell.lo) {
      next_.weight += cell.weight;
      return;
    }
    finish();
    next_ = cell;
  }
  void finish() {
    if (next_.weight == 0) return;
    place(next_);
    next_.weight = 0;
    if (static_cast<std::int64_t>(cells_.size()) > limits_.most) shrink();
  }
  double share() const { return limits_.share; }
  const std::vector<Cell>& cells() const { return cells_; }

 private:
  static constexpr std::size_t most_layers = 8;
  struct Layer {
    std::size_t last;  // its lowest cell
    double join, cap;  // weights up to which neighbours, and cells that overlap, are joined with it
  };

  void place(const Cell& cell) {
    join(cell);
    above_ += static_cast<double>(cell.weight);
  }

  void join(const Cell& cell) {
    for (Layer& layer : layers_) {
      const Cell& last = cells_[layer.last];
      const bool apart = cell.hi < last.lo, same = cell.hi == last.lo && cell.lo == last.hi;
      const double weight = static_cast<double>(last.weight + cell.weight);
      if (same || weight <= (apart ? layer.join : layer.cap)) return absorb(layer, cell);
      if (apart) {
        layer = open(cell, &layer - layers_.data());
        return;
      }
    }
    if (layers_.size() < most_layers) {
      layers_.push_back(open(cell, static_cast<std::ptrdiff_t>(layers_.size())));
    } else {
      absorb(tightest(cell), cell);
    }
  }

  void absorb(const Layer& layer, const Cell& cell) {
    Cell& last = cells_[layer.last];
    last.lo = std::min(last.lo, cell.lo);
    last.weight += cell.weight;
  }

  // Of cells that all overlap this one: the smallest that contains it, else the one that grows least.
  const Layer& tightest(const Cell& cell) const {
    const Layer* best = &layers_.front();
    for (const Layer& layer : layers_) {
      const Order lo = cells_[layer.last].lo, least = cells_[best->last].lo;
      if (lo <= cell.lo ? least > cell.lo || lo > least : least > cell.lo && lo < least) best = &layer;
    }
    return *best;
  }

  Layer open(const Cell& cell, std::ptrdiff_t layer) {
    cells_.push_back(cell);
    const double cap = limits_.share * (limits_.relative ? above_ : total_);
    return {cells_.size() - 1, std::ldexp(cap, -static_cast<int>(layer)), 2 * cap};
  }

  // The same again with larger shares, until a good part of the room is free.
  void shrink() {
    while (static_cast<std::int64_t>(cells_.size()) > limits_.most - limits_.most / 4) {
      limits_.share = std::max(1.5 * limits_.share, 1 / static_cast<double>(limits_.most));
      std::vector<Cell> cells;
      cells.swap(cells_);
      layers_.clear();
      above_ = 0;
      for (const Cell& cell : cells) place(cell);
    }
  }

  CellLimits limits_;
  double total_, above_ = 0;
  Cell next_{0, 0, 0};
  std::vector<Cell> cells_;  // in order of hi
  std::vector<Layer> layers_;
};

Cell cell_of(const TensorView& sketch, std::int64_t i) {
  const std::int64_t n = sketch.size[1], *at = sketch.as<const std::int64_t>() + i;
  return {at[0], at[n], at[2 * n]};
}

// The cells of some sketches, in order.
class Heads {
 public:
  explicit Heads(const Views& sketches) : sketches_(sketches), at_(sketches.size()) {}

  // Takes the highest cell, unless it comes after `bound`.
  bool pop_before(const Cell* bound, Cell& next) {
    std::int64_t* from = nullptr;
    for (std::size_t s = 0; s < sketches_.size(); ++s) {
      if (at_[s] == sketches_[s].size[1]) continue;
      const Cell cell = cell_of(sketches_[s], at_[s]);
      if (from == nullptr || before(cell, next)) next = cell, from = &at_[s];
    }
    if (from == nullptr || (bound != nullptr && before(*bound, next))) return false;
    ++*from;
    return true;
  }

 private:
  const Views& sketches_;
  std::vector<std::int64_t> at_;
};

// Samples at one end of their cells, highest first.
struct Samples {
  std::vector<std::pair<Order, std::int64_t>> at;
  double total = 0;

  Samples(const TensorView& cells, bool high) {
    const std::int64_t n = cells.size[1];
    at.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const Cell cell = cell_of(cells, i);
      at.emplace_back(high ? cell.hi : cell.lo, cell.weight);
      total += static_cast<double>(cell.weight);
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

Cells merge_cells(const Views& sketches, const TensorView& scores, CellLimits& limits, int threads) {
  double total = static_cast<double>(scores.size[0]);
  for (const TensorView& sketch : sketches) {
    for (std::int64_t i = 0; i < sketch.size[1]; ++i) total += static_cast<double>(sweep::cell_of(sketch, i).weight);
  }
  if (total > 9.2e18) throw std::overflow_error("merge_cells: the sum of all weights exceeds 2^63");
  sweep::Joiner joiner(limits, total);
  sweep::Heads heads(sketches);
  const auto push_before = [&](const sweep::Cell* bound) {
    for (sweep::Cell next{0, 0, 0}; heads.pop_before(bound, next);) joiner.push(next);
  };
  sweep::visit_sorted("merge_cells", scores, true, threads, [&](sweep::Order key, std::int64_t count) {
    const sweep::Cell single{key, key, count};
    push_before(&single);
    joiner.push(single);
  });
  push_before(nullptr);
  joiner.finish();
  limits.share = joiner.share();
  Cells cells;
  for (auto* row : {&cells.hi, &cells.lo, &cells.weight}) row->reserve(joiner.cells().size());
  for (const sweep::Cell& cell : joiner.cells()) {
    cells.hi.push_back(cell.hi), cells.lo.push_back(cell.lo), cells.weight.push_back(cell.weight);
  }
  return cells;
}

void cells_area(const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
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
