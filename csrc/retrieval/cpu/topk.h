// The k best pairs seen so far, in an order that does not depend on the order they came in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "retrieval/cpu/simd.h"

namespace thfr {

inline bool better(const Neighbour& a, const Neighbour& b) { return a.key > b.key || (a.key == b.key && a.row < b.row); }

// A heap over storage[k] with the worst on top.
class TopK {
 public:
  TopK(Neighbour* storage, std::int64_t k) : storage_(storage), k_(k) {}

  bool full() const { return size_ == k_; }
  // What a newcomer must be better than: anything is until there are k.
  Neighbour worst() const {
    if (full()) return storage_[0];
    return {-std::numeric_limits<double>::infinity(), std::numeric_limits<std::int64_t>::max()};
  }

  void offer(const Neighbour& newcomer) {
    if (full()) {
      if (!better(newcomer, storage_[0])) return;
      std::pop_heap(storage_, storage_ + size_, better);
      storage_[size_ - 1] = newcomer;
    } else {
      storage_[size_++] = newcomer;
    }
    std::push_heap(storage_, storage_ + size_, better);
  }

  // Best first; the heap is gone.
  const Neighbour* sorted() {
    std::sort_heap(storage_, storage_ + size_, better);
    return storage_;
  }

  std::int64_t size() const { return size_; }
  const Neighbour* entries() const { return storage_; }

 private:
  Neighbour* storage_;
  std::int64_t k_;
  std::int64_t size_ = 0;
};

}  // namespace thfr
