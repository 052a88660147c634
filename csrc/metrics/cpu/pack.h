// Packed multisets: reading, merging and writing them a block at a time. The format, little-endian:
//   i64 entries, i64 total of their counts, a Head for each block of 256 entries, the blocks, 8 bytes of nothing.
// A block, padded to bytes: of each entry but the first, (difference to the one before >> shift) - 1, Rice coded: all
// quotients in unary (so many zeros and a one), then all rests; count - 1 of each entry likewise, unless all are 1.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>
#include <vector>

#include "metrics/cpu/order.h"
#include "thfr/metrics.h"

namespace thfr {
namespace sweep {

constexpr int block_entries = 256;
constexpr std::size_t pack_padding = 8;  // so that a word can be read from any bit of a block
constexpr std::uint8_t all_ones = 255;
constexpr std::int64_t most_total = std::int64_t{1} << 50;  // so that sums of thousands of runs fit

struct Head {
  Order first;
  std::uint8_t shift, delta_bits, count_bits, none;
  std::uint16_t delta_unary, count_unary;  // bits
};
static_assert(sizeof(Head) == 16);

inline std::int64_t blocks_of(std::int64_t entries) { return entries / block_entries + (entries % block_entries != 0); }

inline std::size_t payload_bytes(const Head& head, std::int64_t entries) {
  std::size_t bits = head.delta_unary + static_cast<std::size_t>(entries - 1) * head.delta_bits;
  if (head.count_bits != all_ones) bits += head.count_unary + static_cast<std::size_t>(entries) * head.count_bits;
  return (bits + 7) / 8;
}

// The power of two for values of this sum: about their mean, for a block that is full.
inline int rice_bits(std::uint64_t sum) { return sum >> 8 ? 63 - __builtin_clzll(sum >> 8) : 0; }

struct Block {
  int entries = 0;
  std::array<Order, block_entries> keys;
  std::array<std::int64_t, block_entries> counts;
};

// Blocks in ascending order of keys; every block but the last may be short as well.
class Source {
 public:
  virtual ~Source() = default;
  virtual bool next(Block& block) = 0;  // false, with no entries, at the end
};

class Reader : public Source {
 public:
  explicit Reader(const TensorView& run) : bytes_(run.as<const std::uint8_t>()) {
    const auto size = static_cast<std::size_t>(run.elements());
    std::int64_t sums[2] = {-1, -1};
    if (size >= sizeof sums + pack_padding) std::memcpy(sums, bytes_, sizeof sums);
    entries_ = sums[0], total_ = sums[1];
    left_ = total_;
    const bool fits =
        entries_ >= 0 && total_ >= entries_ && total_ <= most_total && static_cast<std::uint64_t>(entries_) / 16 < size;
    if (!fits || size < sizeof sums + pack_padding + sizeof(Head) * blocks_of(entries_)) fail();
    at_ = sizeof sums + sizeof(Head) * blocks_of(entries_);
    end_ = size - pack_padding;
  }

  std::int64_t total() const { return total_; }

  bool next(Block& block) override {
    block.entries = static_cast<int>(std::min<std::int64_t>(entries_ - block_ * block_entries, block_entries));
    if (block.entries <= 0) {
      if (left_ != 0) fail();
      block.entries = 0;
      return false;
    }
    Head head;
    std::memcpy(&head, bytes_ + 16 + sizeof head * block_++, sizeof head);
    const std::size_t bytes = payload_bytes(head, block.entries);
    const bool wide = head.delta_bits > 55 || (head.count_bits > 55 && head.count_bits != all_ones) || head.shift > 63;
    if (wide || bytes > end_ - at_) fail();
    read_keys(head, block);
    read_counts(head, block);
    check(block);
    at_ += bytes;
    return true;
  }

 private:
  [[noreturn]] static void fail() { throw std::invalid_argument("packed scores: not a packed multiset"); }

  // Keys ascend, counts are positive and have the sum that was told: what readers of a block rely on.
  void check(const Block& block) {
    bool fits = block_ == 1 || block.keys[0] > last_;
    for (int i = 1; i < block.entries; ++i) fits &= block.keys[i] > block.keys[i - 1];
    for (int i = 0; i < block.entries; ++i) {
      fits &= block.counts[i] >= 1 && block.counts[i] <= most_total;
      left_ -= block.counts[i] & (2 * most_total - 1);
    }
    if (!fits || left_ < 0) fail();
    last_ = block.keys[block.entries - 1];
  }

  std::uint64_t word(std::size_t bit) const {  // 57 bits at least
    std::uint64_t bits;
    std::memcpy(&bits, bytes_ + at_ + bit / 8, sizeof bits);
    return bits >> (bit % 8);
  }

  // ones[i]: the sum of the first i + 1 quotients.
  void read_unary(std::size_t begin, int bits, int n, std::uint32_t* sums) const {
    int found = 0;
    for (int at = 0; at < bits && found < n; at += 56) {
      std::uint64_t ones = word(begin + at) & (UINT64_MAX >> (64 - std::min(56, bits - at)));
      for (; ones != 0 && found < n; ones &= ones - 1, ++found) {
        sums[found] = static_cast<std::uint32_t>(at + __builtin_ctzll(ones) - found);
      }
    }
    if (found < n) fail();
  }

  void read_keys(const Head& head, Block& block) const {
    const int n = block.entries - 1;
    std::uint32_t sums[block_entries];
    read_unary(0, head.delta_unary, n, sums);
    block.keys[0] = head.first;
    const std::uint64_t mask = (std::uint64_t{1} << head.delta_bits) - 1;
    std::uint64_t rests = 0;
    for (int i = 0; i < n; ++i) {
      rests += (word(head.delta_unary + static_cast<std::size_t>(i) * head.delta_bits) & mask) + 1;
      const std::uint64_t steps = (static_cast<std::uint64_t>(sums[i]) << head.delta_bits) + rests;
      block.keys[i + 1] = static_cast<Order>(static_cast<std::uint64_t>(head.first) + (steps << head.shift));
    }
  }

  void read_counts(const Head& head, Block& block) const {
    if (head.count_bits == all_ones) {
      std::fill_n(block.counts.begin(), block.entries, 1);
      return;
    }
    const int bits = head.count_bits;
    const std::size_t begin = head.delta_unary + static_cast<std::size_t>(block.entries - 1) * head.delta_bits;
    std::uint32_t sums[block_entries];
    read_unary(begin, head.count_unary, block.entries, sums);
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    for (int i = 0; i < block.entries; ++i) {
      const std::uint64_t quotient = sums[i] - (i > 0 ? sums[i - 1] : 0);
      const std::uint64_t rest = word(begin + head.count_unary + static_cast<std::size_t>(i) * bits) & mask;
      block.counts[i] = static_cast<std::int64_t>((quotient << bits) + rest + 1);
    }
  }

  const std::uint8_t* bytes_;
  std::size_t at_ = 0, end_ = 0;
  std::int64_t entries_ = 0, total_ = 0, left_ = 0, block_ = 0;
  Order last_ = 0;
};

class Merge : public Source {
 public:
  Merge(std::unique_ptr<Source> left, std::unique_ptr<Source> right) : left_{std::move(left)}, right_{std::move(right)} {}

  bool next(Block& out) override {
    left_.fill(), right_.fill();
    Block &a = left_.block, &b = right_.block;
    int i = left_.at, j = right_.at, n = 0;
    if (a.entries == 0 || b.entries == 0) return take(a.entries == 0 ? right_ : left_, out);
    while (i < a.entries && j < b.entries && n < block_entries) {
      const Order x = a.keys[i], y = b.keys[j];
      const int takes_a = x <= y, takes_b = y <= x;
      out.keys[n] = takes_a != 0 ? x : y;
      out.counts[n++] = (a.counts[i] & -static_cast<std::int64_t>(takes_a)) + (b.counts[j] & -static_cast<std::int64_t>(takes_b));
      i += takes_a, j += takes_b;
    }
    left_.at = i, right_.at = j, out.entries = n;
    return true;
  }

 private:
  struct Side {
    explicit Side(std::unique_ptr<Source>&& from) : source(std::move(from)) {}
    void fill() {
      if (at == block.entries) source->next(block), at = 0;
    }
    std::unique_ptr<Source> source;
    Block block;
    int at = 0;
  };

  static bool take(Side& side, Block& out) {
    out.entries = side.block.entries - side.at;
    std::copy_n(side.block.keys.begin() + side.at, out.entries, out.keys.begin());
    std::copy_n(side.block.counts.begin() + side.at, out.entries, out.counts.begin());
    side.at = side.block.entries;
    return out.entries > 0;
  }

  Side left_, right_;
};

// All runs as one: a balanced tree of merges.
std::unique_ptr<Source> merged(const Views& runs, std::size_t begin, std::size_t end);

// Packs entries whose keys ascend.
class Writer {
 public:
  void push(Order key, std::int64_t count) {
    block_.keys[block_.entries] = key;
    block_.counts[block_.entries++] = count;
    if (block_.entries == block_entries) flush();
  }
  Bytes finish();

 private:
  void flush();

  Block block_;
  std::vector<Head> heads_;
  std::vector<Bytes> payload_;  // in pieces: a vector that grows would need the old and the new at a time
  std::int64_t entries_ = 0, total_ = 0;
};

}  // namespace sweep
}  // namespace thfr
