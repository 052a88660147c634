// PRO, sPRO and ROC threshold sweeps, exact, without a loop over thresholds.
//
// A set of images has N negative pixels (in no region) and m regions; region i saturates at s_i pixels. At threshold t,
// strict `>`:
//   fpr(t) = #{negatives > t} / N,   overlap(t) = 1/m sum_i min(#{pixels of region i > t} / s_i, 1),
// one point for each distinct score, joined by straight lines. In integral_0^L overlap d fpr, min(count, s_i) is the number
// of region i's s_i highest pixels above t, so that the integral splits into one term for each of those pixels a. With
//   J = L N,   A = #{negatives > a},   E = #{negatives = a}
// the term, in units of 1 / (N m s_i), is the area under the step that a adds to the curve:
//   A + E <= J:      (J - A - E) + E/2    the negatives below a; those that tie with it lie on one segment that rises by 1
//   A < J < A + E:   (J - A)^2 / (2 E)    the limit cuts that segment after J - A of its E negatives
//   J <= A:          0
// and AU(L) = 1/(m J) sum_i 1/s_i sum_a term(a): PRO is s_i = area_i, a region smaller than s_i never reaches 1. Only the
// integers A and E are needed, and only at the distinct values of those pixels: they are sorted, and each negative is
// counted between or at two of them. Sums over pixels are of integers, the sum over regions is of sorted numbers: the
// result does not depend on threads, nor on the order of images, regions or pixels.
//
// Scores compare as numbers: -0 equals 0, infinities are ordered, NaN is found and reported. Maps are f32, f64, f16 or
// bf16, of any strides; if any is f64 the comparison is in f64, else in f32 (widening is exact).
#pragma once

#include <cstdint>
#include <vector>

#include "thfr/tensor_view.h"

namespace thfr {

using Views = std::vector<TensorView>;

// What a sweep found out about its input. The result is undefined if nan_image >= 0 or negatives == 0.
struct SweepInfo {
  std::int64_t nan_image = -1;  // the first image with a NaN
  std::int64_t negatives = 0;
};

// areas[r] = number of true pixels in regions[r,:,:]; bool [R,H,W], any strides, to contiguous i64 [R].
void region_areas(const TensorView& regions, const TensorView& areas, int threads);

// 8-connected regions of masks[N,H,W] (bool, any strides), numbered 1, 2, ... in each image in the order of their first
// pixels, row by row. labels[N,H,W] (contiguous i64; 0 outside) and counts[N] (contiguous i64).
void label_regions(const TensorView& masks, const TensorView& labels, const TensorView& counts, int threads);

// Scores of the pixels of the 8-connected regions of each masks[n] (bool [H,W]), region after region: scores (contiguous f32
// or f64, room for every true pixel), offsets (contiguous i64; of region r: offsets[r] to offsets[r + 1]). Returns the
// number of regions, or -1 if `offsets` is too short (at most ceil(H/2) ceil(W/2) regions an image, and one more).
std::int64_t component_scores(const Views& maps, const Views& masks, const TensorView& scores, const TensorView& offsets,
                              int threads);

// Scores of the pixels of each region of regions[n] (bool [R_n,H,W]) in maps[n], region after region, at `offsets` (the
// running sums of the areas). covered[n] (contiguous bool [H,W]): pixels in any region.
void region_scores(const Views& maps, const Views& regions, const TensorView& offsets, const TensorView& scores,
                   const Views& covered, int threads);

// areas[l] = AU(limits[l]). Negatives are the pixels of maps[n] ([H,W]) that are false in covered[n] (bool [H,W]); all, if
// `covered` is empty. scores, offsets: regions as above; saturations i64 [R]; limits, areas f64 [L].
SweepInfo spro_area(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                    const TensorView& saturations, const TensorView& limits, const TensorView& areas, int threads);

// The curve's points, thresholds descending. The first, at the highest score, is (0, 0); the last has threshold -inf and
// takes in every pixel, those of score -inf too: fpr is 1.
struct Curve {
  SweepInfo info;
  std::vector<double> fpr, overlap, thresholds;
};
Curve spro_curve(const Views& maps, const Views& covered, const TensorView& scores, const TensorView& offsets,
                 const TensorView& saturations, int threads);

// Area under the ROC curve: the chance that a positive scores above a negative, ties half. scores and labels (bool) are
// [n], any strides. Undefined unless 0 < negatives < n.
SweepInfo auroc(const TensorView& scores, const TensorView& labels, double* area, int threads);

// One question about a set whose images are in groups (at most 63): areas[l] = AU(limits[l]) of the regions of the groups in
// the set of bits `groups`, against the pixels of these groups' images that lie in no region. saturations i64 [R] of all
// regions; limits, areas f64 [L]. Areas stay as they are where there is no such region or no such pixel.
struct SweepQuestion {
  std::uint64_t groups = 0;
  TensorView saturations, limits, areas;
};

// The answers, and the AUROC of the pixels in any region against the others, from one ranking: the scores of all regions are
// sorted once, and each pixel outside of them is looked up once. covered[n]: the pixels of maps[n] in any region. Groups of
// images [n] and of regions [R]: contiguous i64, 0 to groups - 1. scores must hold every covered pixel's.
struct SweepFigures {
  std::int64_t nan_image = -1;          // as in SweepInfo; the number of images if only scores of regions have one
  std::vector<std::int64_t> negatives;  // of each group
  std::int64_t positives = 0;
  double auroc = 0;  // undefined without positives or negatives
};
SweepFigures sweep_figures(const Views& maps, const Views& covered, const TensorView& image_groups, int groups,
                           const TensorView& scores, const TensorView& offsets, const TensorView& region_groups,
                           const std::vector<SweepQuestion>& questions, int threads);

// Scores of the pixels of maps[n] ([H,W]) that are false in masks[n] (bool [H,W]): counts[n] (i64) for each image, to scores
// (contiguous f32, or f64 as the maps need). Returns the first image with a NaN anywhere, or -1.
std::int64_t negative_scores(const Views& maps, const Views& masks, const TensorView& counts, const TensorView& scores,
                             int threads);

}  // namespace thfr
