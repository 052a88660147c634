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

namespace cuda {  // in builds with CUDA; on `stream` (a cudaStream_t) of the current device; a CUDA error text, or nullptr

// Distance as above of one level; fp32 for fp64 input, too, where `distance` is.
struct DistanceLevel {
  TensorView features, restored;  // [B,C,h,w]
  TensorView distance;            // [B,h,w], contiguous
};

// All levels, in one launch for up to 8 of a dtype. scores[B] f32, unless its data is null, is made ready for blend_levels,
// if there is a location.
const char* cosine_distances(const DistanceLevel* levels, int count, double eps, const TensorView& scores, void* stream);

const char* cosine_distance_backward(const TensorView& grad_distance, const TensorView& features, const TensorView& restored,
                                     double eps, const TensorView& grad_features, const TensorView& grad_restored, void* stream);

// A level with the blocks of both its matrices; their weights begin at a multiple of 16 bytes.
struct MapLevel {
  TensorView values;            // [B,h,w] f32, contiguous
  TensorView row_start;         // [H] i64, contiguous: the start of the BandedMatrix whose blocks are `rows`
  std::int64_t row_band;        // its n
  BlockedMatrix rows, columns;  // [h,H], [w,W]
  float weight;
};

// As above, in one launch for up to 8 levels. scores[b], unless null, is raised to the maximum of map[b] from what
// cosine_distances has left there.
const char* blend_levels(const MapLevel* levels, int count, Combine combine, const TensorView& map, const TensorView& scores,
                         void* stream);

}  // namespace cuda

}  // namespace thfr
