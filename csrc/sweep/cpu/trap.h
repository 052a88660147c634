// Exceptions (memory running out) out of OpenMP regions, which they must not leave on their own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

#include "thfr/parallel.h"

namespace thfr {
namespace sweep {

// No more threads than have 16,384 pixels each to look at: waking one, and waiting for it on a busy machine, costs more.
inline int useful_threads(std::int64_t pixels, int threads) {
  return static_cast<int>(std::clamp<std::int64_t>(pixels / 16384, 1, std::max(threads, 1)));
}

// parallel_for over single items; the first exception is thrown again once all threads are done.
template <typename Body>
void parallel_items(std::int64_t n, int threads, const Body& body) {
  std::exception_ptr failure;
  std::mutex mutex;
  parallel_for(n, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    try {
      for (std::int64_t i = begin; i < end; ++i) body(i);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace sweep
}  // namespace thfr
