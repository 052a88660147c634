#include "cpu/retrieval_filter.h"

#include <algorithm>

namespace thfr {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

FilterRows::FilterRows(std::int64_t count)
    : facts(at(count)), scale(at(count)), shift(at(count)), spread(at(count)), offset(at(count)) {}

Filter::Filter(const Rows& queries, const Rows& bank, Metric metric)
    : kernels_(active_retrieval_kernels()), queries_(queries), bank_(bank), metric_(metric), centre_(at(bank.width)) {
  const double width = static_cast<double>(bank.width);
  // 32 lanes of fp64 additions, a tree of five, and a few roundings more; doubled.
  rounding_ = (width / 32 + 64) * 0x1p-52;
  // Unit vectors: a chain of depth_block additions (and as many products), one addition a block, packing; 1 % for the higher
  // orders.
  const double chain = std::min(width, static_cast<double>(depth_block));
  product_error_ = 1.01 * (chain + width / static_cast<double>(depth_block) + 10) * 0x1p-24 + rounding_;
  choose_centre();
}

// The mean of a few rows: any centre is right, a central one makes the bounds tight.
void Filter::choose_centre() {
  const std::int64_t samples = std::min<std::int64_t>(bank_.count, 32);
  std::int64_t used = 0;
  for (std::int64_t s = 0; s < samples; ++s) {
    const std::int64_t row = s * bank_.count / samples;
    RowFacts facts;
    if (!describe_row(kernels_, bank_, row, &facts) || facts.extreme || facts.norm == 0) continue;
    kernels_.accumulate(bank_, row, metric_ == Metric::cosine ? 1.0 / facts.norm : 1.0, centre_.data());
    ++used;
  }
  double squared = 0;
  for (double& c : centre_) {
    c /= static_cast<double>(std::max<std::int64_t>(used, 1));
    squared += c * c;
  }
  centre_norm_ = std::sqrt(squared);
}

bool Filter::describe(const Rows& rows, std::int64_t row, FilterRows& out, std::int64_t place) const {
  RowFacts& facts = out.facts[at(place)];
  double &scale = out.scale[at(place)], &shift = out.shift[at(place)];
  double &spread = out.spread[at(place)], &offset = out.offset[at(place)];
  double moment[3];
  kernels_.moments(rows, row, centre_.data(), moment);
  if (!describe_row(kernels_, rows, row, moment[0], &facts)) return false;
  scale = shift = spread = 0;
  offset = kInfinity;
  if (facts.extreme) return true;  // beyond the filter: an infinite bound

  const double pre = metric_ != Metric::cosine ? 1.0 : facts.norm == 0 ? 0.0 : 1.0 / facts.norm;
  const double size = pre * facts.norm, along = pre * moment[1];
  // |y pre - c|^2, by differences where the bound itself needs it. Where it has cancelled, at least a millionth of the row.
  const double squared = metric_ == Metric::l2 ? moment[2] : std::max(0.0, size * size - 2 * along + centre_norm_ * centre_norm_);
  spread = std::sqrt(squared + std::max(1e-12, 8 * rounding_) * (size * size + centre_norm_ * centre_norm_));
  const double inverse = spread > 0 ? 1.0 / spread : 0.0;
  scale = pre * inverse;
  shift = inverse;
  offset = metric_ == Metric::l2 ? -squared * (1 - rounding_) : along + rounding_ * centre_norm_ * (spread + centre_norm_);
  return true;
}

bool Filter::describe_query(std::int64_t row, FilterRows& out, std::int64_t place) const {
  if (!describe(queries_, row, out, place)) return false;
  if (metric_ != Metric::l2) out.offset[at(place)] -= centre_norm_ * centre_norm_ * (1 - 2 * rounding_);
  return true;
}

bool Filter::describe_bank_row(std::int64_t row, FilterRows& out, std::int64_t place) const {
  return describe(bank_, row, out, place);
}

Packing Filter::query_packing(std::int64_t first, std::int64_t count, const FilterRows& known, std::int64_t place,
                              std::int64_t depth_begin, std::int64_t depth, float* out) const {
  return {queries_,
          first,
          count,
          kernels_.query_panel,
          depth_begin,
          depth,
          known.scale.data() + place,
          known.shift.data() + place,
          centre_.data(),
          out};
}

Packing Filter::bank_packing(std::int64_t first, std::int64_t count, const FilterRows& known, std::int64_t depth_begin,
                             std::int64_t depth, float* out) const {
  return {bank_,          first, count, kernels_.bank_panel, depth_begin, depth, known.scale.data(), known.shift.data(),
          centre_.data(), out};
}

double Filter::threshold(const RowFacts& query, double key) const {
  if (query.extreme || key == -kInfinity) return -kInfinity;
  // A score that rounds to `key` is within half a unit in the last place of it; twice that, or the least float, is taken off.
  const bool wide = queries_.dtype == DType::f64;
  const double largest = wide ? std::numeric_limits<double>::max() : static_cast<double>(std::numeric_limits<float>::max());
  const double reached = std::min(key, largest), ulp = wide ? 0x1p-50 : 0x1p-22, least = wide ? 0.0 : 0x1p-125;
  const double lowest = reached - std::fabs(reached) * ulp - least;
  return metric_ == Metric::l2 ? -lowest * lowest * (1 + 4 * rounding_) : lowest;
}

std::int64_t Filter::select(const FilterRows& queries, std::int64_t q, const FilterRows& rows, std::int64_t count,
                            const float* products, double threshold, std::int32_t* places, double* bounds) const {
  const double weight = queries.spread[at(q)] * (metric_ == Metric::l2 ? 2.0 : 1.0);
  return kernels_.select(products, rows.spread.data(), rows.offset.data(), count, weight, product_error_, queries.offset[at(q)],
                         threshold, places, bounds);
}

}  // namespace thfr
