// Launches over the scores of regions' pixels.
#include <algorithm>

#include "sweep/cuda/area.cuh"
#include "sweep/cuda/library.cuh"
#include "sweep/cuda/sums.h"
#include "thfr/sweep_cuda.h"

namespace thfr::cuda {

using namespace sweep;

namespace {

constexpr int block = 256;

// One thread an item.
template <typename... Parameters, typename... Arguments>
const char* launch_items(void (*kernel)(Parameters...), std::int64_t items, void* stream, Arguments... arguments) {
  const std::int64_t blocks = ceil_div(items, block);
  if (blocks == 0) return nullptr;
  if (blocks > 0x7fffffff) return "more than 2^31 blocks";
  return launch(kernel, static_cast<unsigned>(blocks), block, 0, stream, arguments...);
}

Order order_of(const RegionOrder& order) {
  return {order.place.as<std::int32_t>(),
          order.region.as<std::int32_t>(),
          order.offsets.as<std::int64_t>(),
          order.saturations.as<std::int64_t>(),
          order.place.size[0],
          order.regions};
}

Ranks ranks_of(const Index& index) { return {index.rank.as<std::int64_t>(), index.rank.size[0]}; }

Negatives negatives_of(const TensorView& sums) { return {sums.as<std::int64_t>(), (sums.size[0] - 1) / 2}; }

bool is_wide(const TensorView& keys) { return keys.dtype == DType::i64 || keys.dtype == DType::f64; }

}  // namespace

const char* make_keys(const TensorView& scores, const TensorView& keys, void* stream) {
  const std::int64_t n = keys.size[0];
  if (is_wide(keys)) {
    return launch_items(key_kernel<double, std::int64_t>, n, stream, scores.as<double>(), keys.as<std::int64_t>(), n);
  }
  return launch_items(key_kernel<float, std::int32_t>, n, stream, scores.as<float>(), keys.as<std::int32_t>(), n);
}

const char* sweep::running_sums_in_place(const TensorView& scratch_view, const TensorView& numbers, void* stream) {
  Scratch scratch(scratch_view);
  auto* at = numbers.as<std::int64_t>();
  return running_sums(scratch, Numbers{at}, at, numbers.size[0], stream);
}

std::int64_t sweep_scratch(std::int64_t numbers, std::int64_t pixels) {
  std::size_t most = 0;
  const auto count = [&](const auto& ask) {
    Scratch scratch;
    ask(scratch);
    most = std::max(most, scratch.bytes);
  };
  const std::int64_t* const rank = nullptr;
  count([&](Scratch& scratch) { running_sums(scratch, Numbers{}, nullptr, numbers, nullptr); });
  if (pixels > 0) {
    const std::int32_t* const none = nullptr;
    const std::int64_t* const none_wide = nullptr;
    std::int32_t* const to = nullptr;
    std::int64_t* const to_wide = nullptr;
    count([&](Scratch& scratch) { running_sums(scratch, Changes<std::int32_t>{none}, to_wide, pixels, nullptr); });
    count([&](Scratch& scratch) { running_sums(scratch, Changes<std::int64_t>{none_wide}, to_wide, pixels, nullptr); });
    count([&](Scratch& scratch) { running_sums(scratch, Twice{{}, {rank, 0}, {}}, to_wide, pixels, nullptr); });
    count([&](Scratch& scratch) { sort_pairs(scratch, none, to, none, to, pixels, 0, 32, nullptr); });
    count([&](Scratch& scratch) { sort_pairs(scratch, none_wide, to_wide, none, to, pixels, 0, 64, nullptr); });
  }
  return static_cast<std::int64_t>(most);
}

const char* sort_scores(const TensorView& keys, const TensorView& region, const TensorView& sorted, const TensorView& permuted,
                        int first_bit, const TensorView& scratch_view, void* stream) {
  Scratch scratch(scratch_view);
  const std::int64_t n = keys.size[0];
  const auto* from = region.as<const std::int32_t>();
  auto* to = permuted.as<std::int32_t>();
  if (is_wide(keys)) {
    return sort_pairs(scratch, keys.as<const std::int64_t>(), sorted.as<std::int64_t>(), from, to, n, 0, 64, stream);
  }
  return sort_pairs(scratch, keys.as<const std::int32_t>(), sorted.as<std::int32_t>(), from, to, n, first_bit, 32, stream);
}

std::int64_t sweep_segments() { return segments; }

template <typename Key>
static const char* make_index_of(const TensorView& keys, const Index& index, const TensorView& bins, const TensorView& numbers,
                                 const TensorView& scratch_view, void* stream) {
  Scratch scratch(scratch_view);
  const std::int64_t n = keys.size[0], capacity = index.table.size[0];
  const Key* const sorted = keys.as<const Key>();
  const Ranks ranks = ranks_of(index);
  auto* values = index.values.as<Key>();
  auto* ends = index.ends.as<std::int64_t>();
  if (const char* error = running_sums(scratch, Changes<Key>{sorted}, index.rank.as<std::int64_t>(), n, stream)) return error;
  const char* error =
      launch_items(value_kernel<Key>, n, stream, sorted, ranks, values, bins.as<std::int64_t>(), numbers.as<std::int32_t>());
  if (error != nullptr) return error;
  error = launch(segment_kernel<Key>, 1, segments, 0, stream, values, ranks, ends);
  if (error != nullptr) return error;
  return launch_items(table_kernel<Key>, capacity, stream, values, ranks, ends, index.table.as<std::uint32_t>(), capacity);
}

const char* make_index(const TensorView& keys, const Index& index, const TensorView& bins, const TensorView& numbers,
                       const TensorView& scratch, void* stream) {
  if (is_wide(keys)) return make_index_of<std::int64_t>(keys, index, bins, numbers, scratch, stream);
  return make_index_of<std::int32_t>(keys, index, bins, numbers, scratch, stream);
}

const char* order_regions(const TensorView& region, const TensorView& numbers, const RegionOrder& order,
                          const TensorView& scratch_view, void* stream) {
  Scratch scratch(scratch_view);
  int bits = 0;
  while (bits < 31 && (order.regions - 1) >> bits != 0) ++bits;
  return sort_pairs(scratch, region.as<const std::int32_t>(), order.region.as<std::int32_t>(), numbers.as<const std::int32_t>(),
                    order.place.as<std::int32_t>(), region.size[0], 0, bits, stream);
}

const char* share_areas(const RegionOrder& order, const Index& index, const TensorView& sums, const TensorView& twice,
                        const std::vector<double>& limits, const TensorView& flag, const TensorView& shares,
                        const TensorView& areas, const TensorView& scratch_view, void* stream) {
  constexpr int few = 64;  // regions are few, and each thread waits for memory most of the time
  Scratch scratch(scratch_view);
  const Order pixels = order_of(order);
  const Ranks ranks = ranks_of(index);
  const Negatives negatives = negatives_of(sums);
  auto* at = twice.as<std::int64_t>();
  if (const char* error = running_sums(scratch, Twice{pixels, ranks, negatives}, at, pixels.pixels, stream)) return error;
  const std::int64_t regions = order.regions, blocks = ceil_div(regions, few);
  if (blocks > 0x7fffffff) return "more than 2^31 blocks";
  for (std::size_t first = 0; first < limits.size(); first += Bounds::most) {
    const std::size_t count = std::min<std::size_t>(Bounds::most, limits.size() - first);
    Bounds bounds{};
    std::copy_n(limits.begin() + static_cast<std::ptrdiff_t>(first), count, bounds.limit);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(count));
    const char* error = launch(share_kernel, grid, few, 0, stream, pixels, ranks, negatives, at, bounds, flag.as<std::int64_t>(),
                               shares.as<double>() + static_cast<std::int64_t>(first) * regions);
    if (error != nullptr) return error;
  }
  return launch(mean_kernel, static_cast<unsigned>(limits.size()), mean_block, 0, stream, shares.as<double>(), regions,
                areas.as<double>());
}

const char* rank_area(const TensorView& rank, const TensorView& sums, bool positives, double pairs, const TensorView& total,
                      const TensorView& flag, const TensorView& area, void* stream) {
  const std::int64_t blocks = std::min<std::int64_t>(ceil_div(rank.size[0], block), 8 * multiprocessors());
  auto* both = total.as<unsigned long long>();
  const char* error = launch(pair_kernel, static_cast<unsigned>(blocks), block, 0, stream, rank.as<std::int64_t>(), rank.size[0],
                             negatives_of(sums), positives, both);
  if (error != nullptr) return error;
  return launch(area_kernel, 1, warp, 0, stream, both, pairs, flag.as<std::int64_t>(), area.as<double>());
}

}  // namespace thfr::cuda
