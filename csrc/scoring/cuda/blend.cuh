// The map from the levels' distances: up-sampling, blur, combination and maximum in one launch, a block a square of the map.
//
// A level's share is rows . values . columns with matrices of which a square needs one block each. Source rows and columns
// come in chunks as large as the square, so that a level and a blur of any size fit.
#pragma once

#include "common/launch.cuh"
#include "thfr/scoring.h"

namespace thfr::cuda {

constexpr int side = static_cast<int>(BlockedMatrix::width);  // of a square
constexpr int blend_threads = 256;
constexpr int blend_warps = blend_threads / 32;
constexpr int rows_each = side / blend_warps;  // of a thread
constexpr int max_blend_levels = 8;            // of a launch

static_assert(side == 32 && rows_each == 4, "a warp is as wide as a square, its rows are one 16-byte load of weights");

struct BlendMatrix {
  const std::int64_t* start;  // [blocks]
  const float* weights;       // [blocks,band,side]
  int band;
};

struct BlendLevel {
  const float* values;            // [B,height,width]
  const std::int64_t* row_start;  // [H]: rows outside row_start .. row_start + row_band do not count, not even as 0 * NaN
  BlendMatrix rows, columns;
  int height, width, row_band;
  float weight;
};

struct BlendLevels {
  BlendLevel level[max_blend_levels];
  int count;
};

// The first row or column of a block. Whatever `start` holds, all of its band lies in [0, size).
__device__ inline int first_of(const BlendMatrix& matrix, int block, int size) {
  return static_cast<int>(max(std::int64_t{0}, min(matrix.start[block], std::int64_t{size - matrix.band})));
}

// A chunk [side,side] of the level, zero outside of the matrices' blocks.
__device__ inline void load_chunk(const float* values, int width, int rows, int columns, float* chunk) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < rows_each; ++i) {
    const int row = warp + i * blend_warps;
    const bool there = row < rows && lane < columns;
    chunk[row * side + lane] = there ? values[std::int64_t{row} * width + lane] : 0;
  }
}

// sum[i] += (row warp + i * blend_warps of the chunk) . weights[columns,side], of which the thread takes column `lane`.
__device__ inline void expand_chunk(const float4* chunk, const float* weights, int rows, int columns, float (&sum)[rows_each]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int j = 0; j < columns; j += 4) {
    float w[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) w[u] = j + u < columns ? weights[(j + u) * side + lane] : 0;
#pragma unroll
    for (int i = 0; i < rows_each; ++i) {
      const int row = warp + i * blend_warps;
      if (row >= rows) break;
      const float4 v = chunk[(row * side + j) / 4];
      sum[i] += (v.x * w[0] + v.y * w[1]) + (v.z * w[2] + v.w * w[3]);
    }
  }
}

// part[i] += weights[rows,side] of the thread's four rows . expanded, where row i's band [begin[i], begin[i] + band) covers it.
__device__ inline void blend_rows(const float (&expanded)[side][side], const float* weights, int rows,
                                  const int (&begin)[rows_each], int band, float (&part)[rows_each]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lowest = min(min(begin[0], begin[1]), min(begin[2], begin[3]));
  const int highest = max(max(begin[0], begin[1]), max(begin[2], begin[3]));
  const int end = min(rows, highest + band);
  for (int r = max(0, lowest); r < end; ++r) {
    const float value = expanded[r][lane];
    const float4 w = __ldg(reinterpret_cast<const float4*>(weights + r * side + warp * rows_each));
    const bool all = r >= highest && r < lowest + band;
    if (all || (r >= begin[0] && r < begin[0] + band)) part[0] += w.x * value;
    if (all || (r >= begin[1] && r < begin[1] + band)) part[1] += w.y * value;
    if (all || (r >= begin[2] && r < begin[2] + band)) part[2] += w.z * value;
    if (all || (r >= begin[3] && r < begin[3] + band)) part[3] += w.w * value;
  }
}

// part[i] = factor * (rows . values . columns) at row i of the thread's four rows, the first of which is `row` of `map_rows`.
__device__ inline void blend_level(const BlendLevel& level, const float* values, int row_block, int column_block, int row,
                                   int map_rows, float factor, float (&part)[rows_each]) {
  THFR_SHARED(float4, chunk, [side * side / 4]);
  THFR_SHARED(float, expanded, [side][side]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = first_of(level.rows, row_block, level.height);
  const int first_column = first_of(level.columns, column_block, level.width);
  const float* column_weights = level.columns.weights + std::int64_t{column_block} * level.columns.band * side;
  const float* row_weights = level.rows.weights + std::int64_t{row_block} * level.rows.band * side;
  int begin[rows_each];
#pragma unroll
  for (int i = 0; i < rows_each; ++i) {
    const std::int64_t start = level.row_start[min(row + i, map_rows - 1)];
    begin[i] = static_cast<int>(max(std::int64_t{0}, min(start, std::int64_t{level.height}))) - first_row;
    part[i] = 0;
  }
  for (int r = 0; r < level.rows.band; r += side) {
    const int rows = min(side, level.rows.band - r);
    float sum[rows_each] = {};
    for (int c = 0; c < level.columns.band; c += side) {
      const int columns = min(side, level.columns.band - c);
      if (c > 0) __syncthreads();  // the last chunk has been read
      load_chunk(values + std::int64_t{first_row + r} * level.width + first_column + c, level.width, rows, columns,
                 reinterpret_cast<float*>(chunk));
      __syncthreads();
      expand_chunk(chunk, column_weights + std::int64_t{c} * side, rows, columns, sum);
    }
#pragma unroll
    for (int i = 0; i < rows_each; ++i) expanded[warp + i * blend_warps][lane] = factor * sum[i];
    __syncthreads();
    const int from_here[rows_each] = {begin[0] - r, begin[1] - r, begin[2] - r, begin[3] - r};
    blend_rows(expanded, row_weights + std::int64_t{r} * side, rows, from_here, level.row_band, part);
  }
}

__device__ inline float larger(float a, float b) { return b > a || b != b ? b : a; }  // NaN if either is

// Raises a score to `value`. Scores begin with all bits set: less than any number, both as the integer that numbers from 0
// are compared as and as the unsigned one that falls as negative numbers rise.
__device__ inline void raise_score(unsigned* score, float value) {
  if (value >= 0 || value != value) {
    const int bits = value != value ? 0x7fffffff : __float_as_int(value + 0.0f);  // no negative zero
    atomicMax(reinterpret_cast<int*>(score), bits);
  } else {
    atomicMin(score, __float_as_uint(value));
  }
}

// map [B,height,width], scores [B]. Levels beyond one launch's: `resume` takes up the map as the launch before left it.
__global__ void __launch_bounds__(blend_threads, 4)
    blend_kernel(const __grid_constant__ BlendLevels levels, Combine combine, bool resume, float* map, int height, int width,
                 unsigned row_blocks, unsigned column_blocks, unsigned* scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column_block = static_cast<int>(blockIdx.x % column_blocks);
  const int row_block = static_cast<int>(blockIdx.x / column_blocks % row_blocks);
  const std::int64_t image = blockIdx.x / column_blocks / row_blocks;
  const int x = column_block * side + lane, y = row_block * side + warp * rows_each;
  float* to = map + (image * height + y) * width + x;
  float total[rows_each];
#pragma unroll
  for (int i = 0; i < rows_each; ++i) {
    total[i] = combine == Combine::sum ? 0 : 1;
    if (resume && x < width && y + i < height) total[i] = to[std::int64_t{i} * width];
  }
  for (int k = 0; k < levels.count; ++k) {
    const BlendLevel& level = levels.level[k];
    const float* values = level.values + image * level.height * level.width;
    float part[rows_each];
    blend_level(level, values, row_block, column_block, y, height, combine == Combine::sum ? level.weight : 1, part);
#pragma unroll
    for (int i = 0; i < rows_each; ++i) {
      if (combine == Combine::sum) {
        total[i] += part[i];
      } else {
        total[i] *= level.weight == 1 ? part[i] : powf(part[i], level.weight);
      }
    }
  }
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < rows_each; ++i) {
    if (x >= width || y + i >= height) continue;
    to[std::int64_t{i} * width] = total[i];
    most = larger(most, total[i]);
  }
  if (scores == nullptr || y >= height) return;
  for (int step = 1; step < 32; step *= 2) most = larger(most, __shfl_xor_sync(all_lanes, most, step));
  if (lane == 0) raise_score(scores + image, most);
}

}  // namespace thfr::cuda
