#include <algorithm>
#include <limits>
#include <vector>

#include "retrieval/cpu/rows.h"
#include "thfr/parallel.h"

namespace thfr {

NonFinite coreset_scale(const TensorView& bank, double* scale, int threads) {
  const Rows rows = rows_of(bank);
  const RetrievalKernels& kernels = active_retrieval_kernels();
  std::vector<double> largest(at(rows.count));
  parallel_for(rows.count, threads, 16, [&](std::int64_t begin, std::int64_t end) {
    const PlainFloats plain;
    for (std::int64_t n = begin; n < end; ++n) largest[at(n)] = kernels.largest(rows, n);
  });
  double most = 0;
  for (std::int64_t n = 0; n < rows.count; ++n) {
    const double size = largest[at(n)];
    if (!std::isfinite(size)) return {"bank", n, std::isnan(size)};
    most = std::max(most, size);
  }
  // Only fp64 rows reach these bounds; within them squares neither overflow nor vanish.
  const bool plain = most == 0 || (most > 1e-100 && most < 1e100);
  *scale = plain ? 1.0 : std::ldexp(1.0, std::min(-std::ilogb(most), 1000));
  return {};
}

void greedy_coreset(const TensorView& bank, double scale, const TensorView& distances, const TensorView& chosen,
                    std::int64_t begin, std::int64_t end, int threads) {
  struct Farthest {
    double distance;
    std::int64_t row;
  };
  const Rows rows = rows_of(bank);
  const RetrievalKernels& kernels = active_retrieval_kernels();
  double* distance = distances.as<double>();
  std::int64_t* entries = chosen.as<std::int64_t>();
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(rows.width, 1));
  const std::int64_t parts = std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(rows.count / grain, 1));
  std::vector<Farthest> found(at(parts));
  for (std::int64_t step = std::max<std::int64_t>(begin, 1); step < end; ++step) {
    const std::int64_t newest = entries[step - 1];
    distance[newest] = -1;
    parallel_for(parts, threads, 1, [&](std::int64_t part_begin, std::int64_t part_end) {
      const PlainFloats plain;
      for (std::int64_t part = part_begin; part < part_end; ++part) {
        const std::int64_t row =
            kernels.coreset_update(rows, newest, scale, distance, rows.count * part / parts, rows.count * (part + 1) / parts);
        found[at(part)] = {row < 0 ? -1.0 : distance[row], row};
      }
    });
    Farthest best{-1.0, -1};
    for (const Farthest& candidate : found) {
      if (candidate.distance > best.distance) best = candidate;  // parts are in order of rows: a tie stays with the lower
    }
    entries[step] = best.row;
  }
}

}  // namespace thfr
