// The steps of the sweeps on a GPU. What lies between them - sorts and running sums - is the caller's, as is all memory.
//
// A set's images are read in chunks of 512 pixels, row by row. `counts` and `sums`, their running sums, begin with the chunks of
// every region (image by image, region by region) and end with those of every image's pixels in any region.
//
// Scores are compared as integers of the same order ("keys", metrics/cpu/order.h): i32 in tensors of type f32, which TensorView
// has, unless a map is f64, then i64. Region numbers are i32 in tensors of type f32 too.
//
// Every function starts work on `stream` (a cudaStream_t) of the current device and returns a CUDA error text, or nullptr.
// Kernels stay inside of the tensors whatever numbers these hold.
#pragma once

#include <cstdint>
#include <vector>

#include "thfr/sweep.h"

namespace thfr::cuda {

// Chunks of an image's pixels.
std::int64_t sweep_chunks(std::int64_t pixels);
// Bytes that an image of `pixels` takes up in `covered`: none if its `regions` (fewer than 2) say which pixels are covered.
std::int64_t covered_bytes(std::int64_t pixels, std::int64_t regions);

// Marked pixels of each chunk of regions[n] (bool [R_n,H,W], any strides), and of their union, to counts (i64). covered (bool,
// of covered_bytes each image): the union, where there are two regions or more.
const char* count_marks(const Views& regions, const TensorView& covered, const TensorView& counts, void* stream);

// offsets (i64 [R+1]) of the regions' pixels, and summary (i64 [5], zeros before): pixels of all regions, empty regions, regions
// with saturation < area, saturations < 1, sums' last number. saturations (i64 [R]) may have null data.
const char* find_offsets(const Views& regions, const TensorView& sums, const TensorView& saturations, const TensorView& offsets,
                         const TensorView& summary, void* stream);

// 8-connected regions of masks[n] (bool [1,H,W]), numbered 1, 2, ... through all images in the order of their first pixels.
// links (i64, of all pixels; left for the next step) and counts (i64 [chunks]): regions that begin in a chunk.
const char* find_roots(const Views& masks, const TensorView& links, const TensorView& counts, void* stream);
// labels (i32, of all pixels) of those in regions, from the links and the running sums of the counts.
const char* number_roots(const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& labels,
                         void* stream);

// What to take from maps[n] ([H,W]) where regions[n] ([R_n,H,W]) is true, region after region; or, the other way round, where
// marks[n] ([1,H,W], or [0,H,W] for an image without marks) is false, image after image.
struct Collection {
  bool marked;   // the first
  bool as_keys;  // keys, or scores as they are
  Views labels;  // i32 [H,W] contiguous, 1 for region 0; or empty: a pixel's region is that whose mask it is taken by
};

// Scores [p] (f32 or f64, or keys) and region numbers [p] (null data: not wanted). sums: of the chunks; those of the images if
// not `marked`. flag (i64 [1]) becomes 1 if a score is NaN.
const char* collect_scores(const Views& maps, const Views& regions, const TensorView& sums, const Collection& collection,
                           const TensorView& scores, const TensorView& region, const TensorView& flag, void* stream);

// keys[p] of scores[p] (f32 or f64, contiguous).
const char* make_keys(const TensorView& scores, const TensorView& keys, void* stream);

// changes[p] (i64) = 1 where sorted keys[p] differ from the one before, and at the first.
const char* flag_changes(const TensorView& keys, const TensorView& changes, void* stream);

// Pixels in order of regions, each region's ascending.
struct RegionOrder {
  TensorView place;        // i64 [p]: where in the sorted keys
  TensorView region;       // i32 [p]
  TensorView offsets;      // i64 [R+1]
  TensorView saturations;  // i64 [R], or null data: of the size of the regions
};
// Distinct values of sorted keys, all or those which a region's highest `saturation` pixels have.
struct Distinct {
  TensorView rank;  // i64 [p]: running sums of changes
  TensorView used;  // i64 [p]: running sums of the flags of ranks in use; or null data: all are
};

// used[rank - 1] (i64 [p], zeros before) = 1 for the ranks (running sums of changes) of pixels among their region's highest.
const char* flag_used(const RegionOrder& order, const TensorView& rank, const TensorView& used, void* stream);

// values[p]: the distinct keys, as many as the last number of distinct says. sizes (i64 [sweep_segments()]): buckets of each
// segment of their range, at most p + sweep_segments() in all.
const char* make_values(const TensorView& keys, const Distinct& distinct, const TensorView& values, const TensorView& sizes,
                        void* stream);
std::int64_t sweep_segments();

// Values, and how a score is found among them.
struct Index {
  TensorView values;  // i32 or i64 [p]
  TensorView ends;    // i64 [sweep_segments()]: running sums of sizes
  TensorView table;   // i32 [p + sweep_segments() + 1]: the first value of each bucket
};
const char* make_table(const Distinct& distinct, const Index& index, void* stream);

// Adds the pixels of maps[n] ([H,W]) whose mark in marks[n] ([1,H,W] bool; [0,H,W]: none is marked) is `marked` to bins ([2 p +
// 1] i64): number r of those between the value before and the r-th, p + r of those at it, 2 p of those above all. flag becomes 1
// if one of them is NaN. Without values (p = 0) they are only looked at. Maps are fp64 for values of i64, else none is.
const char* count_scores(const Views& maps, const Views& marks, bool marked, const Distinct& distinct, const Index& index,
                         const TensorView& bins, const TensorView& flag, void* stream);

// twice[p] (i64) = 2 A + E of each pixel in the order of regions, 0 where saturation leaves it out. sums: running sums of bins.
const char* double_ranks(const RegionOrder& order, const Distinct& distinct, const TensorView& sums, const TensorView& twice,
                         void* stream);

// shares[l,r] (f64): the area of region r up to limits[l], over the limit; NaN if the flag is set. twice: its running sums.
const char* share_areas(const RegionOrder& order, const Distinct& distinct, const TensorView& sums, const TensorView& twice,
                        const std::vector<double>& limits, const TensorView& flag, const TensorView& shares, void* stream);

// area (f64 [1]) under the ROC curve, NaN if the flag is set, from the ranks of the smaller class (the positives if
// `positives`) and the running sums of the larger one's bins. total (i64 [2], zeros before); pairs: positives times negatives.
const char* rank_area(const TensorView& rank, const TensorView& sums, bool positives, double pairs, const TensorView& total,
                      const TensorView& flag, const TensorView& area, void* stream);

}  // namespace thfr::cuda
