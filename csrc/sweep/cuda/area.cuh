// Kernels: from the counts of negatives to areas.
#pragma once

#include "sweep/cuda/index.cuh"

namespace thfr::cuda::sweep {

// Running sums of the bins: of those between values, then of those at values, then of those above all.
struct Negatives {
  const std::int64_t* sums;
  std::int64_t capacity;

  __device__ std::int64_t total() const { return sums[2 * capacity]; }
  __device__ std::int64_t below(std::int64_t value) const {
    return sums[value] + sums[capacity + value - 1] - sums[capacity - 1];
  }
  __device__ std::int64_t not_above(std::int64_t value) const {
    return sums[value] + sums[capacity + value] - sums[capacity - 1];
  }
  __device__ bool has(std::int64_t value) const { return value >= 0 && value < capacity; }
};

// 2 A + E of each pixel in the order of regions, 0 where saturation leaves it out.
struct Twice {
  Order order;
  Ranks ranks;
  Negatives negatives;

  __device__ std::int64_t operator()(std::int64_t i) const {
    const std::int64_t value = is_kept(order, i) ? ranks.value_at(order.place[i]) : -1;
    return negatives.has(value) ? 2 * negatives.total() - negatives.below(value) - negatives.not_above(value) : 0;
  }
};

// The first of [first, last) of which `holds` is true; it is of all that follow.
template <typename Holds>
__device__ std::int64_t first_of(std::int64_t first, std::int64_t last, const Holds& holds) {
  while (first < last) {
    const std::int64_t middle = first + (last - first) / 2;
    if (holds(middle)) {
      last = middle;
    } else {
      first = middle + 1;
    }
  }
  return first;
}

struct Bounds {
  static constexpr int most = 32;
  double limit[most];
};

__device__ inline std::int64_t clamped(std::int64_t x, std::int64_t low, std::int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// A thread a region and limit: the pixels that lie inside the limit are the last of the region's, which is sorted. twice: running
// sums, which may wrap as long as those of one region do not.
__global__ void share_kernel(Order order, Ranks ranks, Negatives negatives, const std::int64_t* __restrict__ twice, Bounds bounds,
                             const std::int64_t* __restrict__ flag, double* __restrict__ shares) {
  const std::int64_t region = thread_index();
  if (region >= order.regions) return;
  const auto all = static_cast<double>(negatives.total());
  const double limit = bounds.limit[blockIdx.y] * all;
  const std::int64_t distinct = ranks.distinct();
  // Values from `full` up lie inside the limit whole; the one before may be cut.
  const std::int64_t full = first_of(
      0, distinct, [&](std::int64_t value) { return static_cast<double>(negatives.total() - negatives.below(value)) <= limit; });
  double cut = 0;
  if (full > 0) {
    const double rest = limit - static_cast<double>(negatives.total() - negatives.not_above(full - 1));
    const std::int64_t equal = negatives.not_above(full - 1) - negatives.below(full - 1);
    if (rest > 0) cut = rest * rest / (2 * static_cast<double>(equal));
  }
  const auto first_pixel = [&](std::int64_t of) {
    if (order.offsets != nullptr) return clamped(order.offsets[of], 0, order.pixels);
    return first_of(0, order.pixels, [&](std::int64_t i) { return order.region[i] >= of; });
  };
  const std::int64_t begin = first_pixel(region), end = clamped(first_pixel(region + 1), begin, order.pixels);
  const std::int64_t saturation = order.saturations == nullptr ? end - begin : order.saturations[region];
  const std::int64_t from = saturation < end - begin ? end - clamped(saturation, 0, end) : begin;
  const auto first_from = [&](std::int64_t value) {
    return first_of(from, end, [&](std::int64_t i) { return ranks.value_at(order.place[i]) >= value; });
  };
  const std::int64_t inside = first_from(full), touched = full > 0 ? first_from(full - 1) : inside;
  const auto before = [&](std::int64_t i) { return static_cast<std::uint64_t>(i > 0 ? twice[i - 1] : 0); };
  const double area = static_cast<double>(end - inside) * limit - 0.5 * static_cast<double>(before(end) - before(inside)) +
                      static_cast<double>(inside - touched) * cut;
  const double share = area / (static_cast<double>(saturation) * limit);
  shares[blockIdx.y * order.regions + region] = *flag != 0 ? nan("") : fmin(fmax(share, 0.0), 1.0);
}

// The number high 2^64 + low, rounded to the nearest.
__device__ inline double rounded(unsigned long long high, unsigned long long low) {
  if (high == 0) return static_cast<double>(low);
  const int shift = __clzll(static_cast<long long>(high));
  unsigned long long top = shift == 0 ? high : high << shift | low >> (64 - shift);
  if ((low << shift) != 0) top |= 1;  // below the half that decides: only whether there is more
  return ldexp(static_cast<double>(top), 64 - shift);
}

// low + 2^32 high, as numbers that may each have all of their bits, rounded to the nearest.
__device__ inline double rounded_halves(unsigned long long low, unsigned long long high) {
  const unsigned long long carried = high + (low >> 32);
  return rounded(carried >> 32, carried << 32 | (low & 0xffffffffULL));
}

constexpr int mean_block = 256;

// areas[l]: the mean of shares[l,:], a block each. Added up as whole multiples of 2^-62, so that the order of regions does not
// show.
__global__ void __launch_bounds__(mean_block)
    mean_kernel(const double* __restrict__ shares, std::int64_t regions, double* __restrict__ areas) {
  THFR_SHARED(unsigned long long, of_warp, [2][mean_block / warp]);
  unsigned long long low = 0, high = 0;
  int bad = 0;
  for (std::int64_t region = threadIdx.x; region < regions; region += mean_block) {
    const double share = shares[blockIdx.x * regions + region];
    bad |= isnan(share) ? 1 : 0;
    const auto whole = isnan(share) ? 0ULL : static_cast<unsigned long long>(share * 0x1p62);
    low += whole & 0xffffffffULL;
    high += whole >> 32;
  }
  low = warp_sum(low);
  high = warp_sum(high);
  if (lane_of() == 0) of_warp[0][threadIdx.x / warp] = low, of_warp[1][threadIdx.x / warp] = high;
  bad = __syncthreads_or(bad);
  if (threadIdx.x != 0) return;
  for (int w = 1; w < mean_block / warp; ++w) low += of_warp[0][w], high += of_warp[1][w];
  areas[blockIdx.x] = bad != 0 ? nan("") : ldexp(rounded_halves(low, high), -62) / static_cast<double>(regions);
}

// total[0] + 2^32 total[1]: twice the pairs in which the positive is higher, ties half, summed over the smaller class.
__global__ void pair_kernel(const std::int64_t* __restrict__ rank, std::int64_t pixels, Negatives others, bool positives,
                            unsigned long long* __restrict__ total) {
  unsigned long long low = 0, high = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = thread_index(); i < pixels; i += step) {
    const std::int64_t value = rank[i] - 1;
    if (!others.has(value)) continue;
    const auto not_above = static_cast<unsigned long long>(others.below(value) + others.not_above(value));
    const unsigned long long won = positives ? not_above : 2 * static_cast<unsigned long long>(others.total()) - not_above;
    low += won & 0xffffffffULL;
    high += won >> 32;
  }
  low = warp_sum(low);
  high = warp_sum(high);
  if (lane_of() != 0) return;
  atomicAdd(total, low);
  atomicAdd(total + 1, high);
}

__global__ void area_kernel(const unsigned long long* __restrict__ total, double pairs, const std::int64_t* __restrict__ flag,
                            double* __restrict__ area) {
  if (threadIdx.x == 0) *area = *flag != 0 ? nan("") : rounded_halves(total[0], total[1]) / (2 * pairs);
}

}  // namespace thfr::cuda::sweep
