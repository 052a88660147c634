#include "bindings.h"
#include "caster.h"
#include "thfr/scoring.h"

namespace py = pybind11;

namespace thfr::bindings {

static void require_cosine_distance(const TensorView& features, const TensorView& restored, const TensorView& distance) {
  bool fits = features.dims == 4 && restored.dims == 4 && distance.dims == 3 && features.dtype == restored.dtype &&
              distance.dtype == (features.dtype == DType::f64 ? DType::f64 : DType::f32);
  for (int i = 0; fits && i < 4; ++i) fits = features.size[i] == restored.size[i];
  fits = fits && distance.size[0] == features.size[0] && distance.size[1] == features.size[2] &&
         distance.size[2] == features.size[3];
  if (!fits) throw py::value_error("_C.cosine_distance: features, restored and distance do not fit each other");
}

void bind_scoring(py::module_& module) {
  module.def(
      "cosine_distance",
      [](const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, int threads) {
        require_cosine_distance(features, restored, distance);
        const py::gil_scoped_release release;
        cosine_distance(features, restored, eps, distance, threads);
      },
      py::arg("features"), py::arg("restored"), py::arg("eps"), py::arg("distance"), py::arg("threads"));
#ifdef THFR_HAS_CUDA
  module.def(
      "cuda_cosine_distance",
      [](const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, std::uintptr_t stream) {
        require_cosine_distance(features, restored, distance);
        require_launch("cosine_distance",
                       cuda::cosine_distance(features, restored, eps, distance, reinterpret_cast<void*>(stream)));
      },
      py::arg("features"), py::arg("restored"), py::arg("eps"), py::arg("distance"), py::arg("stream"));
#endif
}

}  // namespace thfr::bindings
