#pragma once

namespace thrust {

template <typename Function, typename Iterator>
struct transform_iterator {
  Iterator from;
  Function function;
  template <typename I>
  auto operator[](I i) const {
    return function(from[i]);
  }
};

template <typename Function, typename Iterator>
transform_iterator<Function, Iterator> make_transform_iterator(Iterator from, Function function) {
  return {from, function};
}

}  // namespace thrust
