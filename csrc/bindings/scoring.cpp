#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/scoring.h"

namespace py = pybind11;

namespace thfr::bindings {

// start[i] .. start[i] + band lies in [0, limit) for each of `rows` entries.
static bool fits_start(const TensorView& start, std::int64_t rows, std::int64_t band, std::int64_t limit) {
  if (start.dims != 1 || start.dtype != DType::i64 || start.size[0] != rows || !is_contiguous(start)) return false;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = start.as<std::int64_t>()[r];
    if (first < 0 || first + band > limit) return false;
  }
  return true;
}

static bool fits_rows(const BandedMatrix& matrix, std::int64_t rows, std::int64_t columns) {
  return are_weights(matrix.weights, 2, rows) && fits_start(matrix.start, rows, matrix.weights.size[1], columns);
}

static bool fits_columns(const BlockedMatrix& matrix, std::int64_t rows, std::int64_t columns) {
  const std::int64_t blocks = (columns + BlockedMatrix::width - 1) / BlockedMatrix::width;
  return are_weights(matrix.weights, 3, blocks) && matrix.weights.size[2] == BlockedMatrix::width &&
         fits_start(matrix.start, blocks, matrix.weights.size[1], rows);
}

using LevelTuple = std::tuple<TensorView, TensorView, TensorView, TensorView, TensorView, float>;

static std::vector<MapLevel> require_levels(const std::vector<LevelTuple>& tuples, const TensorView& map,
                                            const TensorView& score) {
  const auto good = [](const TensorView& view, int dims) {
    return view.dims == dims && view.dtype == DType::f32 && is_contiguous(view);
  };
  bool fits = good(map, 3) && map.size[1] > 0 && map.size[2] > 0 &&
              (score.data == nullptr || (good(score, 1) && score.size[0] == map.size[0]));
  std::vector<MapLevel> levels;
  for (const auto& [values, row_start, row_weights, column_start, column_weights, weight] : tuples) {
    const MapLevel level{values, {row_start, row_weights}, {column_start, column_weights}, weight};
    fits = fits && good(values, 3) && values.size[0] == map.size[0] && fits_rows(level.rows, map.size[1], values.size[1]) &&
           fits_columns(level.columns, values.size[2], map.size[2]);
    levels.push_back(level);
  }
  require(fits, "blend_levels");
  return levels;
}

void bind_scoring(py::module_& module) {
  module.attr("blocked_width") = BlockedMatrix::width;
  module.def(
      "cosine_distance",
      [](const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, int threads) {
        require(are_features(features, restored) && is_distance(distance, features), "cosine_distance");
        const py::gil_scoped_release release;
        cosine_distance(features, restored, eps, distance, threads);
      },
      py::arg("features"), py::arg("restored"), py::arg("eps"), py::arg("distance"), py::arg("threads"));
  module.def(
      "cosine_distance_backward",
      [](const TensorView& grad_distance, const TensorView& features, const TensorView& restored, double eps,
         const TensorView& grad_features, const TensorView& grad_restored, int threads) {
        require(are_features(features, restored) && is_distance(grad_distance, features) &&
                    is_gradient(grad_features, features) && is_gradient(grad_restored, features),
                "cosine_distance_backward");
        const py::gil_scoped_release release;
        cosine_distance_backward(grad_distance, features, restored, eps, grad_features, grad_restored, threads);
      },
      py::arg("grad_distance"), py::arg("features"), py::arg("restored"), py::arg("eps"), py::arg("grad_features"),
      py::arg("grad_restored"), py::arg("threads"));
  module.def(
      "blend_levels",
      [](const std::vector<LevelTuple>& tuples, bool product, const TensorView& map, const TensorView& score, int threads) {
        const std::vector<MapLevel> levels = require_levels(tuples, map, score);
        const py::gil_scoped_release release;
        blend_levels(levels.data(), static_cast<int>(levels.size()), product ? Combine::product : Combine::sum, map, score,
                     threads);
      },
      py::arg("levels"), py::arg("product"), py::arg("map"), py::arg("score"), py::arg("threads"));
}

}  // namespace thfr::bindings
