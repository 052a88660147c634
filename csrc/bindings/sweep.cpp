#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/sweep.h"

namespace py = pybind11;

namespace thfr::bindings {
namespace {

// Each map is a float [H,W] and has a bool [H,W] (`dims` 2) or [R,H,W] (3) of the same H and W.
bool are_images(const Views& maps, const Views& masks, int dims) {
  bool fit = maps.size() == masks.size();
  for (std::size_t i = 0; fit && i < maps.size(); ++i) {
    fit = is_float(maps[i]) && maps[i].dims == 2 && masks[i].dtype == DType::boolean && masks[i].dims == dims &&
          masks[i].size[dims - 2] == maps[i].size[0] && masks[i].size[dims - 1] == maps[i].size[1];
  }
  return fit;
}

bool is_scores(const Views& maps, const TensorView& scores) {
  bool fit = is_vector(scores, DType::f32) || is_vector(scores, DType::f64);
  for (const TensorView& map : maps) fit = fit && (map.dtype != DType::f64 || scores.dtype == DType::f64);
  return fit;
}

void require_sweep(const char* function, const Views& maps, const Views& covered, const TensorView& scores,
                   const TensorView& offsets, const TensorView& saturations) {
  require(is_scores(maps, scores) && are_saturations(saturations), function);
  require(are_regions(scores, offsets, saturations.size[0]), function);
  if (!covered.empty()) return require(are_images(maps, covered, 2), function);
  for (const TensorView& map : maps) require(is_float(map) && map.dims == 2, function);
}

py::tuple to_tuple(const SweepInfo& info) { return py::make_tuple(info.nan_image, info.negatives); }

void bind_regions(py::module_& module) {
  module.def(
      "region_areas",
      [](const TensorView& regions, const TensorView& areas, int threads) {
        require(regions.dims == 3 && regions.dtype == DType::boolean && is_vector(areas, DType::i64) &&
                    areas.size[0] == regions.size[0],
                "region_areas");
        const py::gil_scoped_release release;
        region_areas(regions, areas, threads);
      },
      py::arg("regions"), py::arg("areas"), py::arg("threads"));
  module.def(
      "label_regions",
      [](const TensorView& masks, const TensorView& labels, const TensorView& counts, int threads) {
        bool fits = masks.dims == 3 && masks.dtype == DType::boolean && labels.dims == 3 && labels.dtype == DType::i64 &&
                    is_contiguous(labels) && is_vector(counts, DType::i64) && counts.size[0] == masks.size[0];
        for (int i = 0; fits && i < 3; ++i) fits = labels.size[i] == masks.size[i];
        require(fits, "label_regions");
        const py::gil_scoped_release release;
        label_regions(masks, labels, counts, threads);
      },
      py::arg("masks"), py::arg("labels"), py::arg("counts"), py::arg("threads"));
  module.def(
      "component_scores",
      [](const Views& maps, const Views& masks, const TensorView& scores, const TensorView& offsets, int threads) {
        require(are_images(maps, masks, 2) && is_scores(maps, scores) && is_vector(offsets, DType::i64) && offsets.size[0] >= 1,
                "component_scores");
        const py::gil_scoped_release release;
        return component_scores(maps, masks, scores, offsets, threads);
      },
      py::arg("maps"), py::arg("masks"), py::arg("scores"), py::arg("offsets"), py::arg("threads"));
  module.def(
      "region_scores",
      [](const Views& maps, const Views& regions, const TensorView& offsets, const TensorView& scores, const Views& covered,
         int threads) {
        bool fits = are_images(maps, regions, 3) && are_images(maps, covered, 2) && is_scores(maps, scores);
        std::int64_t count = 0;
        for (const TensorView& region : regions) count += region.size[0];
        for (const TensorView& cover : covered) fits = fits && is_contiguous(cover);
        require(fits && are_regions(scores, offsets, count), "region_scores");
        const py::gil_scoped_release release;
        region_scores(maps, regions, offsets, scores, covered, threads);
      },
      py::arg("maps"), py::arg("regions"), py::arg("offsets"), py::arg("scores"), py::arg("covered"), py::arg("threads"));
}

// Contiguous i64 [n] of numbers from 0 to groups - 1.
bool are_groups(const TensorView& view, std::int64_t n, int groups) {
  bool fit = is_vector(view, DType::i64, n);
  for (std::int64_t i = 0; fit && i < n; ++i) {
    const std::int64_t group = view.as<const std::int64_t>()[i];
    fit = group >= 0 && group < groups;
  }
  return fit;
}

void bind_figures(py::module_& module) {
  using Question = std::tuple<std::uint64_t, TensorView, TensorView, TensorView>;
  module.def(
      "sweep_figures",
      [](const Views& maps, const Views& covered, const TensorView& image_groups, int groups, const TensorView& scores,
         const TensorView& offsets, const TensorView& region_groups, const std::vector<Question>& asked, int threads) {
        const auto images = static_cast<std::int64_t>(maps.size());
        const std::int64_t regions = region_groups.dims == 1 ? region_groups.size[0] : -1;
        bool fit = groups >= 1 && groups < 64 && are_images(maps, covered, 2) && is_scores(maps, scores) && regions >= 0 &&
                   are_groups(image_groups, images, groups) && are_groups(region_groups, regions, groups);
        require(fit && are_regions(scores, offsets, regions), "sweep_figures");
        std::vector<SweepQuestion> questions;
        for (const auto& [bits, saturations, limits, areas] : asked) {
          fit = are_saturations(saturations) && saturations.size[0] == regions && is_vector(limits, DType::f64) &&
                is_vector(areas, DType::f64, limits.size[0]);
          require(fit, "sweep_figures");
          questions.push_back({bits, saturations, limits, areas});
        }
        const SweepFigures found = without_gil([&] {
          return sweep_figures(maps, covered, image_groups, groups, scores, offsets, region_groups, questions, threads);
        });
        return py::make_tuple(found.nan_image, found.negatives, found.positives, found.auroc);
      },
      py::arg("maps"), py::arg("covered"), py::arg("image_groups"), py::arg("groups"), py::arg("scores"), py::arg("offsets"),
      py::arg("region_groups"), py::arg("questions"), py::arg("threads"));
}

}  // namespace

void bind_sweep(py::module_& module) {
  bind_regions(module);
  bind_figures(module);
  module.def(
      "spro_area",
      [](const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
         const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads) {
        require_sweep("spro_area", maps, covered, scores, offsets, saturations);
        require(is_vector(limits, DType::f64) && is_vector(areas, DType::f64) && limits.size[0] == areas.size[0], "spro_area");
        return to_tuple(
            without_gil([&] { return spro_area(maps, covered, scores, offsets, saturations, limits, areas, threads); }));
      },
      py::arg("maps"), py::arg("covered"), py::arg("scores"), py::arg("offsets"), py::arg("saturations"), py::arg("limits"),
      py::arg("areas"), py::arg("threads"));
  module.def(
      "spro_curve",
      [](const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
         const TensorView& saturations, int threads) {
        require_sweep("spro_curve", maps, covered, scores, offsets, saturations);
        Curve curve = without_gil([&] { return spro_curve(maps, covered, scores, offsets, saturations, threads); });
        return py::make_tuple(to_tuple(curve.info), to_array(std::move(curve.fpr)), to_array(std::move(curve.overlap)),
                              to_array(std::move(curve.thresholds)));
      },
      py::arg("maps"), py::arg("covered"), py::arg("scores"), py::arg("offsets"), py::arg("saturations"), py::arg("threads"));
  module.def(
      "auroc",
      [](const TensorView& scores, const TensorView& labels, int threads) {
        require(is_float(scores) && scores.dims == 1 && labels.dims == 1 && labels.dtype == DType::boolean &&
                    labels.size[0] == scores.size[0],
                "auroc");
        double area = 0;
        const SweepInfo info = without_gil([&] { return auroc(scores, labels, &area, threads); });
        return py::make_tuple(to_tuple(info), area);
      },
      py::arg("scores"), py::arg("labels"), py::arg("threads"));
  module.def(
      "negative_scores",
      [](const Views& maps, const Views& masks, const TensorView& counts, const TensorView& scores, int threads) {
        bool fits = are_images(maps, masks, 2) && is_scores(maps, scores) &&
                    is_vector(counts, DType::i64, static_cast<std::int64_t>(maps.size()));
        std::int64_t left = scores.size[0];
        for (std::size_t n = 0; fits && n < maps.size(); ++n) {
          const std::int64_t count = counts.as<const std::int64_t>()[n];
          fits = count >= 0 && count <= std::min(left, maps[n].elements());
          left -= count;
        }
        require(fits && left == 0, "negative_scores");
        const py::gil_scoped_release release;
        return negative_scores(maps, masks, counts, scores, threads);
      },
      py::arg("maps"), py::arg("masks"), py::arg("counts"), py::arg("scores"), py::arg("threads"));
}

}  // namespace thfr::bindings
