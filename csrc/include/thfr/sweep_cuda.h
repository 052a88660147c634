// The steps of the sweeps on a GPU. All memory is the caller's; `scratch` (of bool, sweep_scratch long) is left full of anything.
//
// A set's images are read in chunks of 512 pixels, row by row. `sums`, running sums of what is marked in them, begin with the
// chunks of every region (image by image, region by region) and end with those of every image's pixels in any region.
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

// Bytes of scratch for as many chunks or bins, and as many pixels of regions.
std::int64_t sweep_scratch(std::int64_t numbers, std::int64_t pixels);

// sums (i64) of marked pixels in regions[n] (bool [R_n,H,W], any strides), and in their union. covered (bool, of covered_bytes
// each image): the union, where there are two regions or more. summary (i64 [8]) becomes 0.
const char* count_marks(const Views& regions, const TensorView& covered, const TensorView& sums, const TensorView& summary,
                        const TensorView& scratch, void* stream);

// offsets (i64 [R+1]) of the regions' pixels, and adds to summary: pixels of all regions, empty regions, saturations < 1; sums'
// last number; nothing; found (i64 [1]); nothing. saturations (i64 [R]) and found may have null data.
const char* find_offsets(const Views& regions, const TensorView& sums, const TensorView& saturations, const TensorView& found,
                         const TensorView& offsets, const TensorView& summary, void* stream);

// 8-connected regions of masks[n] (bool [1,H,W]), numbered 1, 2, ... through all images in the order of their first pixels.
// links (i64, of all pixels; left for the next step) and sums (i64 [chunks]) of the regions that begin in a chunk.
const char* find_roots(const Views& masks, const TensorView& links, const TensorView& sums, const TensorView& scratch,
                       void* stream);
// labels (i32, of all pixels) of those in regions, from the links and the sums.
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

// sorted: keys[p] ascending; permuted: region[p] (i32) in their order, which keeps that of equal keys. Of keys of 32 bits those
// below first_bit are 0.
const char* sort_scores(const TensorView& keys, const TensorView& region, const TensorView& sorted, const TensorView& permuted,
                        int first_bit, const TensorView& scratch, void* stream);

// The distinct values of sorted keys, and how a score is found among them.
struct Index {
  TensorView rank;    // i64 [p]: 1, 2, ... for the distinct keys
  TensorView values;  // i32 or i64 [p]: the distinct keys, as many as the last rank says
  TensorView ends;    // i64 [sweep_segments()]: running sums of the buckets of each segment of their range
  TensorView table;   // i32 [p + sweep_segments() + 1]: the first value of each bucket
};
std::int64_t sweep_segments();

// The index of sorted keys[p], p > 0. bins (i64 [2 p + 1]) become 0; numbers (i32 [p], or null data) 0, 1, ...
const char* make_index(const TensorView& keys, const Index& index, const TensorView& bins, const TensorView& numbers,
                       const TensorView& scratch, void* stream);

// Adds the pixels of maps[n] ([H,W]) whose mark in marks[n] ([1,H,W] bool; [0,H,W]: none is marked) is `marked` to bins (i64 [2 p
// + 1]), and takes running sums of these: number r of those between the value before and the r-th, p + r of those at it, 2 p of
// those above all. flag becomes 1 if one of them is NaN. Without values (p = 0) they are only looked at. Maps are fp64 for values
// of i64, else none is.
const char* count_scores(const Views& maps, const Views& marks, bool marked, const Index& index, const TensorView& bins,
                         const TensorView& flag, const TensorView& scratch, void* stream);

// Pixels in order of regions, each region's ascending.
struct RegionOrder {
  TensorView place;        // i32 [p]: where in the sorted keys
  TensorView region;       // i32 [p]
  TensorView offsets;      // i64 [R+1], or null data: where `region` changes
  TensorView saturations;  // i64 [R], or null data: of the size of the regions. Not without offsets
  std::int64_t regions;
};

// place and region of the order, of the regions of sorted keys and their numbers.
const char* order_regions(const TensorView& region, const TensorView& numbers, const RegionOrder& order,
                          const TensorView& scratch, void* stream);

// shares[l,r] (f64): the area of region r up to limits[l], over the limit, and areas[l] (f64), their mean; NaN if the flag is
// set. sums: of the bins. twice (i64 [p]): running sums of 2 A + E of each pixel, of which 0 where saturation leaves it out.
const char* share_areas(const RegionOrder& order, const Index& index, const TensorView& sums, const TensorView& twice,
                        const std::vector<double>& limits, const TensorView& flag, const TensorView& shares,
                        const TensorView& areas, const TensorView& scratch, void* stream);

// area (f64 [1]) under the ROC curve, NaN if the flag is set, from the ranks of the smaller class (the positives if
// `positives`) and the running sums of the larger one's bins. total (i64 [2], zeros before); pairs: positives times negatives.
const char* rank_area(const TensorView& rank, const TensorView& sums, bool positives, double pairs, const TensorView& total,
                      const TensorView& flag, const TensorView& area, void* stream);

}  // namespace thfr::cuda
