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

// An array that takes over the vector's memory.
template <typename T>
pybind11::array_t<T> to_array(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  const pybind11::capsule owner(kept, [](void* pointer) { delete static_cast<std::vector<T>*>(pointer); });
  return pybind11::array_t<T>(static_cast<pybind11::ssize_t>(kept->size()), kept->data(), owner);
}

}  // namespace thfr::bindings
