#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/metrics.h"

namespace py = pybind11;

namespace thfr::bindings {
namespace {

bool is_scores(const TensorView& view) { return view.dims == 1 && (view.dtype == DType::f32 || view.dtype == DType::f64); }

bool is_image(const TensorView& map, const TensorView& mask) {
  return is_float(map) && map.dims == 2 && mask.dtype == DType::boolean && mask.dims == 2 && map.size[0] == mask.size[0] &&
         map.size[1] == mask.size[1];
}

bool are_runs(const Views& runs) {  // bytes come as bool
  bool fit = !runs.empty();
  for (const TensorView& run : runs) fit = fit && is_vector(run, DType::boolean);
  return fit;
}

// Weights are at least 1 and their sum fits; hi does not rise.
bool is_sketch(const TensorView& cells) {
  if (cells.dims != 2 || cells.dtype != DType::i64 || cells.size[0] != 3) return false;
  const std::int64_t n = cells.size[1], *hi = cells.as<const std::int64_t>(), *lo = hi + n, *weight = lo + n;
  if (n > 0 && (cells.stride[0] != n || (n > 1 && cells.stride[1] != 1))) return false;
  std::int64_t left = INT64_MAX;
  bool fit = true;
  for (std::int64_t i = 0; fit && i < n; ++i) {
    fit = lo[i] <= hi[i] && weight[i] >= 1 && weight[i] <= left && (i == 0 || hi[i] <= hi[i - 1]);
    left -= weight[i];
  }
  return fit;
}

void bind_packed(py::module_& module) {
  module.def(
      "pack_scores",
      [](const TensorView& scores, int threads) {
        require(is_scores(scores), "pack_scores");
        Bytes run;
        {
          const py::gil_scoped_release release;
          run = pack_scores(scores, threads);
        }
        return to_array(std::move(run));
      },
      py::arg("scores"), py::arg("threads"));
  module.def(
      "merge_packed",
      [](const Views& runs) {
        require(are_runs(runs), "merge_packed");
        Bytes run;
        {
          const py::gil_scoped_release release;
          run = merge_packed(runs);
        }
        return to_array(std::move(run));
      },
      py::arg("runs"));
  module.def(
      "packed_area",
      [](const Views& runs, const TensorView& scores, const TensorView& offsets, const TensorView& saturations,
         const TensorView& limits, const TensorView& areas, int threads) {
        require(are_runs(runs) && is_scores(scores) && is_vector(scores, scores.dtype) && are_saturations(saturations) &&
                    are_regions(scores, offsets, saturations.size[0]) && is_vector(limits, DType::f64) &&
                    is_vector(areas, DType::f64) && limits.size[0] == areas.size[0],
                "packed_area");
        const py::gil_scoped_release release;
        return packed_area(runs, scores, offsets, saturations, limits, areas, threads).negatives;
      },
      py::arg("runs"), py::arg("scores"), py::arg("offsets"), py::arg("saturations"), py::arg("limits"), py::arg("areas"),
      py::arg("threads"));
  module.def(
      "packed_auroc",
      [](const Views& negatives, const Views& positives) {
        require(are_runs(negatives) && are_runs(positives), "packed_auroc");
        const py::gil_scoped_release release;
        return packed_auroc(negatives, positives);
      },
      py::arg("negatives"), py::arg("positives"));
}

}  // namespace

void bind_metrics(py::module_& module) {
  bind_packed(module);
  module.def(
      "negative_scores",
      [](const Views& maps, const Views& masks, const TensorView& counts, const TensorView& scores, int threads) {
        bool fits = maps.size() == masks.size() && is_vector(counts, DType::i64) && is_scores(scores) &&
                    is_vector(scores, scores.dtype) && counts.size[0] == static_cast<std::int64_t>(maps.size());
        std::int64_t room = scores.size[0];
        for (std::size_t n = 0; fits && n < maps.size(); ++n) {
          const std::int64_t count = counts.as<const std::int64_t>()[n];
          fits = is_image(maps[n], masks[n]) && (maps[n].dtype != DType::f64 || scores.dtype == DType::f64) && count >= 0 &&
                 count <= std::min(room, maps[n].elements());
          room -= count;
        }
        require(fits && room == 0, "negative_scores");
        const py::gil_scoped_release release;
        return negative_scores(maps, masks, counts, scores, threads);
      },
      py::arg("maps"), py::arg("masks"), py::arg("counts"), py::arg("scores"), py::arg("threads"));
  module.def(
      "merge_cells",
      [](const Views& sketches, const TensorView& scores, std::int64_t most, double share, bool relative, int threads) {
        bool fits = is_scores(scores) && most >= 16 && share >= 0;
        for (const TensorView& sketch : sketches) fits = fits && is_sketch(sketch);
        require(fits, "merge_cells");
        CellLimits limits{most, share, relative};
        Cells cells;
        {
          const py::gil_scoped_release release;
          cells = merge_cells(sketches, scores, limits, threads);
        }
        return py::make_tuple(to_array(std::move(cells.hi)), to_array(std::move(cells.lo)), to_array(std::move(cells.weight)),
                              limits.share);
      },
      py::arg("sketches"), py::arg("scores"), py::arg("most"), py::arg("share"), py::arg("relative"), py::arg("threads"));
  module.def(
      "cells_area",
      [](const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
         const TensorView& bounds) {
        require(is_sketch(negatives) && is_sketch(positives) && is_vector(limits, DType::f64) && is_vector(bounds, DType::f64) &&
                    bounds.size[0] == 2 * limits.size[0],
                "cells_area");
        const py::gil_scoped_release release;
        cells_area(negatives, positives, total, limits, bounds);
      },
      py::arg("negatives"), py::arg("positives"), py::arg("total"), py::arg("limits"), py::arg("bounds"));
}

}  // namespace thfr::bindings
