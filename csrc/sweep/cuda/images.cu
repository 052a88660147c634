// Launches over the pixels of images.
#include "sweep/cuda/batch.h"
#include "sweep/cuda/collect.cuh"
#include "sweep/cuda/count.cuh"
#include "sweep/cuda/label.cuh"
#include "sweep/cuda/sums.h"
#include "thfr/sweep_cuda.h"

namespace thfr::cuda {

using namespace sweep;

namespace {

const char* const too_many = "more than 2^31 blocks";

// One thread an item, or one warp.
bool make_grid(std::int64_t items, int items_a_block, unsigned& grid) {
  const std::int64_t blocks = ceil_div(items, items_a_block);
  grid = static_cast<unsigned>(blocks);
  return blocks <= 0x7fffffff;
}

std::int64_t chunks_in(const Image& image) { return sweep_chunks(image.height * image.width); }

// Calls visit(T{}, Score{}, Key{}): a score as the map has it, widened, and as an integer. Maps are all of fp64, or none is.
template <typename Visit>
const char* with_types(DType map, bool wide, const Visit& visit) {
  if (wide != (map == DType::f64)) return "scores of fp64 and of other types in one set";
  switch (map) {
    case DType::f64: return visit(double{}, double{}, std::int64_t{});
    case DType::f16: return visit(__half{}, float{}, std::int32_t{});
    case DType::bf16: return visit(__nv_bfloat16{}, float{}, std::int32_t{});
    default: return visit(float{}, float{}, std::int32_t{});
  }
}

bool is_wide(const TensorView& scores) { return bytes_of(scores.dtype) == 8; }

}  // namespace

std::int64_t sweep_chunks(std::int64_t pixels) { return ceil_div(pixels, chunk_pixels); }

std::int64_t covered_bytes(std::int64_t pixels, std::int64_t regions) {
  return regions < 2 ? 0 : ceil_div(pixels, lane_pixels) * lane_pixels;
}

const char* count_marks(const Views& regions, const TensorView& covered, const TensorView& sums, const TensorView& summary,
                        const TensorView& scratch, void* stream) {
  const Views no_maps;
  Batches batches(no_maps, regions);
  batches.number_chunks(true, chunk_pixels);
  std::int64_t chunks = 0, bytes = 0;
  for (Image& image : batches.images()) {
    image.pixel = bytes;
    bytes += covered_bytes(image.height * image.width, image.planes);
    chunks += chunks_in(image) * image.planes;
  }
  auto* unions = sums.as<std::int64_t>() + chunks;
  const char* const error = batches.visit(chunks_in, [&](const Images& images, DType) -> const char* {
    unsigned grid = 0;
    if (!make_grid(images.items, collect_warps, grid)) return too_many;
    auto* to = unions;
    unions += images.items;
    return launch(mark_kernel, grid, collect_block, 0, stream, images, covered.as<std::uint8_t>(), sums.as<std::int64_t>(), to,
                  summary.as<std::int64_t>());
  });
  return error != nullptr ? error : running_sums_in_place(scratch, sums, stream);
}

const char* find_offsets(const Views& regions, const TensorView& sums, const TensorView& saturations, const TensorView& found,
                         const TensorView& offsets, const TensorView& summary, void* stream) {
  const Views no_maps;
  Batches batches(no_maps, regions);
  batches.number_chunks(true, chunk_pixels);
  const auto planes = [](const Image& image) { return image.planes; };
  return batches.visit(planes, [&](const Images& images, DType) -> const char* {
    constexpr int block = 128;
    unsigned grid = 0;
    if (!make_grid(std::max<std::int64_t>(images.items, 1), block, grid)) return too_many;
    return launch(offset_kernel, grid, block, 0, stream, images, sums.as<std::int64_t>(), sums.size[0] - 1,
                  saturations.as<std::int64_t>(), found.as<std::int64_t>(), offsets.as<std::int64_t>(),
                  summary.as<std::int64_t>());
  });
}

const char* collect_scores(const Views& maps, const Views& regions, const TensorView& sums, const Collection& collection,
                           const TensorView& scores, const TensorView& region, const TensorView& flag, void* stream) {
  if (scores.size[0] == 0) return nullptr;
  Batches batches(maps, regions);
  batches.number_chunks(collection.marked, chunk_pixels);
  std::int64_t pixel = 0;
  std::size_t n = 0;
  for (Image& image : batches.images()) {
    image.pixel = pixel;
    pixel += image.height * image.width;
    if (!collection.marked) image.planes = 1;
    if (!collection.labels.empty()) {
      image.labels = collection.labels[n].as<const std::int32_t>();
      image.region = 0;
    }
    ++n;
  }
  const Collected to{sums.as<std::int64_t>(), scores.data,       region.as<std::int32_t>(), flag.as<std::int64_t>(),
                     scores.size[0],          collection.marked, collection.as_keys};
  const auto chunks = [](const Image& image) { return chunks_in(image) * image.planes; };
  return batches.visit(chunks, [&](const Images& images, DType dtype) -> const char* {
    unsigned grid = 0;
    if (images.items == 0) return nullptr;
    if (!make_grid(images.items, collect_warps, grid)) return too_many;
    return with_types(dtype, is_wide(scores), [&](auto score, auto wide, auto key) {
      return launch(collect_kernel<decltype(score), decltype(wide), decltype(key)>, grid, collect_block, 0, stream, images, to);
    });
  });
}

namespace {

Batches masks_of(const Views& masks) {
  static const Views no_maps;
  Batches batches(no_maps, masks);
  batches.number_chunks(true, chunk_pixels);
  std::int64_t pixel = 0;
  for (Image& image : batches.images()) {
    image.pixel = pixel;
    pixel += image.height * image.width;
  }
  return batches;
}

// Launches kernels over all chunks, each kernel when the one before is done.
template <typename... Arguments>
const char* launch_chunks(const Batches& batches, void* stream, void (*kernel)(Images, Arguments...), Arguments... arguments) {
  return batches.visit(chunks_in, [&](const Images& images, DType) -> const char* {
    unsigned grid = 0;
    if (!make_grid(images.items, collect_warps, grid)) return too_many;
    return launch(kernel, grid, collect_block, 0, stream, images, arguments...);
  });
}

}  // namespace

const char* find_roots(const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& scratch,
                       void* stream) {
  const Batches batches = masks_of(masks);
  auto* to = links.as<Link>();
  if (const char* error = launch_chunks(batches, stream, link_kernel, to)) return error;
  if (const char* error = launch_chunks(batches, stream, unite_kernel, to)) return error;
  if (const char* error = launch_chunks(batches, stream, root_kernel, to, sums.as<std::int64_t>())) return error;
  return running_sums_in_place(scratch, sums, stream);
}

const char* number_roots(const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& labels,
                         void* stream) {
  const Batches batches = masks_of(masks);
  const Link* from = links.as<Link>();
  auto* to = labels.as<std::int32_t>();
  const std::int64_t* before = sums.as<std::int64_t>();
  if (const char* error = launch_chunks(batches, stream, number_kernel, from, before, to)) return error;
  return launch_chunks(batches, stream, spread_kernel, from, to);
}

namespace {

template <typename T, typename Key>
const char* launch_count(const Images& images, const Values<Key>& index, bool marked, const TensorView& bins,
                         const TensorView& flag, void* stream) {
  if (images.items > 0x7fffffff) return too_many;
  // As many blocks as run at once: each adds its counters up once, and all end together.
  const auto resident = static_cast<std::int64_t>(resident_blocks<Key>) * multiprocessors();
  const auto grid = static_cast<unsigned>(std::min(images.items, resident));
  return launch(count_kernel<T, Key>, grid, count_block, 0, stream, images, index, marked, bins.as<Count>(),
                flag.as<std::int64_t>());
}

}  // namespace

const char* count_scores(const Views& maps, const Views& marks, bool marked, const Index& index, const TensorView& bins,
                         const TensorView& flag, const TensorView& scratch, void* stream) {
  const Batches batches(maps, marks);
  const Ranks ranks{index.rank.as<std::int64_t>(), index.values.size[0]};
  const auto tiles = [](const Image& image) { return ceil_div(image.height * image.width, tile_pixels); };
  const char* const error = batches.visit(tiles, [&](const Images& images, DType dtype) -> const char* {
    return with_types(dtype, is_wide(index.values), [&](auto score, auto, auto key) {
      using Key = decltype(key);
      const Values<Key> values{index.values.as<const Key>(), ranks, index.ends.as<const std::int64_t>(),
                               index.table.as<const std::uint32_t>()};
      return launch_count<decltype(score), Key>(images, values, marked, bins, flag, stream);
    });
  });
  return error != nullptr || ranks.pixels == 0 ? error : running_sums_in_place(scratch, bins, stream);
}

}  // namespace thfr::cuda
