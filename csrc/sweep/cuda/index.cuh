// Kernels: the distinct scores of regions' pixels, and the table that finds a score among them.
#pragma once

#include "sweep/cuda/scores.cuh"

namespace thfr::cuda::sweep {

// As RegionOrder of thfr/sweep_cuda.h.
struct Order {
  const std::int32_t *place, *region;
  const std::int64_t *offsets, *saturations;  // may be nullptr: the former only if the latter is
  std::int64_t pixels, regions;
};
struct Ranks {
  const std::int64_t* rank;
  std::int64_t pixels;

  // How many distinct values there are.
  __device__ std::int64_t distinct() const {
    const std::int64_t found = pixels == 0 ? 0 : rank[pixels - 1];
    return found < 0 ? 0 : found > pixels ? pixels : found;
  }
  // Which of them the sorted key at `place` has; -1 where numbers are none of ours.
  __device__ std::int64_t value_at(std::int64_t place) const {
    if (place < 0 || place >= pixels) return -1;
    const std::int64_t value = rank[place] - 1;
    return value >= 0 && value < pixels ? value : -1;
  }
};

// Whether the i-th pixel is among its region's highest.
__device__ inline bool is_kept(const Order& order, std::int64_t i) {
  if (order.saturations == nullptr) return true;
  const std::int64_t region = order.region[i];
  if (region < 0 || region >= order.regions) return false;
  return static_cast<std::int64_t>(distance(order.saturations[region], order.offsets[region + 1])) <= i;
}

template <typename Score, typename Key>
__global__ void key_kernel(const Score* __restrict__ scores, Key* __restrict__ keys, std::int64_t n) {
  const std::int64_t i = thread_index();
  if (i < n) make_key(scores[i], keys[i]);
}

// 1 where a sorted key differs from the one before: their running sums are ranks from 1.
template <typename Key>
struct Changes {
  const Key* keys;
  __device__ std::int64_t operator()(std::int64_t i) const { return i == 0 || keys[i] != keys[i - 1] ? 1 : 0; }
};

// The distinct keys; besides, bins (of 2 pixels + 1) become 0, and numbers, which may be nullptr, those of the pixels.
template <typename Key>
__global__ void value_kernel(const Key* __restrict__ keys, Ranks ranks, Key* __restrict__ values, std::int64_t* __restrict__ bins,
                             std::int32_t* __restrict__ numbers) {
  const std::int64_t i = thread_index();
  if (i >= ranks.pixels) return;
  bins[2 * i] = bins[2 * i + 1] = 0;
  if (i == 0) bins[2 * ranks.pixels] = 0;
  if (numbers != nullptr) numbers[i] = static_cast<std::int32_t>(i);
  if (i > 0 && ranks.rank[i] == ranks.rank[i - 1]) return;
  const std::int64_t value = ranks.value_at(i);
  if (value >= 0) values[value] = keys[i];
}

// The range of values is cut into segments of equal size, by the leading bits of keys, and each segment into as many buckets as
// it has values, or half as many: a bucket has one or two, however the scores are distributed.
constexpr int segment_bits = 10, segments = 1 << segment_bits;

template <typename Key>
struct Range {
  Key low, high;
  std::int64_t size;  // values
  int shift;          // of the bits of a segment

  __device__ Range(const Key* values, std::int64_t size_) : low(0), high(0), size(size_), shift(0) {
    if (size == 0) return;
    low = values[0], high = values[size - 1];
    const int length = 64 - __clzll(static_cast<long long>(distance(low, high)));
    shift = length > segment_bits ? length - segment_bits : 0;
  }

  // The first value of which the leading bits, without the last `dropped`, are not below `wanted`.
  __device__ std::int64_t first(const Key* values, int dropped, std::uint64_t wanted) const {
    std::int64_t first = 0, last = size;
    while (first < last) {
      const std::int64_t middle = first + (last - first) / 2;
      if (static_cast<std::uint64_t>(distance(low, values[middle]) >> dropped) < wanted) {
        first = middle + 1;
      } else {
        last = middle;
      }
    }
    return first;
  }
};

// ends[s]: running sums of the buckets of each segment, a power of two. One block, a thread a segment.
template <typename Key>
__global__ void __launch_bounds__(segments)
    segment_kernel(const Key* __restrict__ values, Ranks ranks, std::int64_t* __restrict__ ends) {
  THFR_SHARED(std::int64_t, of_warp, [segments / warp]);
  const int segment = static_cast<int>(threadIdx.x);
  const Range<Key> range(values, ranks.distinct());
  const auto number = static_cast<std::uint64_t>(segment);
  const std::int64_t here = range.first(values, range.shift, number + 1) - range.first(values, range.shift, number);
  int bits = 0;
  while (bits < range.shift && (std::int64_t{2} << bits) < here) ++bits;
  std::int64_t sum = std::int64_t{1} << bits;
  for (int step = 1; step < warp; step *= 2) {
    const std::int64_t other = __shfl_up_sync(all_lanes, sum, step);
    if (lane_of() >= step) sum += other;
  }
  if (lane_of() == warp - 1) of_warp[segment / warp] = sum;
  __syncthreads();
  for (int before = 0; before < segment / warp; ++before) sum += of_warp[before];
  ends[segment] = sum;
}

// A segment's first bucket, and how many bits of a key number it: sizes are differences of their running sums.
struct Segment {
  std::uint32_t bucket;
  int bits;
};
__device__ inline Segment segment_at(const std::int64_t* ends, std::int64_t segment) {
  const std::int64_t begin = segment > 0 ? ends[segment - 1] : 0;
  return {static_cast<std::uint32_t>(begin), __ffs(static_cast<int>(ends[segment] - begin)) - 1};
}

// table[b]: the first value of bucket b or after it.
template <typename Key>
__global__ void table_kernel(const Key* __restrict__ values, Ranks ranks, const std::int64_t* __restrict__ ends,
                             std::uint32_t* __restrict__ table, std::int64_t capacity) {
  const std::int64_t bucket = thread_index();
  if (bucket >= capacity) return;
  const Range<Key> range(values, ranks.distinct());
  std::int64_t segment = 0, last = segments;
  while (segment < last) {
    const std::int64_t middle = segment + (last - segment) / 2;
    if (ends[middle] <= bucket) {
      segment = middle + 1;
    } else {
      last = middle;
    }
  }
  std::int64_t first = range.size;
  if (segment < segments) {
    const Segment here = segment_at(ends, segment);
    const std::uint64_t number =
        (static_cast<std::uint64_t>(segment) << here.bits) + static_cast<std::uint64_t>(bucket - here.bucket);
    first = range.first(values, range.shift - here.bits, number);
  }
  table[bucket] = static_cast<std::uint32_t>(first);
}

// Finds a key among the values. A search in the table's bucket mostly ends at once; tables and values are read through the L1
// cache, which holds what a smooth part of a map needs.
template <typename Key>
struct Finder {
  Range<Key> range;
  const Key* values;
  const std::uint32_t* table;
  const Segment* segment;  // in shared memory

  // The first value that is not below a key, which lies between the lowest and the highest.
  __device__ std::uint32_t rank(Key key) const {
    const auto offset = distance(range.low, key);
    const Segment here = segment[static_cast<int>(offset >> range.shift)];
    const auto number = offset >> (range.shift - here.bits);
    const std::uint32_t* bucket = table + here.bucket + (static_cast<std::uint32_t>(number) & ((1U << here.bits) - 1));
    std::uint32_t first = __ldg(bucket), last = __ldg(bucket + 1);
    while (first < last) {
      const std::uint32_t middle = first + (last - first) / 2;
      if (__ldg(values + middle) < key) {
        first = middle + 1;
      } else {
        last = middle;
      }
    }
    return first;
  }
};

}  // namespace thfr::cuda::sweep
