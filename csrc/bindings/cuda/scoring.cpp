#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/scoring.h"

namespace py = pybind11;

namespace thfr::bindings {

// The values of tensors on the device cannot be looked at: kernels keep within bounds whatever they hold.
static bool fits_blocks(const BlockedMatrix& matrix, std::int64_t rows, std::int64_t columns) {
  const std::int64_t width = BlockedMatrix::width, blocks = (columns + width - 1) / width;
  return are_weights(matrix.weights, 3, blocks) && matrix.weights.size[2] == width && matrix.weights.size[1] <= rows &&
         reinterpret_cast<std::uintptr_t>(matrix.weights.data) % 16 == 0 && is_vector(matrix.start, DType::i64, blocks);
}

static bool is_map(const TensorView& view, int dims) {
  return view.dims == dims && view.dtype == DType::f32 && is_contiguous(view);
}

static bool are_scores(const TensorView& scores, std::int64_t images) {
  return scores.data == nullptr || (is_map(scores, 1) && scores.size[0] == images);
}

using DistanceTuple = std::tuple<TensorView, TensorView, TensorView>;

static void distances(const std::vector<DistanceTuple>& tuples, double eps, const TensorView& scores, std::uintptr_t stream) {
  std::vector<cuda::DistanceLevel> levels;
  bool fits = true;
  for (const auto& [features, restored, distance] : tuples) {
    fits = fits && are_features(features, restored) && (is_distance(distance, features) || is_map(distance, 3)) &&
           distance.size[0] == features.size[0] && distance.size[1] == features.size[2] && distance.size[2] == features.size[3] &&
           are_scores(scores, features.size[0]);
    levels.push_back({features, restored, distance});
  }
  require(fits, "cuda_cosine_distances");
  require_launch("cosine_distance", cuda::cosine_distances(levels.data(), static_cast<int>(levels.size()), eps, scores,
                                                           reinterpret_cast<void*>(stream)));
}

static void backward(const TensorView& grad_distance, const TensorView& features, const TensorView& restored, double eps,
                     const TensorView& grad_features, const TensorView& grad_restored, std::uintptr_t stream) {
  require(are_features(features, restored) && is_distance(grad_distance, features) && is_gradient(grad_features, features) &&
              is_gradient(grad_restored, features),
          "cuda_cosine_distance_backward");
  require_launch("cosine_distance_backward", cuda::cosine_distance_backward(grad_distance, features, restored, eps, grad_features,
                                                                            grad_restored, reinterpret_cast<void*>(stream)));
}

using MapTuple = std::tuple<TensorView, TensorView, std::int64_t, TensorView, TensorView, TensorView, TensorView, float>;

static void blend(const std::vector<MapTuple>& tuples, bool product, const TensorView& map, const TensorView& scores,
                  std::uintptr_t stream) {
  std::vector<cuda::MapLevel> levels;
  bool fits = is_map(map, 3) && map.size[1] > 0 && map.size[2] > 0 && are_scores(scores, map.size[0]);
  for (const auto& [values, row_start, row_band, block_start, block_weights, column_start, column_weights, weight] : tuples) {
    const cuda::MapLevel level{values, row_start, row_band, {block_start, block_weights}, {column_start, column_weights}, weight};
    fits = fits && is_map(values, 3) && values.size[0] == map.size[0] && is_vector(row_start, DType::i64, map.size[1]) &&
           row_band >= 0 && row_band <= values.size[1] && fits_blocks(level.rows, values.size[1], map.size[1]) &&
           fits_blocks(level.columns, values.size[2], map.size[2]);
    levels.push_back(level);
  }
  require(fits, "cuda_blend_levels");
  require_launch("anomaly_map",
                 cuda::blend_levels(levels.data(), static_cast<int>(levels.size()), product ? Combine::product : Combine::sum,
                                    map, scores, reinterpret_cast<void*>(stream)));
}

// anomaly_map in one call: distances of the levels, if there are any to make, their map, and the blur of a product.
static void map_of(const std::vector<DistanceTuple>& pairs, double eps, const std::vector<MapTuple>& levels, bool product,
                   const TensorView& sharp, const std::vector<MapTuple>& blur, const TensorView& map, const TensorView& scores,
                   std::uintptr_t stream) {
  if (!pairs.empty()) distances(pairs, eps, scores, stream);
  if (blur.empty()) {
    blend(levels, product, map, scores, stream);
  } else {
    blend(levels, product, sharp, {}, stream);
    blend(blur, false, map, scores, stream);
  }
}

void bind_cuda_scoring(py::module_& module) {
  module.def("cuda_cosine_distances", &distances, py::arg("levels"), py::arg("eps"), py::arg("scores"), py::arg("stream"));
  module.def("cuda_cosine_distance_backward", &backward, py::arg("grad_distance"), py::arg("features"), py::arg("restored"),
             py::arg("eps"), py::arg("grad_features"), py::arg("grad_restored"), py::arg("stream"));
  module.def("cuda_blend_levels", &blend, py::arg("levels"), py::arg("product"), py::arg("map"), py::arg("scores"),
             py::arg("stream"));
  module.def("cuda_anomaly_map", &map_of, py::arg("pairs"), py::arg("eps"), py::arg("levels"), py::arg("product"),
             py::arg("sharp"), py::arg("blur"), py::arg("map"), py::arg("scores"), py::arg("stream"));
}

}  // namespace thfr::bindings
