// Counts of many scores between and at few: the sweep's inner loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "sweep/cpu/index.h"
#include "sweep/cpu/rows.h"
#include "sweep/cpu/simd.h"
#include "sweep/cpu/trap.h"

namespace thfr {
namespace sweep {

// The counters of one thread. Keys wait until there is a batch of neighbours, so that the part of the index and of the
// counters that it needs stays in the nearest cache: one by one, each key would wait three times for memory.
template <typename Key>
class Counter {
 public:
  static constexpr std::int64_t block = 512;  // keys taken in at a time, at most

  explicit Counter(const Index<Key>& index) : index_(index), counts_(index.size()) {
    if (index.size() == 0) return;
    low_ = index[0];
    range_ = index[index.size() - 1] - low_;
    if (index.parts() == 1) return;
    waiting_.reset(new Key[index.parts() * batch]);  // memory that is not written costs nothing
    fill_.resize(index.parts());
  }

  // Takes in some pixels of a row, at most `block`: those of the index are looked up, now or later, the rest only counted.
  void add(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t row, std::int64_t x, std::int64_t n) {
    Key inside[block + 8];
    const std::int64_t kept = filter(map, mask, wanted, row, x, n, inside);
    if (index_.size() == 0) return;
    inside_ += kept;
    if (fill_.empty()) return look_up(0, inside, kept);
    wait(inside, kept);
  }

  std::int64_t inside() const { return inside_; }
  const PixelTally& tally() const { return tally_; }

  // Adds what was counted to `bins` (of Index::bin) and starts again.
  void move_to(std::vector<std::uint64_t>& bins) {
    for (std::size_t b = 0; b < fill_.size(); ++b) {
      look_up(b, waiting_.get() + b * batch, fill_[b]);
      fill_[b] = 0;
    }
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const std::uint64_t equal = counts_[i] >> 32;
      bins[2 * i] += (counts_[i] & UINT32_MAX) - equal;
      bins[2 * i + 1] += equal;
      counts_[i] = 0;
    }
    bins.front() += static_cast<std::uint64_t>(tally_.total - tally_.above - inside_);
    bins.back() += static_cast<std::uint64_t>(tally_.above);
    tally_.total = tally_.above = inside_ = 0;
  }

 private:
  static constexpr std::uint32_t batch = 32768;  // keys: enough that a part of the index, once fetched, serves many

  std::int64_t filter(const TensorView& map, const TensorView* mask, bool wanted, std::int64_t row, std::int64_t x,
                      std::int64_t n, Key* inside) {
    const bool plain = map.dtype == DType::f32 && map.stride[1] == 1 && (mask == nullptr || mask->stride[1] == 1);
    if constexpr (sizeof(Key) == 4) {
      if (plain) {
        const auto* marks = mask == nullptr ? nullptr : mask->as<const std::uint8_t>() + row * mask->stride[0] + x;
        return kernels_.filter(map.as<const float>() + row * map.stride[0] + x, marks, wanted, n, low_, range_, inside, &tally_);
      }
    }
    std::int64_t kept = 0;
    visit_pixels<Key>(map, mask, wanted, row, x, n, [&](Key key) {
      ++tally_.total;
      tally_.above += key > low_ + range_;
      tally_.nan |= is_nan(key);
      inside[kept] = key;
      kept += key - low_ <= range_;
    });
    return kept;
  }

  void wait(const Key* keys, std::int64_t n) {
    std::uint32_t* fill = fill_.data();
    Key* waiting = waiting_.get();
    for (std::int64_t i = 0; i < n; ++i) {
      const std::size_t b = index_.part(keys[i]);
      const std::uint32_t place = fill[b];
      waiting[b * batch + place] = keys[i];
      fill[b] = place + 1;
      if (place + 1 < batch) continue;
      look_up(b, waiting + b * batch, batch);
      fill[b] = 0;
    }
  }
  void look_up(std::size_t part, const Key* keys, std::int64_t n) {
    const typename Index<Key>::Finder finder = index_.finder(part);
    std::uint64_t* counts = counts_.data();
    for (std::int64_t i = 0; i < n; ++i) {
      const std::size_t rank = finder.rank(keys[i]);
      counts[rank] += std::uint64_t{1} + (static_cast<std::uint64_t>(finder.values[rank] == keys[i]) << 32);
    }
  }

  const Index<Key>& index_;
  // Of each value: keys at it or between it and the one before, and in the upper half keys at it.
  std::vector<std::uint64_t> counts_;
  const SweepKernels& kernels_ = active_sweep_kernels();
  Key low_ = 1, range_ = 0;
  std::unique_ptr<Key[]> waiting_;
  std::vector<std::uint32_t> fill_;
  PixelTally tally_;
  std::int64_t inside_ = 0;
};

struct Counts {
  std::vector<std::uint64_t> bins;  // of Index::bin
  SweepInfo info;
};

// Counts the pixels of maps whose mask is `wanted` (all, if `masks` is empty). Each thread has counters of its own, as many
// as fit in 8 bytes a pixel.
template <typename Key>
Counts count(const Index<Key>& index, const Views& maps, const Views& masks, bool wanted, int threads) {
  const Strips strips(maps);
  std::int64_t pixels = 0;
  for (const TensorView& map : maps) pixels += map.elements();
  const std::int64_t budget = std::max<std::int64_t>(8 * pixels, std::int64_t{1} << 24);
  const auto copies = static_cast<std::int64_t>(budget / (4 * index.bins()));
  const std::int64_t pieces =
      std::max<std::int64_t>(1, std::min<std::int64_t>({strips.total(), copies, useful_threads(pixels, threads)}));

  Counts counts;
  counts.bins.resize(index.bins());
  std::vector<SweepInfo> infos(static_cast<std::size_t>(pieces));
  std::mutex mutex;
  parallel_items(pieces, threads, [&](std::int64_t piece) {
    SweepInfo& info = infos[static_cast<std::size_t>(piece)];
    Counter<Key> counter(index);
    const auto flush = [&] {
      const std::lock_guard<std::mutex> lock(mutex);
      info.negatives += counter.tally().total;
      counter.move_to(counts.bins);
    };
    const std::int64_t begin = strips.total() * piece / pieces, end = strips.total() * (piece + 1) / pieces;
    strips.visit(begin, end, [&](std::size_t i, std::int64_t row, std::int64_t first, std::int64_t length) {
      const TensorView* mask = masks.empty() ? nullptr : &masks[i];
      for (std::int64_t x = first; x < first + length; x += Counter<Key>::block) {
        counter.add(maps[i], mask, wanted, row, x, std::min(Counter<Key>::block, first + length - x));
      }
      if (counter.inside() > (std::int64_t{1} << 30)) flush();
      if (counter.tally().nan && info.nan_image < 0) info.nan_image = static_cast<std::int64_t>(i);
    });
    flush();
  });
  for (const SweepInfo& info : infos) {  // in the order of images
    if (counts.info.nan_image < 0) counts.info.nan_image = info.nan_image;
    counts.info.negatives += info.negatives;
  }
  return counts;
}

}  // namespace sweep
}  // namespace thfr
