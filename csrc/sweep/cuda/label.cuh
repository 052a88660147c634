// Kernels: 8-connected regions by union and find: every marked pixel points to an earlier one of its region, or to itself.
#pragma once

#include "sweep/cuda/collect.cuh"

namespace thfr::cuda::sweep {

// A warp's chunk of an image: its lane's 16 pixels.
struct LanePixels {
  const Image* image;
  std::int64_t chunk, first;  // number of the chunk, first pixel
  unsigned bits;              // those that are marked

  __device__ LanePixels(const Images& images, std::int64_t item)
      : image(&images.image[image_of(images, item)]), chunk(0), first(0) {
    const std::int64_t here = item - image->first, begin = here * chunk_pixels;
    chunk = image->chunk + here;
    first = begin + lane_of() * lane_pixels;
    bits = mark_bits(*image, 0, begin);
  }

  // visit(pixel) for each marked one.
  template <typename Visit>
  __device__ void each(const Visit& visit) const {
    for (unsigned left = bits; left != 0; left &= left - 1) visit(first + __ffs(static_cast<int>(left)) - 1);
  }
};

using Link = std::int64_t;  // number of a pixel of all images

// The root of a pixel; on the way each pixel is linked with the next but one, so that chains get shorter. Links change meanwhile:
// one that is read late, or written over, still leads to an earlier pixel of the region, and only `unite` links roots.
__device__ inline Link root_of(Link* links, Link pixel) {
  for (Link next = links[pixel]; next != pixel;) {
    const Link after = links[next];
    if (after != next) links[pixel] = after;
    pixel = next, next = after;
  }
  return pixel;
}

__device__ inline void unite(Link* links, Link a, Link b) {
  for (;;) {
    a = root_of(links, a), b = root_of(links, b);
    if (a == b) return;
    const Link low = a < b ? a : b, high = a < b ? b : a;
    const auto before = static_cast<Link>(atomicMin(reinterpret_cast<long long*>(links + high), static_cast<long long>(low)));
    if (before == high) return;
    a = before, b = low;  // another thread has linked `high` meanwhile: both links hold
  }
}

__global__ void __launch_bounds__(collect_block) link_kernel(Images images, Link* links) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const LanePixels lane(images, item);
  const std::int64_t base = lane.image->pixel;
  lane.each([&](std::int64_t pixel) { links[base + pixel] = static_cast<Link>(base + pixel); });
}

// Links each pixel with its neighbours to the left and above, but for those that are linked by way of others.
__global__ void __launch_bounds__(collect_block) unite_kernel(Images images, Link* links) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const LanePixels lane(images, item);
  const Image& image = *lane.image;
  const std::int64_t width = image.width;
  lane.each([&](std::int64_t pixel) {
    const std::int64_t row = pixel / width, column = pixel - row * width;
    const auto joined = [&](std::int64_t up, std::int64_t right) {
      const std::int64_t y = row - up, x = column + right;
      if (y < 0 || x < 0 || x >= width) return false;
      if (image.marks[y * image.mark_stride[1] + x * image.mark_stride[2]] == 0) return false;
      unite(links, static_cast<Link>(image.pixel + pixel), static_cast<Link>(image.pixel + y * width + x));
      return true;
    };
    if (joined(1, 0)) return;
    if (!joined(0, -1)) joined(1, -1);
    joined(1, 1);
  });
}

// Every pixel points to its root afterwards. counts: the roots of each chunk.
__global__ void __launch_bounds__(collect_block) root_kernel(Images images, Link* links, std::int64_t* __restrict__ counts) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const LanePixels lane(images, item);
  const std::int64_t base = lane.image->pixel;
  int roots = 0;
  lane.each([&](std::int64_t pixel) {
    const auto self = static_cast<Link>(base + pixel), root = root_of(links, self);
    links[self] = root;
    roots += root == self ? 1 : 0;
  });
  roots = warp_sum(roots);
  if (lane_of() == 0) counts[lane.chunk] = roots;
}

// Numbers the roots in the order of pixels. sums: running sums of the counts.
__global__ void __launch_bounds__(collect_block)
    number_kernel(Images images, const Link* __restrict__ links, const std::int64_t* __restrict__ sums,
                  std::int32_t* __restrict__ labels) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const LanePixels lane(images, item);
  const std::int64_t base = lane.image->pixel, before = lane.chunk > 0 ? sums[lane.chunk - 1] : 0;
  if (sums[lane.chunk] == before) return;
  int roots = 0;
  lane.each([&](std::int64_t pixel) { roots += links[base + pixel] == base + pixel ? 1 : 0; });
  auto number = static_cast<std::int32_t>(before) + warp_prefix(roots);
  lane.each([&](std::int64_t pixel) {
    if (links[base + pixel] == base + pixel) labels[base + pixel] = ++number;
  });
}

__global__ void __launch_bounds__(collect_block)
    spread_kernel(Images images, const Link* __restrict__ links, std::int32_t* __restrict__ labels) {
  const std::int64_t item = thread_index() / warp;
  if (item >= images.items) return;
  const LanePixels lane(images, item);
  const std::int64_t base = lane.image->pixel;
  lane.each([&](std::int64_t pixel) {
    const Link root = links[base + pixel];
    if (root != base + pixel) labels[base + pixel] = labels[root];
  });
}

}  // namespace thfr::cuda::sweep
