// Nearest templates and the greedy coreset against the definition in extended precision.
#include "thfr/retrieval.h"

#include <string>

#include "tensors.h"

using namespace thfr;
using namespace thfr_test;

namespace {

constexpr Metric metrics[] = {Metric::cosine, Metric::l2, Metric::dot};

// The score of two rows; `size` is what an error of its sum is relative to.
struct Score {
  long double value = 0, size = 0;

  Score(const double* query, const double* row, std::int64_t width, Metric metric) {
    long double xy = 0, xx = 0, yy = 0, apart = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const long double x = query[d], y = row[d];
      xy += x * y, xx += x * x, yy += y * y, apart += (x - y) * (x - y);
    }
    const long double norms = std::sqrt(xx) * std::sqrt(yy);
    if (metric == Metric::l2) {
      value = size = std::sqrt(apart);
    } else if (metric == Metric::dot) {
      value = xy, size = norms;
    } else {
      value = norms == 0 ? 0 : xy / norms, size = 1;
    }
  }

  // fp32: one rounding of a sum in fp64. A score beyond the range is infinite.
  double rounded(bool wide) const { return wide ? static_cast<double>(value) : static_cast<float>(value); }
  double tolerance(bool wide) const {
    if (wide) return 1e-12 * static_cast<double>(size) + 1e-323;
    return 1.3e-7 * std::fabs(static_cast<double>(value)) + 1e-13 * static_cast<double>(size) + 1.5e-45;
  }
};

std::vector<double> numbers(const Tensor& tensor) {
  std::vector<double> all;
  for (std::int64_t i = 0; i < tensor.elements(); ++i) all.push_back(tensor[i]);
  return all;
}

// Every score is that of its row, the order is right, ties rise by row, and no row that was left out is better.
void check_nearest(const Tensor& queries, const Tensor& bank, std::int64_t k, Metric metric, const Tensor* exclude) {
  const std::int64_t count = queries.view().size[0], rows = bank.view().size[0], width = bank.view().size[1];
  const bool wide = queries.view().dtype == DType::f64;
  Tensor scores(wide ? DType::f64 : DType::f32, {count, k}), indices(DType::i64, {count, k});
  NonFinite problem;
  for_threads({&scores, &indices}, [&](int threads) {
    problem = nearest_templates(queries.view(), bank.view(), k, metric, exclude == nullptr ? nullptr : &exclude->view(),
                                scores.view(), indices.view(), threads);
  });
  CHECK(problem.argument == nullptr);
  const std::vector<double> x = numbers(queries), y = numbers(bank);
  const auto exact = [&](std::int64_t q, std::int64_t n) { return Score(&x[q * width], &y[n * width], width, metric); };
  const double sign = metric == Metric::l2 ? -1 : 1;
  for (std::int64_t q = 0; q < count; ++q) {
    std::vector<bool> taken(static_cast<std::size_t>(rows));
    if (exclude != nullptr && (*exclude)[q] >= 0) taken[static_cast<std::size_t>((*exclude)[q])] = true;
    for (std::int64_t j = 0; j < k; ++j) {
      const auto n = static_cast<std::int64_t>(indices[q * k + j]);
      const double score = scores[q * k + j];
      CHECK(n >= 0 && n < rows && !taken[static_cast<std::size_t>(n)]);
      if (n < 0 || n >= rows) return;
      taken[static_cast<std::size_t>(n)] = true;
      const Score expected = exact(q, n);
      CHECK(close(score, expected.rounded(wide), expected.tolerance(wide)));
      if (j == 0) continue;
      const double before = scores[q * k + j - 1];
      CHECK(sign * before >= sign * score);
      if (before == score) CHECK(indices[q * k + j - 1] < static_cast<double>(n));
    }
    const double last = scores[q * k + k - 1];
    std::int64_t better = 0;
    for (std::int64_t n = 0; n < rows; ++n) {
      if (taken[static_cast<std::size_t>(n)]) continue;
      const Score left_out = exact(q, n);
      better += sign * left_out.rounded(wide) > sign * last + left_out.tolerance(wide);
    }
    CHECK(better == 0);
  }
}

Tensor excluded_rows(std::int64_t count, std::int64_t rows, Random& random) {
  Tensor exclude(DType::i64, {count});
  exclude.fill([&](std::int64_t) { return static_cast<double>(random() % static_cast<std::uint64_t>(rows + 1)) - 1; });
  return exclude;
}

struct Sides {
  DType queries, bank;
};
constexpr Sides sides[] = {{DType::f32, DType::f32},   {DType::f64, DType::f64}, {DType::f16, DType::f16},
                           {DType::bf16, DType::bf16}, {DType::f32, DType::f16}, {DType::f32, DType::bf16}};

// Two pairs of dtypes, in turn: all of them are seen with each shape and kind.
void check_some(const Sizes& shape, std::int64_t k, Kind kind, Layout layout, Random& random) {
  const std::int64_t count = shape[0], rows = shape[1], width = shape[2];
  static std::size_t turn = 0;
  for (int i = 0; i < 2; ++i) {
    const Sides& side = sides[turn++ % 6];
    at_case("Q " + std::to_string(count) + " N " + std::to_string(rows) + " D " + std::to_string(width) + " dtypes " +
            std::to_string(static_cast<int>(side.queries)) + " " + std::to_string(static_cast<int>(side.bank)) + " kind " +
            std::to_string(static_cast<int>(kind)) + " layout " + std::to_string(static_cast<int>(layout)));
    const Tensor queries = random_tensor(side.queries, {count, width}, layout, kind, random);
    const Tensor bank = random_tensor(side.bank, {rows, width}, layout, kind, random);
    const Tensor exclude = excluded_rows(count, rows, random);
    for (const Metric metric : metrics) {
      check_nearest(queries, bank, k, metric, nullptr);
      if (k < rows) check_nearest(queries, bank, k, metric, &exclude);
    }
  }
}

}  // namespace

TEST(few_queries) {
  Random random(1);
  for (const Kind kind : kinds) {
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::gaps}) {
      check_some({1, 1, 1}, 1, kind, layout, random);
      check_some({3, 37, 5}, 4, kind, layout, random);
      check_some({8, 19, 67}, 19, kind, layout, random);
    }
  }
}

TEST(many_queries) {
  Random random(2);
  for (const Kind kind : kinds) {
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::gaps}) {
      check_some({9, 37, 5}, 1, kind, layout, random);
      check_some({41, 33, 19}, 33, kind, layout, random);
    }
    check_some({17, 65, 131}, 3, kind, Layout::contiguous, random);
  }
}

TEST(wide_rows_and_long_banks) {  // past the blocks of depth, and enough for three threads
  Random random(3);
  for (const Kind kind : {Kind::random, Kind::positive, Kind::tied}) {
    for (const std::int64_t count : {2, 13}) {
      const Tensor wide = random_tensor(DType::f32, {count, 2051}, Layout::contiguous, kind, random);
      const Tensor wide_bank = random_tensor(DType::f16, {97, 2051}, Layout::contiguous, kind, random);
      const Tensor narrow = random_tensor(DType::f32, {count, 3}, Layout::contiguous, kind, random);
      const Tensor long_bank = random_tensor(DType::f32, {70001, 3}, Layout::contiguous, kind, random);
      check_nearest(wide, wide_bank, 5, Metric::cosine, nullptr);
      check_nearest(narrow, long_bank, 7, Metric::l2, nullptr);
    }
  }
}

TEST(repeated_rows) {
  Random random(4);
  for (const std::int64_t count : {3, 30}) {
    const Tensor bank = random_tensor(DType::f32, {50, 11}, Layout::repeated, Kind::random, random);
    const Tensor queries = random_tensor(DType::f32, {count, 11}, Layout::repeated, Kind::random, random);
    for (const Metric metric : metrics) check_nearest(queries, bank, 6, metric, nullptr);
  }
}

TEST(no_query) {
  const Tensor queries(DType::f32, {0, 4}), indices(DType::i64, {0, 2}), scores(DType::f32, {0, 2});
  Random random(5);
  const Tensor bank = random_tensor(DType::f32, {5, 4}, Layout::contiguous, Kind::random, random);
  const NonFinite problem =
      nearest_templates(queries.view(), bank.view(), 2, Metric::l2, nullptr, scores.view(), indices.view(), 2);
  CHECK(problem.argument == nullptr);
}

TEST(the_first_row_that_is_not_finite_is_found) {
  Random random(6);
  for (const Sides& side : sides) {
    for (const std::int64_t count : {3, 40}) {
      for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        Tensor queries = random_tensor(side.queries, {count, 21}, Layout::contiguous, Kind::random, random);
        Tensor bank = random_tensor(side.bank, {300, 21}, Layout::gaps, Kind::random, random);
        const Tensor scores(side.queries == DType::f64 ? DType::f64 : DType::f32, {count, 2}), indices(DType::i64, {count, 2});
        const auto run = [&](Metric metric) {
          return nearest_templates(queries.view(), bank.view(), 2, metric, nullptr, scores.view(), indices.view(), 3);
        };
        for (const std::int64_t row : {299, 130}) bank.set(row * 21 + 20, bad);
        for (const Metric metric : metrics) {
          const NonFinite found = run(metric);
          CHECK(found.argument != nullptr && std::string(found.argument) == "bank" && found.nan == std::isnan(bad));
          CHECK(found.row == 130 || found.row == 299);
        }
        double scale = 0;
        const NonFinite in_bank = coreset_scale(bank.view(), &scale, 3);
        CHECK(in_bank.argument != nullptr && in_bank.row == 130 && in_bank.nan == std::isnan(bad));
        queries.set(2 * 21, bad);
        const NonFinite found = run(Metric::l2);
        CHECK(found.argument != nullptr && std::string(found.argument) == "queries" && found.row == 2);
      }
    }
  }
}

namespace {

// Entries by the definition. Rows hold small integers, so that ties are ties.
std::vector<std::int64_t> coreset_by_definition(const Tensor& bank, std::int64_t first, std::int64_t size) {
  const std::int64_t rows = bank.view().size[0], width = bank.view().size[1];
  std::vector<long double> nearest(static_cast<std::size_t>(rows), HUGE_VALL);
  std::vector<std::int64_t> chosen{first};
  while (static_cast<std::int64_t>(chosen.size()) < size) {
    std::int64_t farthest = -1;
    for (std::int64_t n = 0; n < rows; ++n) {
      long double apart = 0;
      for (std::int64_t d = 0; d < width; ++d) {
        const long double x = bank[n * width + d], y = bank[chosen.back() * width + d];
        apart += (x - y) * (x - y);
      }
      auto& least = nearest[static_cast<std::size_t>(n)];
      least = std::min(least, apart);
      const bool free = std::find(chosen.begin(), chosen.end(), n) == chosen.end();
      if (free && (farthest < 0 || least > nearest[static_cast<std::size_t>(farthest)])) farthest = n;
    }
    chosen.push_back(farthest);
  }
  return chosen;
}

void check_coreset(const Tensor& bank, std::int64_t size) {
  const std::int64_t rows = bank.view().size[0], first = rows / 2;
  double scale = 0;
  CHECK(coreset_scale(bank.view(), &scale, 2).argument == nullptr);
  CHECK(scale > 0 && std::isfinite(scale) && std::ldexp(1.0, std::ilogb(scale)) == scale);
  Tensor chosen(DType::i64, {size}), distances(DType::f64, {rows});
  for_threads({&chosen}, [&](int threads) {
    distances.fill([](std::int64_t) { return HUGE_VAL; });
    chosen.set(0, static_cast<double>(first));
    for (std::int64_t begin = 0; begin < size; begin += 7) {  // in pieces
      greedy_coreset(bank.view(), scale, distances.view(), chosen.view(), begin, std::min(begin + 7, size), threads);
    }
  });
  const std::vector<std::int64_t> expected = coreset_by_definition(bank, first, size);
  for (std::int64_t i = 0; i < size; ++i) CHECK(chosen[i] == static_cast<double>(expected[static_cast<std::size_t>(i)]));
}

}  // namespace

TEST(coreset) {
  Random random(7);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::gaps, Layout::repeated}) {
      for (const Sizes& sizes : {Sizes{1, 1}, Sizes{30, 5}, Sizes{67, 33}}) {
        Tensor bank(dtype, sizes, layout);
        bank.fill([&](std::int64_t) { return static_cast<double>(random() % 9) - 4; });
        check_coreset(bank, std::min<std::int64_t>(sizes[0], 25));
        if (sizes[0] == 30) check_coreset(bank, 30);  // every row, equal ones too
      }
    }
  }
  Tensor bank(DType::f32, {997, 131});  // enough for three threads
  bank.fill([&](std::int64_t) { return static_cast<double>(random() % 15) - 7; });
  check_coreset(bank, 12);
}

TEST(coreset_at_the_ends_of_the_range) {
  Random random(8);
  for (const int exponent : {-1040, -670, 670, 1010}) {
    const double unit = std::ldexp(1.0, exponent);
    Tensor bank(DType::f64, {40, 6});
    bank.fill([&](std::int64_t) { return (static_cast<double>(random() % 9) - 4) * unit; });
    Tensor whole(DType::f64, {40, 6});
    whole.fill([&](std::int64_t i) { return std::ldexp(bank[i], -exponent); });
    double scale = 0;
    CHECK(coreset_scale(bank.view(), &scale, 1).argument == nullptr);
    Tensor chosen(DType::i64, {15}), distances(DType::f64, {40});
    distances.fill([](std::int64_t) { return HUGE_VAL; });
    chosen.set(0, 3);
    greedy_coreset(bank.view(), scale, distances.view(), chosen.view(), 0, 15, 2);
    const std::vector<std::int64_t> expected = coreset_by_definition(whole, 3, 15);
    for (std::int64_t i = 0; i < 15; ++i) CHECK(chosen[i] == static_cast<double>(expected[static_cast<std::size_t>(i)]));
  }
}
