// The pixels that a sweep has to look up. Compiled once for each instruction set (cmake/simd.cmake): no standard-library
// templates here.
#include "sweep/cpu/simd.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace thfr {
namespace THFR_ISA {
namespace {

using std::int64_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// The key of a score, as keys.h makes it: no template of that file may be compiled here.
inline uint32_t key_of(const float* score) {
  uint32_t bits;
  __builtin_memcpy(&bits, score, sizeof bits);
  if (bits == 0x80000000u) return bits;
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

int64_t filter_each(const float* scores, const uint8_t* marks, bool wanted, int64_t n, uint32_t low, uint32_t range,
                    uint32_t* inside, PixelTally* tally) {
  int64_t kept = 0;
  uint32_t total = 0, above = 0, nan = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = key_of(scores + i), here = marks == nullptr || (marks[i] != 0) == wanted;
    total += here;
    above += here & static_cast<uint32_t>(key > low + range);
    nan |= here & static_cast<uint32_t>(scores[i] != scores[i]);
    inside[kept] = key;
    kept += here & static_cast<uint32_t>(key - low <= range);
  }
  tally->total += total;
  tally->above += above;
  tally->nan |= nan != 0;
  return kept;
}

#ifdef __AVX2__
// For each set of lanes, where these are: the permutation that brings them to the front.
struct Fronts {
  uint64_t lanes[256];

  constexpr Fronts() : lanes() {
    for (unsigned set = 0; set < 256; ++set) {
      uint64_t packed = 0;
      int count = 0;
      for (unsigned lane = 0; lane < 8; ++lane) {
        if ((set >> lane & 1u) != 0) packed |= static_cast<uint64_t>(lane) << (8 * count++);
      }
      lanes[set] = packed;
    }
  }
};
constexpr Fronts fronts;

inline unsigned lanes_of(__m256i mask) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(mask))); }

int64_t filter(const float* scores, const uint8_t* marks, bool wanted, int64_t n, uint32_t low, uint32_t range, uint32_t* inside,
               PixelTally* tally) {
  const __m256i sign = _mm256_set1_epi32(INT32_MIN), magnitude = _mm256_set1_epi32(INT32_MAX);
  const __m256i infinity = _mm256_set1_epi32(0x7f800000), zero = _mm256_setzero_si256();
  const __m256i lows = _mm256_set1_epi32(static_cast<int>(low)), ranges = _mm256_set1_epi32(static_cast<int>(range));
  const __m256i high = _mm256_set1_epi32(static_cast<int>((low + range) ^ 0x80000000u));
  const __m256i flip = wanted ? zero : _mm256_set1_epi32(-1);
  __m256i nan = zero, above = zero, total = zero;
  int64_t i = 0, kept = 0;
  for (; i + 8 <= n; i += 8) {
    __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + i));
    __m256i here = _mm256_set1_epi32(-1);
    if (marks != nullptr) {
      const __m256i mark = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(marks + i)));
      here = _mm256_xor_si256(_mm256_cmpgt_epi32(mark, zero), flip);
    }
    bits = _mm256_andnot_si256(_mm256_cmpeq_epi32(bits, sign), bits);  // -0 is 0
    // As key_of, for signed comparison and for unsigned.
    const __m256i order = _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi32(bits, 31), magnitude));
    const __m256i key = _mm256_xor_si256(order, sign), offset = _mm256_sub_epi32(key, lows);
    nan = _mm256_or_si256(nan, _mm256_and_si256(here, _mm256_cmpgt_epi32(_mm256_and_si256(bits, magnitude), infinity)));
    total = _mm256_sub_epi32(total, here);
    above = _mm256_sub_epi32(above, _mm256_and_si256(here, _mm256_cmpgt_epi32(order, high)));
    const __m256i within = _mm256_cmpeq_epi32(_mm256_min_epu32(offset, ranges), offset);
    const unsigned set = lanes_of(_mm256_and_si256(within, here));
    const __m256i front = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(fronts.lanes[set])));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(inside + kept), _mm256_permutevar8x32_epi32(key, front));
    kept += __builtin_popcount(set);
  }
  uint32_t totals[8], aboves[8];
  __builtin_memcpy(totals, &total, sizeof totals);
  __builtin_memcpy(aboves, &above, sizeof aboves);
  for (int lane = 0; lane < 8; ++lane) tally->total += totals[lane], tally->above += aboves[lane];
  tally->nan |= lanes_of(nan) != 0;
  const uint8_t* rest = marks == nullptr ? nullptr : marks + i;
  return kept + filter_each(scores + i, rest, wanted, n - i, low, range, inside + kept, tally);
}
#else
constexpr auto filter = filter_each;
#endif

}  // namespace

const SweepKernels& sweep_kernels() {
  static constexpr SweepKernels table{filter};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
