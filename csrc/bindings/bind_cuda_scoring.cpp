#include <pybind11/stl.h>

#include "bindings.h"
#include "caster.h"
#include "checks.h"
#include "thfr/scoring.h"

namespace py = pybind11;

namespace thfr::bindings {

void bind_cuda_scoring(py::module_& module) {
  module.def(
      "cuda_cosine_distance",
      [](const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, std::uintptr_t stream) {
        require(are_features(features, restored) && is_distance(distance, features), "cuda_cosine_distance");
        require_launch("cosine_distance",
                       cuda::cosine_distance(features, restored, eps, distance, reinterpret_cast<void*>(stream)));
      },
      py::arg("features"), py::arg("restored"), py::arg("eps"), py::arg("distance"), py::arg("stream"));
}

}  // namespace thfr::bindings
