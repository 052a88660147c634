#include "retrieval/cpu/filter.h"

#include <algorithm>

namespace thfr {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();
static constexpr double kLeastSquare = 1e-30, kMostSquare = 1e30;
// 64 fp32 additions in a lane, a tree of four, the terms themselves, and room for what underflows and for fp64 rows made fp32.
static constexpr double kSquareError = 80 * 0x1p-24;
// The part of the rows' mean square that their mean must have for rows to be centred.
static constexpr double kOffsetShare = 0.99;

FilterRows::FilterRows(std::int64_t count)
    : metadata(at(count)),
      exact(at(count)),
      squares(at(count)),
      scale(at(count)),
      shift(at(count)),
      gain(at(count)),
      spread(at(count)),
      offset(at(count)) {}

// A few rows, of wide ones every so many columns.
struct Filter::Sample {
  double largest = 0;       // norm
  double mean_squared = 0;  // |mean|^2
  double squared_mean = 0;  // mean of |row|^2
};

Filter::Filter(const Rows& queries, const Rows& rows, Metric metric, bool few)
    : kernels_(active_retrieval_kernels()), queries_(queries), bank_(rows), metric_(metric) {
  const double width = static_cast<double>(rows.width);
  // 32 lanes of fp64 additions, a tree of five, and a few roundings more; doubled.
  rounding_ = (width / 32 + 64) * 0x1p-52;
  // Relative to the norms: a chain of kDepthBlock additions (and as many products), one addition a block, packing; 1 % for the
  // higher orders and the norms' own errors.
  const double chain = std::min(width, static_cast<double>(kDepthBlock));
  product_error_ = 1.01 * (chain + width / static_cast<double>(kDepthBlock) + 10) * 0x1p-24 + rounding_;
  slack_ = product_error_;

  const Sample seen = sample(rows);
  if (!few && seen.mean_squared > kOffsetShare * seen.squared_mean) {
    choose_centre();
    return;
  }
  const Sample asked = sample(queries);
  // The factors stay where a row that the filter takes is not extreme (RowMetadata), and where fp32 holds them.
  const int most = rows.dtype == DType::f64 ? 330 : 120;
  const auto towards_one = [&](double norm) {
    return norm > 0 ? std::ldexp(1.0, std::clamp(-std::ilogb(norm), -most, most)) : 1.0;
  };
  const double together = std::max(seen.largest, asked.largest);
  factor_[query] = towards_one(metric == Metric::l2 ? together : asked.largest);
  factor_[bank] = towards_one(metric == Metric::l2 ? together : seen.largest);
  if (metric == Metric::cosine) slack_ += 1.02 * kSquareError;
}

Filter::Sample Filter::sample(const Rows& rows) const {
  constexpr std::int64_t most = 16, columns = 2048;
  Rows part = rows;
  const std::int64_t step = (rows.width + columns - 1) / columns, count = std::min(rows.count, most);
  part.width = (rows.width + step - 1) / step;
  part.stride *= step;
  Sample found;
  std::vector<double> sum(at(part.width));
  double used = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = i * rows.count / count;
    RowMetadata metadata;
    if (!describe_row(kernels_, part, row, &metadata) || metadata.extreme || metadata.norm == 0) continue;
    const double pre = metric_ == Metric::cosine ? 1.0 / metadata.norm : 1.0;
    kernels_.accumulate(part, row, pre, sum.data());
    found.largest = std::max(found.largest, metadata.norm);
    found.squared_mean += pre * metadata.norm * pre * metadata.norm;
    ++used;
  }
  for (const double s : sum) found.mean_squared += s * s;
  found.mean_squared /= std::max(used, 1.0) * std::max(used, 1.0);
  found.squared_mean /= std::max(used, 1.0);
  return found;
}

// The mean of a few rows: any centre is right, a central one makes the bounds tight.
void Filter::choose_centre() {
  centre_.resize(at(bank_.width));
  const std::int64_t samples = std::min<std::int64_t>(bank_.count, 32);
  std::int64_t used = 0;
  for (std::int64_t s = 0; s < samples; ++s) {
    const std::int64_t row = s * bank_.count / samples;
    RowMetadata metadata;
    if (!describe_row(kernels_, bank_, row, &metadata) || metadata.extreme || metadata.norm == 0) continue;
    kernels_.accumulate(bank_, row, metric_ == Metric::cosine ? 1.0 / metadata.norm : 1.0, centre_.data());
    ++used;
  }
  double squared = 0;
  for (double& c : centre_) {
    c /= static_cast<double>(std::max<std::int64_t>(used, 1));
    squared += c * c;
  }
  centre_norm_ = std::sqrt(squared);
}

bool Filter::describe_plain(Side side, std::int64_t row, FilterRows& out, std::int64_t place) const {
  RowMetadata& metadata = out.metadata[at(place)];
  double &gain = out.gain[at(place)], &spread = out.spread[at(place)], &offset = out.offset[at(place)];
  const double squared = out.squares[at(place)];
  const bool cosine = metric_ == Metric::cosine;
  gain = 0;
  spread = cosine ? 1 : 0;
  offset = 0;
  if (!(squared >= kLeastSquare && squared <= kMostSquare)) {
    out.exact[at(place)] = true;
    if (!describe_row(kernels_, rows(side), row, &metadata)) return false;
    if (metadata.norm > 0) offset = kInfinity;
    return true;
  }
  const double inverse = 1.0 / factor_[side], norm = std::sqrt(squared);
  metadata = RowMetadata();
  metadata.norm = norm * inverse;
  out.exact[at(place)] = !cosine;
  gain = cosine ? 1.0 / norm : inverse;
  if (!cosine) spread = metadata.norm;
  if (metric_ == Metric::l2) offset = -metadata.norm * metadata.norm * (1 - kSquareError);
  return true;
}

bool Filter::describe_centred(Side side, std::int64_t row, FilterRows& out, std::int64_t place) const {
  RowMetadata& metadata = out.metadata[at(place)];
  double &scale = out.scale[at(place)], &shift = out.shift[at(place)];
  double &spread = out.spread[at(place)], &offset = out.offset[at(place)];
  double moment[3];
  kernels_.moments(rows(side), row, centre_.data(), moment);
  out.exact[at(place)] = true;
  if (!describe_row(kernels_, rows(side), row, moment[0], &metadata)) return false;
  scale = shift = spread = out.gain[at(place)] = 0;
  offset = kInfinity;
  if (metadata.extreme) return true;  // beyond the filter: an infinite bound

  const double pre = metric_ != Metric::cosine ? 1.0 : metadata.norm == 0 ? 0.0 : 1.0 / metadata.norm;
  const double size = pre * metadata.norm, along = pre * moment[1];
  // |y pre - c|^2, by differences where the bound itself needs it. Where it has cancelled, at least a millionth of the row.
  const double squared = metric_ == Metric::l2 ? moment[2] : std::max(0.0, size * size - 2 * along + centre_norm_ * centre_norm_);
  spread = std::sqrt(squared + std::max(1e-12, 8 * rounding_) * (size * size + centre_norm_ * centre_norm_));
  const double inverse = spread > 0 ? 1.0 / spread : 0.0;
  scale = pre * inverse;
  shift = inverse;
  out.gain[at(place)] = spread;
  offset = metric_ == Metric::l2 ? -squared * (1 - rounding_) : along + rounding_ * centre_norm_ * (spread + centre_norm_);
  if (side == query && metric_ != Metric::l2) offset -= centre_norm_ * centre_norm_ * (1 - 2 * rounding_);
  return true;
}

bool Filter::begin(Side side, std::int64_t first, std::int64_t count, FilterRows& known, std::int64_t place, BadRow& bad) const {
  for (std::int64_t i = 0; i < count; ++i) {
    known.squares[at(place + i)] = 0;
    if (!centre_.empty() && !describe_centred(side, first + i, known, place + i)) return bad.report(first + i), false;
  }
  return true;
}

bool Filter::end(Side side, std::int64_t first, std::int64_t count, FilterRows& known, std::int64_t place, BadRow& bad) const {
  for (std::int64_t i = 0; i < count && centre_.empty(); ++i) {
    if (!describe_plain(side, first + i, known, place + i)) return bad.report(first + i), false;
  }
  return true;
}

void Filter::pack(Side side, std::int64_t row, std::int64_t count, const FilterRows& known, std::int64_t place, double* squares,
                  std::int64_t d, std::int64_t run, int wide, int panel, float* out) const {
  const Packing job{rows(side),
                    row,
                    static_cast<int>(count),
                    wide,
                    panel,
                    d,
                    run,
                    out,
                    squares,
                    factor_[side],
                    known.scale.data() + place,
                    known.shift.data() + place,
                    centre_.data()};
  if (panel == 0) {
    centre_.empty() ? kernels_.lay(job) : kernels_.lay_centred(job);
  } else {
    centre_.empty() ? kernels_.pack(job) : kernels_.pack_centred(job);
  }
}

void Filter::few_products(std::int64_t first, std::int64_t count, FilterRows& known, const float* queries, float* products,
                          std::int64_t row) const {
  kernels_.few_products({bank_, first, count, factor_[bank], queries, queries_.count, products, row, known.squares.data()});
}

const RowMetadata& Filter::query_metadata(std::int64_t row, FilterRows& known, std::int64_t place) const {
  if (!known.exact[at(place)]) {
    describe_row(kernels_, queries_, row, &known.metadata[at(place)]);
    known.exact[at(place)] = true;
  }
  return known.metadata[at(place)];
}

double Filter::threshold(bool extreme, double key) const {
  if (extreme || key == -kInfinity) return -kInfinity;
  // A score that rounds to `key` is within half a unit in the last place of it; twice that, or the least float, is taken off.
  const bool wide = queries_.dtype == DType::f64;
  const double largest = wide ? std::numeric_limits<double>::max() : static_cast<double>(std::numeric_limits<float>::max());
  const double reached = std::min(key, largest), ulp = wide ? 0x1p-50 : 0x1p-22, least = wide ? 0.0 : 0x1p-125;
  const double lowest = reached - std::fabs(reached) * ulp - least;
  return metric_ == Metric::l2 ? -lowest * lowest * (1 + 4 * rounding_) : lowest;
}

std::int64_t Filter::select(const FilterRows& queries, std::int64_t q, const FilterRows& rows, std::int64_t count,
                            const float* products, double threshold, Neighbour* found) const {
  const double twice = metric_ == Metric::l2 ? 2.0 : 1.0;
  const Bounds job{products,
                   rows.gain.data(),
                   rows.spread.data(),
                   rows.offset.data(),
                   count,
                   twice * queries.gain[at(q)],
                   twice * queries.spread[at(q)] * slack_,
                   queries.offset[at(q)]};
  return kernels_.select(job, threshold, found);
}

}  // namespace thfr
