#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/metrics.h"

namespace py = pybind11;

namespace thfr::bindings {
namespace {

bool is_scores(const TensorView& view) { return view.dims == 1 && (view.dtype == DType::f32 || view.dtype == DType::f64); }

// Weights are at least 1 and their sum fits; hi does not rise.
bool is_sketch(const TensorView& bins) {
  if (bins.dims != 2 || bins.dtype != DType::i64 || bins.size[0] != 3) return false;
  const std::int64_t n = bins.size[1], *hi = bins.as<const std::int64_t>(), *lo = hi + n, *weight = lo + n;
  if (n > 0 && (bins.stride[0] != n || (n > 1 && bins.stride[1] != 1))) return false;
  std::int64_t left = INT64_MAX;
  bool fit = true;
  for (std::int64_t i = 0; fit && i < n; ++i) {
    fit = lo[i] <= hi[i] && weight[i] >= 1 && weight[i] <= left && (i == 0 || hi[i] <= hi[i - 1]);
    left -= weight[i];
  }
  return fit;
}

}  // namespace

void bind_metrics(py::module_& module) {
  module.def(
      "merge_bins",
      [](const Views& sketches, const TensorView& scores, std::int64_t most, double share, bool relative, int threads) {
        bool fits = is_scores(scores) && most >= 16 && share >= 0;
        for (const TensorView& sketch : sketches) fits = fits && is_sketch(sketch);
        require(fits, "merge_bins");
        BinLimits limits{most, share, relative};
        Bins bins = without_gil([&] { return merge_bins(sketches, scores, limits, threads); });
        return py::make_tuple(to_array(std::move(bins.hi)), to_array(std::move(bins.lo)), to_array(std::move(bins.weight)),
                              limits.share);
      },
      py::arg("sketches"), py::arg("scores"), py::arg("most"), py::arg("share"), py::arg("relative"), py::arg("threads"));
  module.def(
      "bins_area",
      [](const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
         const TensorView& bounds) {
        require(is_sketch(negatives) && is_sketch(positives) && is_vector(limits, DType::f64) && is_vector(bounds, DType::f64) &&
                    bounds.size[0] == 2 * limits.size[0],
                "bins_area");
        const py::gil_scoped_release release;
        bins_area(negatives, positives, total, limits, bounds);
      },
      py::arg("negatives"), py::arg("positives"), py::arg("total"), py::arg("limits"), py::arg("bounds"));
}

}  // namespace thfr::bindings
