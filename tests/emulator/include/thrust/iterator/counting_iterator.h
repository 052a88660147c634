// The iterators that csrc/sweep/cuda/library.cuh makes, as far as it uses them.
#pragma once

namespace thrust {

template <typename T>
struct counting_iterator {
  T first;
  explicit counting_iterator(T first_) : first(first_) {}
  T operator[](T i) const { return first + i; }
};

}  // namespace thrust
