// Threads for CPU kernels. The caller says how many: the library never guesses.
#pragma once

#include <algorithm>
#include <cstdint>
#ifdef THFR_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace thfr {

// Calls body(begin, end) on contiguous pieces of [0, n), on at most `threads` threads, each piece at least `grain` long.
// `body` must not throw: an exception cannot leave an OpenMP region.
template <typename Body>
void parallel_for(std::int64_t n, int threads, std::int64_t grain, const Body& body) {
  if (n <= 0) return;
  const std::int64_t pieces =
      std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1));
  if (pieces == 1) {
    body(std::int64_t{0}, n);
    return;
  }
  const auto run = [&](std::int64_t piece) { body(n * piece / pieces, n * (piece + 1) / pieces); };
#ifdef THFR_STD_THREADS  // for ThreadSanitizer, which takes the barriers of GCC's OpenMP for races
  std::vector<std::thread> others;
  for (std::int64_t piece = 1; piece < pieces; ++piece) others.emplace_back(run, piece);
  run(0);
  for (std::thread& other : others) other.join();
#else
#pragma omp parallel for num_threads(static_cast<int>(pieces)) schedule(static, 1)
  for (std::int64_t piece = 0; piece < pieces; ++piece) run(piece);
#endif
}

}  // namespace thfr
