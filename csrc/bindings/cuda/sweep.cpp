#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/sweep_cuda.h"

namespace py = pybind11;

namespace thfr::bindings {
namespace {

void* to_stream(std::uintptr_t stream) { return reinterpret_cast<void*>(stream); }

bool is_keys(const TensorView& view) { return is_vector(view, DType::f32) || is_vector(view, DType::i64); }

// A vector of this length, or null data.
bool is_optional(const TensorView& view, DType dtype, std::int64_t length) {
  return view.size[0] == 0 || is_vector(view, dtype, length);
}
TensorView optional(const TensorView& view) {
  TensorView made = view;
  if (view.size[0] == 0) made.data = nullptr;
  return made;
}

bool are_marks(const Views& marks) {
  bool fit = !marks.empty();
  for (const TensorView& mark : marks) {
    fit = fit && mark.dims == 3 && mark.dtype == DType::boolean && mark.size[1] > 0 && mark.size[2] > 0;
  }
  return fit;
}

// Float [H,W] for each [R,H,W]; what holds their scores is wide enough.
bool are_maps(const Views& maps, const Views& marks, bool wide) {
  bool fit = maps.size() == marks.size() && are_marks(marks);
  for (std::size_t n = 0; fit && n < maps.size(); ++n) {
    fit = is_float(maps[n]) && maps[n].dims == 2 && maps[n].size[0] == marks[n].size[1] && maps[n].size[1] == marks[n].size[2] &&
          (wide || maps[n].dtype != DType::f64);
  }
  return fit;
}

struct Sizes {
  std::int64_t regions = 0, chunks = 0, region_chunks = 0, covered = 0;

  explicit Sizes(const Views& marks) {
    for (const TensorView& mark : marks) {
      const std::int64_t pixels = mark.size[1] * mark.size[2];
      regions += mark.size[0];
      chunks += cuda::sweep_chunks(pixels);
      region_chunks += cuda::sweep_chunks(pixels) * mark.size[0];
      covered += cuda::covered_bytes(pixels, mark.size[0]);
    }
  }
};

bool are_labels(const Views& labels, const Views& maps) {
  bool fit = labels.empty() || labels.size() == maps.size();
  for (std::size_t n = 0; fit && n < labels.size(); ++n) {
    fit = labels[n].dtype == DType::f32 && same_shape(labels[n], maps[n]) && is_contiguous(labels[n]);
  }
  return fit;
}

bool is_scratch(const TensorView& scratch) { return is_vector(scratch, DType::boolean) && scratch.size[0] > 0; }

// place, region, offsets, saturations, regions.
using OrderTuple = std::tuple<TensorView, TensorView, TensorView, TensorView, std::int64_t>;

cuda::RegionOrder order_of(const char* name, const OrderTuple& tuple) {
  const auto& [place, region, offsets, saturations, regions] = tuple;
  require(is_vector(place, DType::f32) && is_vector(region, DType::f32, place.size[0]) && regions > 0 && regions <= 0x7fffffff &&
              is_optional(offsets, DType::i64, regions + 1) && is_optional(saturations, DType::i64, regions) &&
              (saturations.size[0] == 0 || offsets.size[0] > 0),
          name);
  return {place, region, optional(offsets), optional(saturations), regions};
}

// rank, values, ends, table.
using IndexTuple = std::tuple<TensorView, TensorView, TensorView, TensorView>;

cuda::Index index_of(const char* name, const IndexTuple& tuple) {
  const auto& [rank, values, ends, table] = tuple;
  const std::int64_t segments = cuda::sweep_segments();
  require(is_vector(rank, DType::i64) && is_keys(values) && values.size[0] == rank.size[0] &&
              is_vector(ends, DType::i64, segments) && is_vector(table, DType::f32, values.size[0] + segments + 1),
          name);
  return {rank, values, ends, table};
}

bool is_summary(const TensorView& summary) { return is_vector(summary, DType::i64, 8); }

bool is_bins(const TensorView& bins, std::int64_t values) { return is_vector(bins, DType::i64, 2 * values + 1); }

void bind_images(py::module_& module) {
  module.def(
      "cuda_covered_bytes", [](std::int64_t pixels, std::int64_t regions) { return cuda::covered_bytes(pixels, regions); },
      py::arg("pixels"), py::arg("regions"));
  module.def("cuda_sweep_scratch", &cuda::sweep_scratch, py::arg("numbers"), py::arg("pixels"));
  module.def("cuda_sweep_chunks", [](std::int64_t pixels) { return cuda::sweep_chunks(pixels); }, py::arg("pixels"));
  module.def(
      "cuda_count_marks",
      [](const Views& regions, const TensorView& covered, const TensorView& sums, const TensorView& summary,
         const TensorView& scratch, std::uintptr_t stream) {
        require(are_marks(regions), "cuda_count_marks");
        const Sizes sizes(regions);
        require(is_vector(sums, DType::i64, sizes.region_chunks + sizes.chunks) &&
                    is_vector(covered, DType::boolean, sizes.covered) &&
                    reinterpret_cast<std::uintptr_t>(covered.data) % 16 == 0 && is_summary(summary) && is_scratch(scratch),
                "cuda_count_marks");
        require_launch("count_marks", cuda::count_marks(regions, covered, sums, summary, scratch, to_stream(stream)));
      },
      py::arg("regions"), py::arg("covered"), py::arg("sums"), py::arg("summary"), py::arg("scratch"), py::arg("stream"));
  module.def(
      "cuda_find_offsets",
      [](const Views& regions, const TensorView& sums, const TensorView& saturations, const TensorView& found,
         const TensorView& offsets, const TensorView& summary, std::uintptr_t stream) {
        require(are_marks(regions), "cuda_find_offsets");
        const Sizes sizes(regions);
        require(is_vector(sums, DType::i64, sizes.region_chunks + sizes.chunks) &&
                    is_optional(saturations, DType::i64, sizes.regions) && is_vector(offsets, DType::i64, sizes.regions + 1) &&
                    is_optional(found, DType::i64, 1) && is_summary(summary),
                "cuda_find_offsets");
        require_launch("find_offsets", cuda::find_offsets(regions, sums, optional(saturations), optional(found), offsets, summary,
                                                          to_stream(stream)));
      },
      py::arg("regions"), py::arg("sums"), py::arg("saturations"), py::arg("found"), py::arg("offsets"), py::arg("summary"),
      py::arg("stream"));
  module.def(
      "cuda_collect_scores",
      [](const Views& maps, const Views& marks, const TensorView& sums, bool marked, bool as_keys, const Views& labels,
         const TensorView& scores, const TensorView& region, const TensorView& flag, std::uintptr_t stream) {
        const bool wide = scores.dtype == DType::f64 || scores.dtype == DType::i64;
        require(are_maps(maps, marks, wide) && (as_keys ? is_keys(scores) : is_vector(scores, wide ? DType::f64 : DType::f32)),
                "cuda_collect_scores");
        const Sizes sizes(marks);
        require(is_vector(sums, DType::i64, marked ? sizes.region_chunks : sizes.chunks) && are_labels(labels, maps) &&
                    is_optional(region, DType::f32, scores.size[0]) && is_vector(flag, DType::i64, 1),
                "cuda_collect_scores");
        for (const TensorView& mark : marks) require(marked || mark.size[0] <= 1, "cuda_collect_scores");
        const cuda::Collection collection{marked, as_keys, labels};
        require_launch("collect_scores",
                       cuda::collect_scores(maps, marks, sums, collection, scores, optional(region), flag, to_stream(stream)));
      },
      py::arg("maps"), py::arg("marks"), py::arg("sums"), py::arg("marked"), py::arg("as_keys"), py::arg("labels"),
      py::arg("scores"), py::arg("region"), py::arg("flag"), py::arg("stream"));
  module.def(
      "cuda_count_scores",
      [](const Views& maps, const Views& marks, bool marked, const IndexTuple& tuple, const TensorView& bins,
         const TensorView& flag, const TensorView& scratch, std::uintptr_t stream) {
        const cuda::Index index = index_of("cuda_count_scores", tuple);
        const std::int64_t pixels = index.values.size[0];
        require(are_maps(maps, marks, index.values.dtype == DType::i64) && is_bins(bins, pixels) &&
                    is_vector(flag, DType::i64, 1) && (pixels == 0 || is_scratch(scratch)),
                "cuda_count_scores");
        for (const TensorView& mark : marks) require(mark.size[0] <= 1, "cuda_count_scores");
        require_launch("count_scores", cuda::count_scores(maps, marks, marked, index, bins, flag, scratch, to_stream(stream)));
      },
      py::arg("maps"), py::arg("marks"), py::arg("marked"), py::arg("index"), py::arg("bins"), py::arg("flag"),
      py::arg("scratch"), py::arg("stream"));
}

// One mask an image, and links and labels of all pixels.
void require_roots(const char* name, const Views& masks, const TensorView& links) {
  require(are_marks(masks), name);
  std::int64_t pixels = 0;
  for (const TensorView& mask : masks) {
    require(mask.size[0] == 1, name);
    pixels += mask.size[1] * mask.size[2];
  }
  require(is_vector(links, DType::i64, pixels), name);
}

void bind_labels(py::module_& module) {
  module.def(
      "cuda_find_roots",
      [](const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& scratch, std::uintptr_t stream) {
        require_roots("cuda_find_roots", masks, links);
        require(is_vector(sums, DType::i64, Sizes(masks).chunks) && is_scratch(scratch), "cuda_find_roots");
        require_launch("find_roots", cuda::find_roots(masks, links, sums, scratch, to_stream(stream)));
      },
      py::arg("masks"), py::arg("links"), py::arg("sums"), py::arg("scratch"), py::arg("stream"));
  module.def(
      "cuda_number_roots",
      [](const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& labels, std::uintptr_t stream) {
        require_roots("cuda_number_roots", masks, links);
        require(is_vector(sums, DType::i64, Sizes(masks).chunks) && is_vector(labels, DType::f32, links.size[0]),
                "cuda_number_roots");
        require_launch("number_roots", cuda::number_roots(masks, links, sums, labels, to_stream(stream)));
      },
      py::arg("masks"), py::arg("links"), py::arg("sums"), py::arg("labels"), py::arg("stream"));
}

void bind_index(py::module_& module) {
  module.def(
      "cuda_make_keys",
      [](const TensorView& scores, const TensorView& keys, std::uintptr_t stream) {
        require(is_keys(keys) && is_vector(scores, keys.dtype == DType::i64 ? DType::f64 : DType::f32, keys.size[0]),
                "cuda_make_keys");
        require_launch("make_keys", cuda::make_keys(scores, keys, to_stream(stream)));
      },
      py::arg("scores"), py::arg("keys"), py::arg("stream"));
  module.def(
      "cuda_sort_scores",
      [](const TensorView& keys, const TensorView& region, const TensorView& sorted, const TensorView& permuted, int first_bit,
         const TensorView& scratch, std::uintptr_t stream) {
        const std::int64_t pixels = keys.size[0];
        require(is_keys(keys) && is_vector(region, DType::f32, pixels) && is_vector(sorted, keys.dtype, pixels) &&
                    is_vector(permuted, DType::f32, pixels) && first_bit >= 0 && first_bit < 32 && is_scratch(scratch),
                "cuda_sort_scores");
        require_launch("sort_scores", cuda::sort_scores(keys, region, sorted, permuted, first_bit, scratch, to_stream(stream)));
      },
      py::arg("keys"), py::arg("region"), py::arg("sorted"), py::arg("permuted"), py::arg("first_bit"), py::arg("scratch"),
      py::arg("stream"));
  module.def("cuda_sweep_segments", &cuda::sweep_segments);
  module.def(
      "cuda_make_index",
      [](const TensorView& keys, const IndexTuple& tuple, const TensorView& bins, const TensorView& numbers,
         const TensorView& scratch, std::uintptr_t stream) {
        const cuda::Index index = index_of("cuda_make_index", tuple);
        const std::int64_t pixels = keys.size[0];
        require(is_keys(keys) && pixels > 0 && is_vector(index.values, keys.dtype, pixels) && is_bins(bins, pixels) &&
                    is_optional(numbers, DType::f32, pixels) && is_scratch(scratch),
                "cuda_make_index");
        require_launch("make_index", cuda::make_index(keys, index, bins, optional(numbers), scratch, to_stream(stream)));
      },
      py::arg("keys"), py::arg("index"), py::arg("bins"), py::arg("numbers"), py::arg("scratch"), py::arg("stream"));
}

void bind_areas(py::module_& module) {
  module.def(
      "cuda_order_regions",
      [](const TensorView& region, const TensorView& numbers, const OrderTuple& tuple, const TensorView& scratch,
         std::uintptr_t stream) {
        const cuda::RegionOrder order = order_of("cuda_order_regions", tuple);
        require(is_vector(region, DType::f32, order.place.size[0]) && is_vector(numbers, DType::f32, region.size[0]) &&
                    is_scratch(scratch),
                "cuda_order_regions");
        require_launch("order_regions", cuda::order_regions(region, numbers, order, scratch, to_stream(stream)));
      },
      py::arg("region"), py::arg("numbers"), py::arg("order"), py::arg("scratch"), py::arg("stream"));
  module.def(
      "cuda_share_areas",
      [](const OrderTuple& order_tuple, const IndexTuple& index_tuple, const TensorView& sums, const TensorView& twice,
         const std::vector<double>& limits, const TensorView& flag, const TensorView& shares, const TensorView& areas,
         const TensorView& scratch, std::uintptr_t stream) {
        const cuda::RegionOrder order = order_of("cuda_share_areas", order_tuple);
        const cuda::Index index = index_of("cuda_share_areas", index_tuple);
        const std::int64_t pixels = order.place.size[0], count = static_cast<std::int64_t>(limits.size());
        require(index.rank.size[0] == pixels && is_bins(sums, pixels) && is_vector(twice, DType::i64, pixels) && pixels > 0 &&
                    is_vector(flag, DType::i64, 1) && shares.dims == 2 && shares.dtype == DType::f64 && is_contiguous(shares) &&
                    count > 0 && shares.size[0] == count && shares.size[1] == order.regions &&
                    is_vector(areas, DType::f64, count) && is_scratch(scratch),
                "cuda_share_areas");
        require_launch("share_areas",
                       cuda::share_areas(order, index, sums, twice, limits, flag, shares, areas, scratch, to_stream(stream)));
      },
      py::arg("order"), py::arg("index"), py::arg("sums"), py::arg("twice"), py::arg("limits"), py::arg("flag"),
      py::arg("shares"), py::arg("areas"), py::arg("scratch"), py::arg("stream"));
  module.def(
      "cuda_rank_area",
      [](const TensorView& rank, const TensorView& sums, bool positives, double pairs, const TensorView& total,
         const TensorView& flag, const TensorView& area, std::uintptr_t stream) {
        require(is_vector(rank, DType::i64) && rank.size[0] > 0 && is_bins(sums, rank.size[0]) &&
                    is_vector(total, DType::i64, 2) && is_vector(flag, DType::i64, 1) && is_vector(area, DType::f64, 1),
                "cuda_rank_area");
        require_launch("rank_area", cuda::rank_area(rank, sums, positives, pairs, total, flag, area, to_stream(stream)));
      },
      py::arg("rank"), py::arg("sums"), py::arg("positives"), py::arg("pairs"), py::arg("total"), py::arg("flag"),
      py::arg("area"), py::arg("stream"));
}

}  // namespace

void bind_cuda_sweep(py::module_& module) {
  bind_images(module);
  bind_labels(module);
  bind_index(module);
  bind_areas(module);
}

}  // namespace thfr::bindings
