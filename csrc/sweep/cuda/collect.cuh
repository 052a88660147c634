// Kernels: marked pixels are counted, and the scores there collected in the order of pixels.
#pragma once

#include "sweep/cuda/scores.cuh"

namespace thfr::cuda::sweep {

// A warp takes a chunk, each lane 16 pixels of it: so many marks are one load.
constexpr std::int64_t lane_pixels = 16, chunk_pixels = warp * lane_pixels;
constexpr int collect_block = 256, collect_warps = collect_block / warp;

__device__ inline std::int64_t chunks_of(const Image& image) { return (image.pixels() + chunk_pixels - 1) / chunk_pixels; }

// Bits 0 to 3: whether the bytes of a word are not 0.
__device__ inline unsigned byte_bits(unsigned word) {
  word |= word >> 4;
  word |= word >> 2;
  word |= word >> 1;
  return (word & 1) | (word >> 7 & 2) | (word >> 14 & 4) | (word >> 21 & 8);
}
__device__ inline unsigned bit_bytes(unsigned bits) { return (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21; }

// Bits 0 to 15: which of the lane's pixels lie in the image.
__device__ inline unsigned inside_bits(const Image& image, std::int64_t pixel) {
  const std::int64_t left = image.pixels() - pixel;
  return left >= lane_pixels ? 0xffffU : left > 0 ? (1U << left) - 1 : 0;
}

// Bits 0 to 15: which of the lane's pixels, from begin + 16 lane on, are marked. Called by whole warps.
__device__ inline unsigned mark_bits(const Image& image, std::int64_t plane, std::int64_t begin) {
  if (image.marks == nullptr) return 0;
  const std::uint8_t* marks = image.marks + plane * image.mark_stride[0];
  const std::int64_t pixels = image.pixels();
  const int lane = lane_of();
  if (image.mark_vectors != 0 && begin + chunk_pixels <= pixels) {
    const uint4 words = *reinterpret_cast<const uint4*>(marks + begin + lane * lane_pixels);
    if ((words.x | words.y | words.z | words.w) == 0) return 0;
    return byte_bits(words.x) | byte_bits(words.y) << 4 | byte_bits(words.z) << 8 | byte_bits(words.w) << 12;
  }
  // A lane a pixel, so that neighbours are loaded together whatever the alignment; the votes then go to their lanes.
  unsigned bits = 0;
  for (int round = 0; round < lane_pixels; ++round) {
    const std::int64_t pixel = begin + round * warp + lane;
    const bool marked = pixel < pixels && marks[mark_offset(image, pixel)] != 0;
    const unsigned votes = __ballot_sync(all_lanes, marked);
    if (lane / 2 == round) bits = votes >> (lane % 2 * lane_pixels) & 0xffffU;
  }
  return bits;
}

// Numbers of a summary: see find_offsets.
constexpr int summary_size = 8;

// counts[chunk of a region] and union_counts[chunk of an image]; one warp an image's chunk, all of its regions. The summary
// becomes 0.
__global__ void __launch_bounds__(collect_block)
    mark_kernel(Images images, std::uint8_t* __restrict__ covered, std::int64_t* __restrict__ counts,
                std::int64_t* __restrict__ union_counts, std::int64_t* __restrict__ summary) {
  if (images.image[0].region == 0 && thread_index() < summary_size) summary[thread_index()] = 0;
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const Image& image = images.image[image_of(images, item)];
  const std::int64_t chunk = item - image.first, chunks = chunks_of(image), begin = chunk * chunk_pixels;
  unsigned all = 0;
  for (std::int64_t plane = 0; plane < image.planes; ++plane) {
    const unsigned bits = mark_bits(image, plane, begin);
    all |= bits;
    const int count = warp_sum(__popc(bits));
    if (lane_of() == 0) counts[image.chunk + plane * chunks + chunk] = count;
  }
  const int count = warp_sum(__popc(all));
  if (lane_of() == 0) union_counts[item] = count;
  const std::int64_t pixel = begin + lane_of() * lane_pixels;
  if (image.planes < 2 || pixel >= image.pixels()) return;  // the last store may end in the padding
  *reinterpret_cast<uint4*>(covered + image.pixel + pixel) =
      make_uint4(bit_bytes(all), bit_bytes(all >> 4), bit_bytes(all >> 8), bit_bytes(all >> 12));
}

// sums: running sums of the counts, `last` + 1 in all.
__global__ void offset_kernel(Images images, const std::int64_t* __restrict__ sums, std::int64_t last,
                              const std::int64_t* __restrict__ saturations, const std::int64_t* __restrict__ found,
                              std::int64_t* __restrict__ offsets, std::int64_t* __restrict__ summary) {
  const std::int64_t item = thread_index();
  if (item == 0 && images.image[0].region == 0) {
    offsets[0] = 0;
    summary[3] = sums[last];
    if (found != nullptr) summary[5] = *found;
  }
  if (item >= images.items) return;
  const Image& image = images.image[image_of(images, item)];
  const std::int64_t plane = item - image.first, chunks = chunks_of(image), region = image.region + plane;
  const std::int64_t from = image.chunk + plane * chunks, end = sums[from + chunks - 1];
  const std::int64_t area = end - (from > 0 ? sums[from - 1] : 0);
  offsets[region + 1] = end;
  const auto add = [&](int place, std::int64_t value) {
    if (value != 0) atomicAdd(reinterpret_cast<unsigned long long*>(summary + place), static_cast<unsigned long long>(value));
  };
  add(0, area);
  add(1, area == 0 ? 1 : 0);
  add(2, saturations != nullptr && saturations[region] < 1 ? 1 : 0);
}

// Where the collected scores go.
struct Collected {
  const std::int64_t* sums;
  void* scores;
  std::int32_t* region;  // or nullptr
  std::int64_t* flag;
  std::int64_t capacity;  // scores
  bool marked, as_keys;
};

template <typename T, typename Score, typename Key>
__device__ void store_score(const Collected& to, std::int64_t place, T score, bool& nan) {
  const auto wide = static_cast<Score>(widen(score));
  Key key;
  make_key(wide, key);
  nan |= is_nan(key);
  if (to.as_keys) {
    static_cast<Key*>(to.scores)[place] = key;
  } else {
    static_cast<Score*>(to.scores)[place] = wide;
  }
}

// One warp a chunk of a plane; most chunks of regions are empty and are not read again.
template <typename T, typename Score, typename Key>
__global__ void __launch_bounds__(collect_block) collect_kernel(Images images, Collected to) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const Image& image = images.image[image_of(images, item)];
  const std::int64_t chunks = chunks_of(image), plane = (item - image.first) / chunks,
                     chunk = item - image.first - plane * chunks;
  const std::int64_t at = image.chunk + item - image.first, begin = chunk * chunk_pixels;
  const std::int64_t before = at > 0 ? to.sums[at - 1] : 0;
  if (to.marked && to.sums[at] == before) return;
  const std::int64_t first = begin + lane_of() * lane_pixels;
  unsigned bits = mark_bits(image, plane, begin);
  if (!to.marked) bits = ~bits & inside_bits(image, first);

  std::int64_t next = (to.marked ? before : image.pixel + begin - before) + warp_prefix(__popc(bits));
  const T* map = static_cast<const T*>(image.map);
  bool nan = false;
  for (; bits != 0 && next >= 0 && next < to.capacity; bits &= bits - 1, ++next) {
    const std::int64_t pixel = first + __ffs(static_cast<int>(bits)) - 1;
    store_score<T, Score, Key>(to, next, map[map_offset(image, pixel)], nan);
    if (to.region == nullptr) continue;
    to.region[next] = static_cast<std::int32_t>(image.region + (image.labels == nullptr ? plane : image.labels[pixel] - 1));
  }
  if (nan) *to.flag = 1;  // whoever writes, it is the same
}

}  // namespace thfr::cuda::sweep
