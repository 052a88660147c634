#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <string>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/retrieval.h"

namespace py = pybind11;

namespace thfr::bindings {

static bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

static void require_finite(const char* operator_name, const NonFinite& problem, const TensorView& view) {
  if (problem.argument == nullptr) return;
  throw py::value_error(std::string(operator_name) + ": " + problem.argument + ": expected finite values, got " +
                        (problem.nan ? "NaN" : "infinity") + " in row " + std::to_string(problem.row) + " of [" +
                        std::to_string(view.size[0]) + ", " + std::to_string(view.size[1]) + "]");
}

static void nearest(const TensorView& queries, const TensorView& bank, std::int64_t k, int metric,
                    const std::optional<TensorView>& exclude, const TensorView& scores, const TensorView& indices, int threads) {
  const std::int64_t count = queries.size[0];
  bool fits = queries.dims == 2 && bank.dims == 2 && queries.size[1] == bank.size[1] && queries.size[1] > 0 && is_float(bank) &&
              (queries.dtype == bank.dtype || (queries.dtype == DType::f32 && is_half(bank.dtype))) && k >= 1 &&
              k <= bank.size[0] && metric >= 0 && metric <= 2;
  fits = fits && scores.dtype == (queries.dtype == DType::f64 ? DType::f64 : DType::f32) && indices.dtype == DType::i64;
  for (const TensorView* result : {&scores, &indices}) {
    fits = fits && result->dims == 2 && result->size[0] == count && result->size[1] == k && (k < 2 || result->stride[1] == 1) &&
           (count < 2 || result->stride[0] == k);
  }
  fits = fits && (!exclude || is_vector(*exclude, DType::i64, count));
  require(fits, "nearest_templates");
  const NonFinite problem = without_gil([&] {
    return nearest_templates(queries, bank, k, static_cast<Metric>(metric), exclude ? &*exclude : nullptr, scores, indices,
                             threads);
  });
  const bool in_queries = problem.argument != nullptr && std::string(problem.argument) == "queries";
  require_finite("nearest_templates", problem, in_queries ? queries : bank);
}

static double scale_of(const TensorView& bank, int threads) {
  require(bank.dims == 2 && is_float(bank), "coreset_scale");
  double scale = 1;
  const NonFinite problem = without_gil([&] { return coreset_scale(bank, &scale, threads); });
  require_finite("greedy_coreset", problem, bank);
  return scale;
}

static void coreset(const TensorView& bank, double scale, const TensorView& distances, const TensorView& chosen,
                    std::int64_t begin, std::int64_t end, int threads) {
  const std::int64_t size = chosen.elements();
  bool fits = bank.dims == 2 && is_float(bank) && is_vector(distances, DType::f64, bank.size[0]) &&
              is_vector(chosen, DType::i64, size) && size <= bank.size[0] && begin >= 0 && begin <= end && end <= size &&
              scale > 0 && std::isfinite(scale);
  for (std::int64_t i = 0; fits && i < (begin > 0 ? begin : end > 0 ? 1 : 0); ++i) {
    fits = chosen.as<std::int64_t>()[i] >= 0 && chosen.as<std::int64_t>()[i] < bank.size[0];
  }
  std::int64_t left = 0;  // rows to choose from: without one, there would be no entry to write
  for (std::int64_t n = 0; fits && n < bank.size[0]; ++n) left += distances.as<double>()[n] >= 0;
  fits = fits && (begin == end || left > end - (begin > 0 ? begin : 1));
  require(fits, "greedy_coreset");
  const py::gil_scoped_release release;
  greedy_coreset(bank, scale, distances, chosen, begin, end, threads);
}

void bind_retrieval(py::module_& module) {
  module.def("nearest_templates", &nearest, py::arg("queries"), py::arg("bank"), py::arg("k"), py::arg("metric"),
             py::arg("exclude").none(true), py::arg("scores"), py::arg("indices"), py::arg("threads"));
  module.def("coreset_scale", &scale_of, py::arg("bank"), py::arg("threads"));
  module.def("greedy_coreset", &coreset, py::arg("bank"), py::arg("scale"), py::arg("distances"), py::arg("chosen"),
             py::arg("begin"), py::arg("end"), py::arg("threads"));
}

}  // namespace thfr::bindings
