// Guards of memory: what the Python side has checked in the user's words is not believed by the native module.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "thfr/tensor_view.h"

namespace thfr::bindings {

inline void require(bool fits, const char* function) {
  if (!fits) throw pybind11::value_error(std::string("_C.") + function + ": arguments do not fit each other");
}

inline bool is_float(const TensorView& view) { return view.dtype <= DType::bf16; }

inline bool is_vector(const TensorView& view, DType dtype) {
  return view.dims == 1 && view.dtype == dtype && (view.stride[0] == 1 || view.size[0] <= 1);
}

inline bool is_vector(const TensorView& view, DType dtype, std::int64_t length) {
  return is_vector(view, dtype) && view.size[0] == length;
}

inline bool is_contiguous(const TensorView& view) {
  if (view.elements() == 0) return true;
  std::int64_t step = 1;
  for (int i = view.dims; i-- > 0; step *= view.size[i]) {
    if (view.size[i] != 1 && view.stride[i] != step) return false;
  }
  return true;
}

inline bool same_shape(const TensorView& a, const TensorView& b) {
  bool same = a.dims == b.dims;
  for (int i = 0; same && i < a.dims; ++i) same = a.size[i] == b.size[i];
  return same;
}

// [B,C,H,W] twice.
inline bool are_features(const TensorView& features, const TensorView& restored) {
  return features.dims == 4 && is_float(features) && features.dtype == restored.dtype && same_shape(features, restored);
}

// [B,H,W] for [B,C,H,W].
inline bool is_distance(const TensorView& distance, const TensorView& features) {
  const DType dtype = features.dtype == DType::f64 ? DType::f64 : DType::f32;
  return distance.dims == 3 && distance.dtype == dtype && distance.size[0] == features.size[0] &&
         distance.size[1] == features.size[2] && distance.size[2] == features.size[3] && is_contiguous(distance);
}

// Not asked for, or one like `features`.
inline bool is_gradient(const TensorView& gradient, const TensorView& features) {
  return gradient.data == nullptr || (gradient.dtype == features.dtype && same_shape(gradient, features));
}

// Contiguous fp32, `rows` of them.
inline bool are_weights(const TensorView& weights, int dims, std::int64_t rows) {
  return weights.dims == dims && weights.dtype == DType::f32 && weights.size[0] == rows && is_contiguous(weights);
}

// [R+1] `offsets` rise from 0 to the end of the scores.
inline bool are_regions(const TensorView& scores, const TensorView& offsets, std::int64_t regions) {
  if (!is_vector(offsets, DType::i64, regions + 1)) return false;
  const std::int64_t* offset = offsets.as<std::int64_t>();
  bool fit = offset[0] == 0 && offset[regions] == scores.size[0];
  for (std::int64_t r = 0; fit && r < regions; ++r) fit = offset[r] <= offset[r + 1];
  return fit;
}

inline bool are_saturations(const TensorView& saturations) {
  bool fit = is_vector(saturations, DType::i64);
  for (std::int64_t r = 0; fit && r < saturations.size[0]; ++r) fit = saturations.as<std::int64_t>()[r] >= 1;
  return fit;
}

// What `call` gives, made without Python's lock.
template <typename Call>
auto without_gil(const Call& call) {
  const pybind11::gil_scoped_release release;
  return call();
}

// An array that takes over the vector's memory.
template <typename T>
pybind11::array_t<T> to_array(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  const pybind11::capsule owner(kept, [](void* pointer) { delete static_cast<std::vector<T>*>(pointer); });
  return pybind11::array_t<T>(static_cast<pybind11::ssize_t>(kept->size()), kept->data(), owner);
}

}  // namespace thfr::bindings
