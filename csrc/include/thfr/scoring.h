// Cosine-distance anomaly scoring.
#pragma once

#include "thfr/tensor_view.h"

namespace thfr {

// distance[b,h,w] = 1 - <x, y> / max(|x| |y|, eps) over the channels of features[B,C,H,W] and restored[B,C,H,W].
// Floats of one dtype and any strides; distance[B,H,W] is contiguous, fp64 for fp64 input, else fp32, accumulated alike.
void cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance, int threads);

#ifdef THFR_HAS_CUDA
namespace cuda {

// The same on `stream` (a cudaStream_t) of the current device; returns a CUDA error text, or nullptr.
const char* cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                            void* stream);

}  // namespace cuda
#endif

}  // namespace thfr
