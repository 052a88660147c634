// Cosine-distance anomaly scoring.
#pragma once

#include "thfr/tensor_view.h"

namespace thfr {

// distance[b,h,w] = 1 - <x, y> / max(|x| |y|, eps) over the channels of features[B,C,H,W] and restored[B,C,H,W], within
// [0, 2]; 1 where a vector is zero. Floats of one dtype and any strides; distance[B,H,W] is contiguous, fp64 for fp64
// input, else fp32. No magnitude over- or underflows on the way. NaN and infinity make the location's distance NaN.
void cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, int threads);

// The gradients of the above for grad_distance[B,H,W], contiguous and of distance's dtype. grad_features and grad_restored
// are [B,C,H,W] of the input's dtype and any strides; one whose data is null is not computed. Zero at zero vectors.
void cosine_distance_backward(const TensorView& grad_distance, const TensorView& features, const TensorView& restored, double eps,
                              const TensorView& grad_features, const TensorView& grad_restored, int threads);

// A matrix that is zero outside a band: row r holds weights[r, 0..n) at columns start[r] .. start[r] + n.
struct BandedMatrix {
  TensorView start;    // [rows] i64, contiguous
  TensorView weights;  // [rows,n] f32, contiguous
};

// The transpose of a banded matrix in blocks of `width` columns, the last one padded with zeros: block k holds
// weights[k, 0..n, 0..width) at rows start[k] .. start[k] + n.
struct BlockedMatrix {
  static constexpr std::int64_t width = 32;

  TensorView start;    // [ceil(columns / width)] i64, contiguous
  TensorView weights;  // [ceil(columns / width),n,width] f32, contiguous
};

struct MapLevel {
  TensorView values;      // [B,h,w] f32, contiguous
  BandedMatrix rows;      // [H,h]
  BlockedMatrix columns;  // [w,W]
  float weight;           // the factor of this level in a sum, its exponent in a product
};

enum class Combine : int { sum = 0, product = 1 };

// map[b] = sum or product over the levels of rows . values[b] . columns, score[b] = max of map[b] (NaN if any is NaN).
// map[B,H,W] and score[B] are f32, contiguous, W and H at least 1; a score whose data is null is not computed.
void blend_levels(const MapLevel* levels, int count, Combine combine, const TensorView& map, const TensorView& score,
                  int threads);

namespace cuda {  // in builds with CUDA

// The same on `stream` (a cudaStream_t) of the current device; returns a CUDA error text, or nullptr.
const char* cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                            void* stream);

}  // namespace cuda

}  // namespace thfr
