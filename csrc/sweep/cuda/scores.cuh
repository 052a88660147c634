// What the sweep's kernels share: scores as integers, and images.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common/launch.cuh"

namespace thfr::cuda::sweep {

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// Scores as signed integers of the same order; -0 is 0, and NaNs lie beyond the infinities.
__device__ inline void make_key(float x, std::int32_t& key) {
  const int bits = __float_as_int(x);
  key = bits < 0 ? -(bits & 0x7fffffff) : bits;
}
__device__ inline void make_key(double x, std::int64_t& key) {
  const long long bits = __double_as_longlong(x);
  key = bits < 0 ? -(bits & 0x7fffffffffffffffLL) : bits;
}
__device__ inline void make_key(float x, std::int64_t& key) { make_key(static_cast<double>(x), key); }

__device__ inline bool is_nan(std::int32_t key) { return key > 0x7f800000 || key < -0x7f800000; }
__device__ inline bool is_nan(std::int64_t key) { return key > 0x7ff0000000000000LL || key < -0x7ff0000000000000LL; }

template <typename Key>
struct Unsigned;
template <>
struct Unsigned<std::int32_t> {
  using type = std::uint32_t;
};
template <>
struct Unsigned<std::int64_t> {
  using type = std::uint64_t;
};

// How far a key lies above another: the difference may not fit the signed type.
template <typename Key>
__device__ typename Unsigned<Key>::type distance(Key from, Key to) {
  using U = typename Unsigned<Key>::type;
  return static_cast<U>(to) - static_cast<U>(from);
}

// One image and its marks: regions, or the union of them.
struct Image {
  const void* map;
  const std::uint8_t* marks;   // nullptr: no pixel is marked
  const std::int32_t* labels;  // or nullptr
  std::int64_t height, width, planes;
  std::int64_t map_stride[2], mark_stride[3];
  std::int64_t first;                      // work items before this image, in this launch
  std::int64_t chunk;                      // chunks of all planes of all images before
  std::int64_t region;                     // number of the first plane; with labels, of label 1
  std::int64_t pixel;                      // pixels of all images before; of the unions that are stored, in a pass over regions
  std::int32_t map_vectors, mark_vectors;  // whether loads of 16 bytes of scores, of 16 marks, are aligned

  __device__ std::int64_t pixels() const { return height * width; }
};

// The images of one launch. They come as a parameter: no copy to the device, so that graphs can capture it.
struct Images {
  static constexpr int most = 24;
  int count;
  std::int64_t items;  // of work, of all images
  Image image[most];
};

__device__ inline int image_of(const Images& images, std::int64_t item, int from = 0) {
  while (from + 1 < images.count && item >= images.image[from + 1].first) ++from;
  return from;
}

__device__ inline std::int64_t offset_of(std::int64_t pixel, std::int64_t width, std::int64_t row_stride, std::int64_t step) {
  if ((pixel | width) >> 32 == 0) {  // a division of 64 bits takes many times as long
    const unsigned row = static_cast<unsigned>(pixel) / static_cast<unsigned>(width);
    return row * row_stride + (static_cast<unsigned>(pixel) - row * static_cast<unsigned>(width)) * step;
  }
  return pixel / width * row_stride + pixel % width * step;
}

__device__ inline std::int64_t map_offset(const Image& image, std::int64_t pixel) {
  return offset_of(pixel, image.width, image.map_stride[0], image.map_stride[1]);
}
__device__ inline std::int64_t mark_offset(const Image& image, std::int64_t pixel) {
  return offset_of(pixel, image.width, image.mark_stride[1], image.mark_stride[2]);
}

constexpr int warp = 32;
__device__ inline int lane_of() { return static_cast<int>(threadIdx.x) % warp; }

template <typename T>
__device__ T warp_sum(T value) {
  for (int step = warp / 2; step > 0; step /= 2) value += __shfl_xor_sync(all_lanes, value, step);
  return value;
}

// The sum of the lanes before.
__device__ inline int warp_prefix(int value) {
  int sum = value;
  for (int step = 1; step < warp; step *= 2) {
    const int other = __shfl_up_sync(all_lanes, sum, step);
    if (lane_of() >= step) sum += other;
  }
  return sum - value;
}

__device__ inline std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + static_cast<std::int64_t>(threadIdx.x);
}

}  // namespace thfr::cuda::sweep
