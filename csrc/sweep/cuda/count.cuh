// Kernels: each negative is counted between or at two of the regions' distinct scores.
#pragma once

#include "sweep/cuda/index.cuh"

namespace thfr::cuda::sweep {

constexpr int count_block = 256;
constexpr int thread_pixels = 16;  // 64 bytes of fp32 scores on their way for each thread
constexpr std::int64_t tile_pixels = count_block * thread_pixels;
// Blocks that a multiprocessor runs at once: as many as leave the registers that the kernel needs.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int most_resident = 4;  // 1024 threads
#else
constexpr int most_resident = 5;
#endif
template <typename Key>
constexpr int resident_blocks = sizeof(Key) == 8 ? 3 : most_resident;
// Values whose counters a block keeps in shared memory: all blocks at once would hit few of them. With more values, adding the
// counters up at the end would cost as much as it saves.
constexpr int near_values = 1024;
using Count = unsigned long long;  // of pixels in a bin
// A score's place: the number of the first value not below it, and whether it equals that.
constexpr std::uint32_t at_value = 0x80000000U, nowhere = 0xffffffffU;

// Where a thread's scores go: most to registers or, a warp's equal places together, to shared or global counters. All counts are
// of integers, so that their order does not show.
template <typename Key>
struct Tally {
  Finder<Key> finder;
  std::uint32_t* near;  // counters in shared memory
  bool few;             // whether these are used
  Count* bins;          // [2 capacity + 1]
  std::int64_t capacity;
  std::uint32_t below = 0, lowest = 0, above = 0;
  bool nan = false;

  // Called by whole warps, for scores of which a lane takes those whose bit is set.
  template <int n>
  __device__ void add(const Key (&keys)[n], unsigned take) {
    std::uint32_t place[n];
#pragma unroll
    for (int i = 0; i < n; ++i) place[i] = (take >> i & 1) != 0 ? find(keys[i]) : nowhere;
#pragma unroll
    for (int i = 0; i < n; ++i) {
      if (__any_sync(all_lanes, place[i] != nowhere)) count(place[i]);
    }
  }

  // Ties with the lowest value are many where maps are clamped at zero.
  __device__ std::uint32_t find(Key key) {
    nan |= is_nan(key);
    const Range<Key>& range = finder.range;
    if (range.size == 0 || key < range.low) {
      ++below;
    } else if (key == range.low) {
      ++lowest;
    } else if (key > range.high) {
      ++above;
    } else {
      const std::uint32_t rank = finder.rank(key);
      return __ldg(finder.values + rank) == key ? rank | at_value : rank;
    }
    return nowhere;
  }

  __device__ void count(std::uint32_t place) {
    const unsigned peers = __match_any_sync(all_lanes, place);
    if (place == nowhere || __ffs(static_cast<int>(peers)) - 1 != lane_of()) return;
    const std::uint32_t rank = place & ~at_value;
    const bool equal = (place & at_value) != 0;
    if (few) {
      atomicAdd(near + rank + (equal ? near_values : 0), static_cast<std::uint32_t>(__popc(peers)));
    } else {
      atomicAdd(bins + rank + (equal ? capacity : 0), static_cast<Count>(__popc(peers)));
    }
  }

  __device__ void finish() const {
    const auto total = [&](std::uint32_t mine, std::int64_t bin) {
      const auto sum = warp_sum(static_cast<Count>(mine));
      if (lane_of() == 0 && sum != 0) atomicAdd(bins + bin, sum);
    };
    total(below, 0);
    if (capacity == 0) return;
    total(lowest, capacity);
    total(above, 2 * capacity);
  }
};

// The marks that go with 16 bytes of scores.
template <int n>
struct Word;
template <>
struct Word<2> {
  using type = std::uint16_t;
};
template <>
struct Word<4> {
  using type = std::uint32_t;
};
template <>
struct Word<8> {
  using type = unsigned long long;
};

// A tile of an image whose scores, and marks, are aligned and contiguous. They are read once: the L2 cache is for the index.
template <typename T, typename Key>
__device__ void count_vectors(const Image& image, std::int64_t begin, bool marked, Tally<Key>& tally) {
  constexpr int n = 16 / sizeof(T), loads = thread_pixels / n;
  const std::int64_t pixels = image.pixels(), first = begin + static_cast<std::int64_t>(threadIdx.x) * n;
  uint4 scores[loads];
  typename Word<n>::type marks[loads];
#pragma unroll
  for (int i = 0; i < loads; ++i) {  // all on their way before the first is used
    const std::int64_t at = first + i * count_block * n;
    scores[i] = make_uint4(0, 0, 0, 0), marks[i] = 0;
    if (at + n > pixels) continue;
    scores[i] = __ldcs(reinterpret_cast<const uint4*>(static_cast<const T*>(image.map) + at));
    if (image.marks != nullptr) marks[i] = __ldcs(reinterpret_cast<const typename Word<n>::type*>(image.marks + at));
  }
#pragma unroll
  for (int i = 0; i < loads; ++i) {
    const bool inside = first + i * count_block * n + n <= pixels;
    T score[n];
    memcpy(score, &scores[i], 16);
    Key keys[n];
    unsigned take = 0;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      make_key(widen(score[j]), keys[j]);
      const bool mark = (marks[i] >> (8 * j) & 0xff) != 0;
      take |= (inside && mark == marked ? 1U : 0U) << j;
    }
    tally.add(keys, take);
  }
}

// The pixels [begin, end) of any image, a lane a pixel.
template <typename T, typename Key>
__device__ void count_pixels(const Image& image, std::int64_t begin, std::int64_t end, bool marked, Tally<Key>& tally) {
  constexpr int n = 4;
  for (std::int64_t from = begin; from < end; from += n * count_block) {
    Key keys[n];
    unsigned take = 0;
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const std::int64_t pixel = from + i * count_block + static_cast<std::int64_t>(threadIdx.x);
      keys[i] = 0;
      if (pixel >= end) continue;
      make_key(widen(static_cast<const T*>(image.map)[map_offset(image, pixel)]), keys[i]);
      const bool mark = image.marks != nullptr && image.marks[mark_offset(image, pixel)] != 0;
      take |= (mark == marked ? 1U : 0U) << i;
    }
    tally.add(keys, take);
  }
}

template <typename Key>
struct Values {
  const Key* values;
  Ranks ranks;
  const std::int64_t* ends;
  const std::uint32_t* table;
};

template <typename T, typename Key>
__global__ void __launch_bounds__(count_block, resident_blocks<Key>)
    count_kernel(Images images, Values<Key> index, bool marked, Count* __restrict__ bins, std::int64_t* __restrict__ flag) {
  THFR_SHARED(std::uint32_t, near, [2 * near_values]);
  THFR_SHARED(Segment, segment, [segments]);
  const Range<Key> range(index.values, index.ranks.distinct());
  const bool few = range.size <= near_values;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < segments && range.size > 0; i += count_block) segment[i] = segment_at(index.ends, i);
  for (int i = thread; i < 2 * near_values && few; i += count_block) near[i] = 0;
  __syncthreads();
  Tally<Key> tally{{range, index.values, index.table, segment}, near, few, bins, index.ranks.pixels};
  int i = 0;
  for (std::int64_t tile = blockIdx.x; tile < images.items; tile += gridDim.x) {
    i = image_of(images, tile, i);
    const Image& image = images.image[i];
    const std::int64_t begin = (tile - image.first) * tile_pixels, pixels = image.pixels();
    const std::int64_t end = begin + tile_pixels < pixels ? begin + tile_pixels : pixels;
    if (image.map_vectors != 0) count_vectors<T>(image, begin, marked, tally);
    constexpr std::int64_t n = 16 / sizeof(T);
    count_pixels<T>(image, image.map_vectors != 0 ? end / n * n : begin, end, marked, tally);
  }
  if (tally.nan) *flag = 1;  // whoever writes, it is the same
  tally.finish();
  if (!few) return;
  __syncthreads();
  for (int b = thread; b < 2 * near_values; b += count_block) {
    const std::int64_t bin = b < near_values ? b : index.ranks.pixels + b - near_values;
    if (near[b] != 0) atomicAdd(bins + bin, static_cast<Count>(near[b]));
  }
}

}  // namespace thfr::cuda::sweep
