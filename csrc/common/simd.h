// Run-time choice between the copies of a kernel table that cmake/simd.cmake has compiled.
#pragma once

namespace thfr {

enum class Simd { baseline, avx2, avx512 };

// The widest level that is built and that this CPU and its operating system run. THFR_SIMD=baseline|avx2|avx512 lowers it.
Simd active_simd();

}  // namespace thfr

// Declares thfr::<isa>::FUNCTION() for each level and defines thfr::FUNCTION(), which returns the active one's table.
#ifdef THFR_X86_SIMD
#define THFR_DEFINE_SIMD_TABLE(TABLE, FUNCTION)     \
  namespace baseline {                              \
  const TABLE& FUNCTION();                          \
  }                                                 \
  namespace avx2 {                                  \
  const TABLE& FUNCTION();                          \
  }                                                 \
  namespace avx512 {                                \
  const TABLE& FUNCTION();                          \
  }                                                 \
  static const TABLE& FUNCTION() {                  \
    switch (active_simd()) {                        \
      case Simd::avx512: return avx512::FUNCTION(); \
      case Simd::avx2: return avx2::FUNCTION();     \
      default: return baseline::FUNCTION();         \
    }                                               \
  }
#else
#define THFR_DEFINE_SIMD_TABLE(TABLE, FUNCTION) \
  namespace baseline {                          \
  const TABLE& FUNCTION();                      \
  }                                             \
  static const TABLE& FUNCTION() { return baseline::FUNCTION(); }
#endif
