// Launches over the scores of regions' pixels.
#include <algorithm>

#include "sweep/cuda/area.cuh"
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
  return {order.place.as<std::int64_t>(),
          order.region.as<std::int32_t>(),
          order.offsets.as<std::int64_t>(),
          order.saturations.as<std::int64_t>(),
          order.place.size[0],
          order.offsets.size[0] - 1};
}

Ranks ranks_of(const Distinct& distinct) {
  return {distinct.rank.as<std::int64_t>(), distinct.used.as<std::int64_t>(), distinct.rank.size[0]};
}

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

const char* flag_changes(const TensorView& keys, const TensorView& changes, void* stream) {
  const std::int64_t n = keys.size[0];
  auto* to = changes.as<std::int64_t>();
  if (is_wide(keys)) return launch_items(change_kernel<std::int64_t>, n, stream, keys.as<std::int64_t>(), to, n);
  return launch_items(change_kernel<std::int32_t>, n, stream, keys.as<std::int32_t>(), to, n);
}

const char* flag_used(const RegionOrder& order, const TensorView& rank, const TensorView& used, void* stream) {
  return launch_items(used_kernel, order.place.size[0], stream, order_of(order), rank.as<std::int64_t>(),
                      used.as<std::int64_t>());
}

template <typename Key>
static const char* make_values_of(const TensorView& keys, const Distinct& distinct, const TensorView& values,
                                  const TensorView& sizes, void* stream) {
  const Ranks ranks = ranks_of(distinct);
  auto* to = values.as<Key>();
  if (const char* error = launch_items(value_kernel<Key>, keys.size[0], stream, keys.as<Key>(), ranks, to)) return error;
  return launch_items(segment_kernel<Key>, segments, stream, to, ranks, sizes.as<std::int64_t>());
}

const char* make_values(const TensorView& keys, const Distinct& distinct, const TensorView& values, const TensorView& sizes,
                        void* stream) {
  if (is_wide(keys)) return make_values_of<std::int64_t>(keys, distinct, values, sizes, stream);
  return make_values_of<std::int32_t>(keys, distinct, values, sizes, stream);
}

std::int64_t sweep_segments() { return segments; }

const char* make_table(const Distinct& distinct, const Index& index, void* stream) {
  const Ranks ranks = ranks_of(distinct);
  const std::int64_t capacity = index.table.size[0];
  auto* table = index.table.as<std::uint32_t>();
  auto* ends = index.ends.as<std::int64_t>();
  if (is_wide(index.values)) {
    return launch_items(table_kernel<std::int64_t>, capacity, stream, index.values.as<std::int64_t>(), ranks, ends, table,
                        capacity);
  }
  return launch_items(table_kernel<std::int32_t>, capacity, stream, index.values.as<std::int32_t>(), ranks, ends, table,
                      capacity);
}

const char* double_ranks(const RegionOrder& order, const Distinct& distinct, const TensorView& sums, const TensorView& twice,
                         void* stream) {
  return launch_items(twice_kernel, order.place.size[0], stream, order_of(order), ranks_of(distinct), negatives_of(sums),
                      twice.as<std::int64_t>());
}

const char* share_areas(const RegionOrder& order, const Distinct& distinct, const TensorView& sums, const TensorView& twice,
                        const std::vector<double>& limits, const TensorView& flag, const TensorView& shares, void* stream) {
  constexpr int few = 64;  // regions are few, and each thread waits for memory most of the time
  const std::int64_t regions = shares.size[1], blocks = ceil_div(regions, few);
  if (blocks > 0x7fffffff) return "more than 2^31 blocks";
  for (std::size_t first = 0; regions > 0 && first < limits.size(); first += Bounds::most) {
    const std::size_t count = std::min<std::size_t>(Bounds::most, limits.size() - first);
    Bounds bounds{};
    std::copy_n(limits.begin() + static_cast<std::ptrdiff_t>(first), count, bounds.limit);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(count));
    const char* error = launch(share_kernel, grid, few, 0, stream, order_of(order), ranks_of(distinct), negatives_of(sums),
                               twice.as<std::int64_t>(), bounds, flag.as<std::int64_t>(),
                               shares.as<double>() + static_cast<std::int64_t>(first) * regions);
    if (error != nullptr) return error;
  }
  return nullptr;
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
