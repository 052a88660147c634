// Cosine distance, its gradient, and the blending of levels, against the definition in extended precision.
#include "thfr/scoring.h"

#include <string>

#include "tensors.h"

using namespace thfr;
using namespace thfr_test;

namespace {

DType distance_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

// Of x and y [B,C,H,W] at a location of image b.
struct Pair {
  long double xy = 0, xx = 0, yy = 0;

  Pair(const Tensor& x, const Tensor& y, std::int64_t b, std::int64_t location) {
    const std::int64_t channels = x.view().size[1], plane = x.view().size[2] * x.view().size[3];
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t i = (b * channels + c) * plane + location;
      const long double p = x[i], q = y[i];
      xy += p * q, xx += p * p, yy += q * q;
    }
  }
  bool zero() const { return xx == 0 || yy == 0; }
  long double norm() const { return std::sqrt(xx) * std::sqrt(yy); }
  bool finite() const { return std::isfinite(xx) && std::isfinite(yy); }
};

void check_distance(const Tensor& x, const Tensor& y, double eps) {
  const TensorView& size = x.view();
  const std::int64_t plane = size.size[2] * size.size[3];
  Tensor distance(distance_dtype(size.dtype), {size.size[0], size.size[2], size.size[3]});
  for_threads({&distance}, [&](int threads) { cosine_distance(x.view(), y.view(), eps, distance.view(), threads); });
  const double tolerance = size.dtype == DType::f64 ? 1e-13 : 1e-6;
  for (std::int64_t i = 0; i < distance.elements(); ++i) {
    const Pair pair(x, y, i / plane, i % plane);
    const double got = distance[i];
    if (!pair.finite()) {
      CHECK(std::isnan(got));
      continue;
    }
    const long double cosine = pair.zero() ? 0 : pair.xy / std::max(pair.norm(), static_cast<long double>(eps));
    CHECK(close(got, static_cast<double>(1 - cosine), tolerance));
    CHECK(got >= 0 && got <= 2);
    if (pair.zero()) CHECK(got == 1);
  }
}

// Rounding to the dtype, and a sum in fp32 for all but fp64.
double relative_error(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-12;
    case DType::f32: return 1e-5;
    case DType::f16: return 1e-3;
    default: return 8e-3;
  }
}

// Of one gradient; `other` is the tensor that it is not for.
void check_gradient(const Tensor& got, const Tensor& own, const Tensor& other, const Tensor& grad, double eps) {
  const TensorView& size = own.view();
  const std::int64_t channels = size.size[1], plane = size.size[2] * size.size[3];
  const double smallest = size.dtype == DType::f64   ? 1e-300
                          : size.dtype == DType::f16 ? std::ldexp(1.0, -24)
                                                     : std::ldexp(1.0, size.dtype == DType::f32 ? -149 : -133);
  const double largest = size.dtype == DType::f64 ? 1e300 : size.dtype == DType::f16 ? 65504 : 3.3e38;
  for (std::int64_t i = 0; i < grad.elements(); ++i) {
    const Pair pair(own, other, i / plane, i % plane);
    const bool clamped = pair.norm() < eps;
    const long double norm = clamped ? static_cast<long double>(eps) : pair.norm();
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t at = (i / plane * channels + c) * plane + i % plane;
      const long double across = -static_cast<long double>(grad[i]) * other[at] / norm;
      const long double along = clamped ? 0 : static_cast<long double>(grad[i]) * pair.xy / norm / pair.xx * own[at];
      const long double expected = pair.zero() ? 0 : across + along;
      if (std::fabs(expected) > largest) continue;  // infinite or not, by a rounding
      // The cosine is exact to an absolute error, however small it is.
      const long double loss = clamped ? 0 : std::fabs(grad[i] * own[at] / pair.xx);
      const long double scale = pair.zero() ? 0 : std::fabs(across) + std::fabs(along);
      const long double cosine_error = pair.zero() ? 0 : loss * (size.dtype == DType::f64 ? 1e-13 : 1e-6);
      const long double tolerance = relative_error(size.dtype) * scale + cosine_error + smallest;
      CHECK(close(got[at], static_cast<double>(expected), static_cast<double>(tolerance)));
    }
  }
}

void check_backward(const Tensor& x, const Tensor& y, double eps, Layout layout, Random& random) {
  const TensorView& size = x.view();
  const Sizes sizes{size.size[0], size.size[1], size.size[2], size.size[3]};
  const Tensor grad =
      random_tensor(distance_dtype(size.dtype), {sizes[0], sizes[2], sizes[3]}, Layout::contiguous, Kind::random, random);
  Tensor grad_x(size.dtype, sizes, layout), grad_y(size.dtype, sizes, layout), alone(size.dtype, sizes, layout);
  for_threads({&grad_x, &grad_y}, [&](int threads) {
    cosine_distance_backward(grad.view(), x.view(), y.view(), eps, grad_x.view(), grad_y.view(), threads);
  });
  check_gradient(grad_x, x, y, grad, eps);
  check_gradient(grad_y, y, x, grad, eps);
  cosine_distance_backward(grad.view(), x.view(), y.view(), eps, {}, alone.view(), 2);
  CHECK(alone.bytes() == grad_y.bytes());
  cosine_distance_backward(grad.view(), x.view(), y.view(), eps, alone.view(), {}, 2);
  CHECK(alone.bytes() == grad_x.bytes());
}

// In turn: all kinds are seen with each dtype, shape and layout but not with all of them at once.
std::vector<Kind> three_kinds() {
  static std::size_t turn = 0;
  std::vector<Kind> three;
  for (int i = 0; i < 3; ++i) three.push_back(kinds[turn++ % 8]);
  return three;
}

// Rows, channels and packed, long and short, at sizes around the ends of blocks, chunks and vectors.
const Sizes shapes[] = {{1, 1, 1, 1}, {2, 3, 1, 5}, {3, 5, 7, 1}, {1, 64, 2, 13}, {2, 65, 3, 5}, {1, 130, 1, 67}, {1, 3, 33, 40}};

}  // namespace

TEST(distance_of_all_dtypes_layouts_and_kinds) {
  Random random(1);
  for (const DType dtype : floats) {
    for (const Sizes& sizes : shapes) {
      for (const Layout layout : layouts) {
        for (const Kind kind : three_kinds()) {
          at_case("dtype " + std::to_string(static_cast<int>(dtype)) + " layout " + std::to_string(static_cast<int>(layout)) +
                  " kind " + std::to_string(static_cast<int>(kind)) + " C " + std::to_string(sizes[1]));
          const Tensor x = random_tensor(dtype, sizes, layout, kind, random);
          const Tensor y = random_tensor(dtype, sizes, layout, kind, random);
          check_distance(x, y, 1e-8 * (kind == Kind::tiny ? 0 : 1));
        }
      }
    }
  }
}

TEST(gradient_of_all_dtypes_layouts_and_kinds) {
  Random random(2);
  for (const DType dtype : floats) {
    for (const Sizes& sizes : shapes) {
      for (const Layout layout : layouts) {
        for (const Kind kind : three_kinds()) {
          at_case("dtype " + std::to_string(static_cast<int>(dtype)) + " layout " + std::to_string(static_cast<int>(layout)) +
                  " kind " + std::to_string(static_cast<int>(kind)) + " C " + std::to_string(sizes[1]));
          const Tensor x = random_tensor(dtype, sizes, layout, kind, random);
          const Tensor y = random_tensor(dtype, sizes, layout, kind, random);
          check_backward(x, y, 1e-8 * (kind == Kind::tiny ? 0 : 1), layout, random);
        }
      }
    }
  }
}

TEST(mixed_layouts) {  // features, restored and gradients each in its own
  Random random(3);
  const Sizes sizes{2, 19, 5, 11};
  for (const Layout first : layouts) {
    for (const Layout second : layouts) {
      const Tensor x = random_tensor(DType::f32, sizes, first, Kind::random, random);
      const Tensor y = random_tensor(DType::f32, sizes, second, Kind::random, random);
      check_distance(x, y, 1e-8);
      for (const Layout third : layouts) check_backward(x, y, 1e-8, third, random);
    }
  }
  const Tensor x = random_tensor(DType::f32, sizes, Layout::repeated, Kind::random, random);  // one image for all
  const Tensor y = random_tensor(DType::f32, sizes, Layout::contiguous, Kind::random, random);
  check_distance(x, y, 1e-8);
}

TEST(many_channels_and_many_locations) {
  Random random(4);
  for (const Layout layout : {Layout::contiguous, Layout::last, Layout::gaps}) {
    const Tensor x = random_tensor(DType::f32, {1, 2309, 3, 3}, layout, Kind::positive, random);
    const Tensor y = random_tensor(DType::f32, {1, 2309, 3, 3}, layout, Kind::positive, random);
    check_distance(x, y, 1e-8);
    const Tensor wide = random_tensor(DType::f16, {2, 2, 1, 2100}, layout, Kind::random, random);
    check_distance(wide, wide, 1e-8);
    check_backward(wide, wide, 1e-8, layout, random);
  }
}

TEST(enough_for_three_threads) {
  Random random(9);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Layout layout : layouts) {
      const Tensor x = random_tensor(dtype, {2, 40, 33, 41}, layout, Kind::random, random);
      const Tensor y = random_tensor(dtype, {2, 40, 33, 41}, layout, Kind::random, random);
      check_distance(x, y, 1e-8);
      check_backward(x, y, 1e-8, layout, random);
    }
  }
}

TEST(large_eps_bounds_the_norms) {
  Random random(5);
  for (const DType dtype : floats) {
    const Tensor x = random_tensor(dtype, {1, 9, 4, 7}, Layout::contiguous, Kind::random, random);
    const Tensor y = random_tensor(dtype, {1, 9, 4, 7}, Layout::last, Kind::random, random);
    for (const double eps : {0.0, 9.0, 1e6}) {
      check_distance(x, y, eps);
      check_backward(x, y, eps, Layout::contiguous, random);
    }
  }
}

TEST(not_a_number_stays_at_its_location) {
  Random random(6);
  for (const DType dtype : floats) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const Layout layout : layouts) {
        Tensor x = random_tensor(dtype, {2, 13, 3, 17}, layout, Kind::random, random);
        const Tensor y = random_tensor(dtype, {2, 13, 3, 17}, layout, Kind::random, random);
        for (const std::int64_t i : {0, 100, 13 * 51 * 2 - 1}) x.set(i, bad);
        check_distance(x, y, 1e-8);
      }
    }
  }
}

TEST(nothing_in_nothing_out) {
  for (const Sizes& sizes : {Sizes{0, 3, 4, 5}, Sizes{2, 3, 0, 5}, Sizes{2, 3, 4, 0}, Sizes{2, 0, 3, 4}, Sizes{0, 0, 0, 0}}) {
    const Tensor x(DType::f32, sizes), y(DType::f32, sizes);
    Tensor distance(DType::f32, {sizes[0], sizes[2], sizes[3]});
    Tensor grad_x(DType::f32, sizes), grad_y(DType::f32, sizes);
    for_threads({&distance}, [&](int threads) { cosine_distance(x.view(), y.view(), 1e-8, distance.view(), threads); });
    for (std::int64_t i = 0; i < distance.elements(); ++i) CHECK(distance[i] == 1);  // no channel: zero vectors
    const std::vector<char> untouched = grad_x.bytes();
    cosine_distance_backward(distance.view(), x.view(), y.view(), 1e-8, grad_x.view(), grad_y.view(), 2);
    CHECK(grad_x.bytes() == untouched);
  }
}

namespace {

// A level with random bands, [B,h,w] to [B,H,W], in the dense form (for the definition) and as the library takes it.
struct Level {
  Tensor values, row_start, row_weights, column_start, column_weights;
  float weight;

  Level(const Sizes& map, std::int64_t h, std::int64_t w, std::int64_t row_band, std::int64_t column_band, float factor,
        Random& random)
      : values(random_tensor(DType::f32, {map[0], h, w}, Layout::contiguous, Kind::positive, random)),
        row_start(DType::i64, {map[1]}),
        row_weights(random_tensor(DType::f32, {map[1], row_band}, Layout::contiguous, Kind::positive, random)),
        column_start(DType::i64, {blocks(map[2])}),
        column_weights(random_tensor(DType::f32, {blocks(map[2]), column_band, BlockedMatrix::width}, Layout::contiguous,
                                     Kind::positive, random)),
        weight(factor) {
    row_start.fill([&](std::int64_t) { return static_cast<double>(random() % static_cast<std::uint64_t>(h - row_band + 1)); });
    column_start.fill(
        [&](std::int64_t) { return static_cast<double>(random() % static_cast<std::uint64_t>(w - column_band + 1)); });
  }
  static std::int64_t blocks(std::int64_t width) { return (width + BlockedMatrix::width - 1) / BlockedMatrix::width; }

  MapLevel view() const {
    return {values.view(), {row_start.view(), row_weights.view()}, {column_start.view(), column_weights.view()}, weight};
  }
  double at(std::int64_t b, std::int64_t y, std::int64_t x) const {
    const std::int64_t h = values.view().size[1], w = values.view().size[2];
    const std::int64_t row_band = row_weights.view().size[1], column_band = column_weights.view().size[1];
    const std::int64_t block = x / BlockedMatrix::width;
    double sum = 0;
    for (std::int64_t i = 0; i < row_band; ++i) {
      for (std::int64_t j = 0; j < column_band; ++j) {
        const auto row = static_cast<std::int64_t>(row_start[y]) + i, column = static_cast<std::int64_t>(column_start[block]) + j;
        const double across = column_weights[(block * column_band + j) * BlockedMatrix::width + x % BlockedMatrix::width];
        sum += row_weights[y * row_band + i] * values[(b * h + row) * w + column] * across;
      }
    }
    return sum;
  }
};

void check_blend(const std::vector<Level>& levels, const Sizes& sizes, Combine combine) {
  std::vector<MapLevel> views;
  for (const Level& level : levels) views.push_back(level.view());
  Tensor map(DType::f32, sizes), score(DType::f32, {sizes[0]}), same(DType::f32, sizes);
  const int count = static_cast<int>(views.size());
  for_threads({&map, &score},
              [&](int threads) { blend_levels(views.data(), count, combine, map.view(), score.view(), threads); });
  for (std::int64_t b = 0; b < sizes[0]; ++b) {
    double most = -HUGE_VAL;
    bool nan = false;
    for (std::int64_t i = 0; i < sizes[1] * sizes[2]; ++i) {
      double expected = combine == Combine::sum ? 0 : 1;
      for (const Level& level : levels) {
        const double value = level.at(b, i / sizes[2], i % sizes[2]);
        expected = combine == Combine::sum ? expected + level.weight * value : expected * std::pow(value, level.weight);
      }
      const double got = map[b * sizes[1] * sizes[2] + i];
      CHECK(close(got, expected, 2e-5 * std::fabs(expected)));
      nan |= std::isnan(got);
      most = std::max(most, got);
    }
    if (nan) CHECK(std::isnan(score[b]));
    if (!nan) CHECK(score[b] == most);
  }
  blend_levels(views.data(), count, combine, same.view(), {}, 1);  // no score asked for
  CHECK(same.bytes() == map.bytes());
}

}  // namespace

TEST(levels_are_blended) {
  Random random(7);
  for (const Sizes& sizes : {Sizes{1, 1, 1}, Sizes{2, 5, 31}, Sizes{1, 3, 32}, Sizes{3, 40, 33}, Sizes{2, 37, 257},
                             Sizes{1, 4, 515}, Sizes{0, 4, 4}, Sizes{3, 130, 131}}) {
    for (const Combine combine : {Combine::sum, Combine::product}) {
      for (const bool plain : {true, false}) {
        std::vector<Level> levels;
        levels.emplace_back(sizes, 1, 1, 1, 1, plain ? 1.0f : 0.5f, random);
        levels.emplace_back(sizes, 7, 9, 4, 3, plain ? 1.0f : 2.0f, random);
        levels.emplace_back(sizes, 16, 5, 6, 5, plain ? 1.0f : 0.0f, random);
        check_blend(levels, sizes, combine);
      }
    }
  }
}

TEST(a_map_with_nan_has_score_nan) {
  Random random(8);
  const Sizes sizes{3, 9, 70};
  for (const Combine combine : {Combine::sum, Combine::product}) {
    std::vector<Level> levels;
    levels.emplace_back(sizes, 6, 6, 6, 6, 1.0f, random);  // full bands: one NaN reaches the whole image
    levels[0].values.set(36 + 7, std::nan(""));
    check_blend(levels, sizes, combine);
    levels[0].values.set(36 + 7, HUGE_VAL);
    check_blend(levels, sizes, combine);
  }
}
