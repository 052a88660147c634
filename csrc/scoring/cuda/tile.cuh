// A block's tile of locations of one image, and the sums over their channels.
//
// Products are added in the accumulator type over a short run of channels, runs in fp64, so that the error does not grow
// with C. The order depends on the shape of an image only, not on the batch or the device.
#pragma once

#include "common/launch.cuh"
#include "common/load.cuh"

namespace thfr::cuda {

constexpr int block_threads = 256;
constexpr int block_warps = block_threads / 32;
constexpr int max_tile = block_threads;  // locations
constexpr int run = 16;                  // channels of a thread that are added in the accumulator type
constexpr int unroll = 4;                // loads of a thread and tensor in flight

struct Operand {
  void* data = nullptr;
  std::int64_t batch = 0, channel = 0, row = 0, column = 0;  // strides in elements
};

// planes: locations follow each other, 16 bytes of them at a time; channels: the same of channels; strided: any.
enum class Route : int { planes, channels, strided };

struct Level {
  Operand x, y;
  void* distance = nullptr;  // [B,locations]: the result; backward: its gradient
  bool distance_f64 = false;
  std::int64_t channels = 0, width = 0, locations = 0;  // of an image
  Route route = Route::strided;
  int lanes = 0;  // threads side by side: along locations, or along the channels of a location; a power of two
  int tile = 0;   // locations of a block
  unsigned tiles = 0, first_block = 0;
};

struct Tile {
  std::int64_t image, first;
  int count;
};

__device__ inline Tile tile_of(const Level& level) {
  const unsigned block = blockIdx.x - level.first_block;
  Tile tile;
  tile.image = block / level.tiles;
  tile.first = std::int64_t{block % level.tiles} * level.tile;
  tile.count = static_cast<int>(min(level.locations - tile.first, std::int64_t{level.tile}));
  return tile;
}

// Channel 0 of a location.
template <typename T>
__device__ inline T* at(const Operand& operand, const Level& level, std::int64_t image, std::int64_t location) {
  const std::int64_t row = location / level.width, column = location - row * level.width;
  return static_cast<T*>(operand.data) + image * operand.batch + row * operand.row + column * operand.column;
}

// <x,y>, <x,x> and <y,y> of the locations of a tile.
using Totals = double[3][max_tile];

template <typename T>
__device__ inline T sum_over_lanes(T value, int first_step) {
  for (int step = first_step; step < 32; step *= 2) value += __shfl_xor_sync(all_lanes, value, step);
  return value;
}

template <typename T, int N>
__device__ inline void add_products(const Packed<T, N>& x, const Packed<T, N>& y, Acc<T> (&xy)[N], Acc<T> (&xx)[N],
                                    Acc<T> (&yy)[N]) {
  Acc<T> a[N], b[N];
  unpack(x, a);
  unpack(y, b);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    xy[i] += a[i] * b[i];
    xx[i] += a[i] * a[i];
    yy[i] += b[i] * b[i];
  }
}

// slots[sum][i][thread] over the rows of the block: threads side by side lie in different banks, writing and reading.
template <typename T, int N>
__device__ inline void reduce_slots(const Acc<T>* slots, int lanes, bool first, Totals& totals) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int slot = warp; slot < 3 * N; slot += block_warps) {
    double total = 0;
#pragma unroll
    for (int k = 0; k < block_warps; ++k) total += slots[slot * block_threads + k * 32 + lane];
    total = sum_over_lanes(total, lanes);
    double& place = totals[slot / N][lane % lanes * N + slot % N];
    if (lane < lanes) place = first ? total : place + total;
  }
}

// Rows of `lanes` threads share out the channels; a thread takes N locations of each.
template <typename T, int N>
__device__ inline void sum_planes(const Level& level, const Tile& tile, Acc<T>* slots, Totals& totals) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % level.lanes, row = thread / level.lanes;
  const int rows = block_threads / level.lanes;
  const bool inside = lane * N < tile.count;
  const std::int64_t location = tile.first + (inside ? lane * N : 0);
  const T* x = at<const T>(level.x, level, tile.image, location) + row * level.x.channel;
  const T* y = at<const T>(level.y, level, tile.image, location) + row * level.y.channel;
  std::int64_t left = level.channels - row;  // the thread's channels are left - 1, left - 1 - rows, ... from the end
  for (std::int64_t begin = 0; begin == 0 || begin < level.channels; begin += run * rows) {
    Acc<T> xy[N] = {}, xx[N] = {}, yy[N] = {};
    for (int k = 0; k < run && begin + k * rows < level.channels; k += unroll) {
      Packed<T, N> a[unroll], b[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u, left -= rows, x += rows * level.x.channel, y += rows * level.y.channel) {
        const bool there = inside && left > 0;
        a[u] = there ? fetch<T, N>(x) : Packed<T, N>{};
        b[u] = there ? fetch<T, N>(y) : Packed<T, N>{};
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u) add_products(a[u], b[u], xy, xx, yy);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      slots[i * block_threads + thread] = xy[i];
      slots[(N + i) * block_threads + thread] = xx[i];
      slots[(2 * N + i) * block_threads + thread] = yy[i];
    }
    __syncthreads();
    reduce_slots<T, N>(slots, level.lanes, begin == 0, totals);
    __syncthreads();
  }
}

// `lanes` threads share out the channels of a location, 16 bytes at a time.
template <typename T>
__device__ inline void sum_channels(const Level& level, const Tile& tile, Totals& totals) {
  constexpr int N = wide<T>;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % level.lanes, group = thread / level.lanes;
  const bool inside = group < tile.count;
  const std::int64_t location = tile.first + (inside ? group : 0), vectors = level.channels / N;
  const T* x = at<const T>(level.x, level, tile.image, location);
  const T* y = at<const T>(level.y, level, tile.image, location);
  double total[3] = {};
  for (std::int64_t v = lane; inside && v < vectors; v += unroll * level.lanes) {
    Packed<T, N> a[unroll], b[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const std::int64_t from = v + u * level.lanes;
      a[u] = from < vectors ? fetch<T, N>(x + from * N) : Packed<T, N>{};
      b[u] = from < vectors ? fetch<T, N>(y + from * N) : Packed<T, N>{};
    }
    Acc<T> xy[N] = {}, xx[N] = {}, yy[N] = {};
#pragma unroll
    for (int u = 0; u < unroll; ++u) add_products(a[u], b[u], xy, xx, yy);
#pragma unroll
    for (int i = 1; i < N; ++i) {
      xy[0] += xy[i];
      xx[0] += xx[i];
      yy[0] += yy[i];
    }
    total[0] += xy[0];
    total[1] += xx[0];
    total[2] += yy[0];
  }
#pragma unroll
  for (int s = 0; s < 3; ++s) {
    for (int step = 1; step < level.lanes; step *= 2) total[s] += __shfl_xor_sync(all_lanes, total[s], step);
    if (lane == 0 && inside) totals[s][group] = total[s];
  }
  __syncthreads();
}

template <typename T>
constexpr int slot_count = 3 * wide<T> * block_threads;

template <typename T>
__device__ inline void sum_tile(const Level& level, const Tile& tile, Acc<T>* slots, Totals& totals) {
  switch (level.route) {
    case Route::planes: return sum_planes<T, wide<T>>(level, tile, slots, totals);
    case Route::channels: return sum_channels<T>(level, tile, totals);
    default: return sum_planes<T, 1>(level, tile, slots, totals);
  }
}

}  // namespace thfr::cuda
