#include "thfr/info.h"

#include <cstdlib>
#include <cstring>

#include "common/simd.h"

#define THFR_STRING_(x) #x
#define THFR_STRING(x) THFR_STRING_(x)

namespace thfr {

static Simd widest_simd() {
#ifdef THFR_X86_SIMD
  if (__builtin_cpu_supports("x86-64-v4")) return Simd::avx512;
  if (__builtin_cpu_supports("x86-64-v3")) return Simd::avx2;
#endif
  return Simd::baseline;
}

static Simd choose_simd() {
  const Simd widest = widest_simd();
  const char* wanted = std::getenv("THFR_SIMD");
  if (wanted == nullptr) return widest;
  Simd level = widest;
  if (std::strcmp(wanted, "baseline") == 0) level = Simd::baseline;
  if (std::strcmp(wanted, "avx2") == 0) level = Simd::avx2;
  return level < widest ? level : widest;
}

Simd active_simd() {
  static const Simd level = choose_simd();
  return level;
}

const char* version() { return THFR_VERSION; }

const char* compiler() {
#if defined(__clang__)
  return "Clang " THFR_STRING(__clang_major__) "." THFR_STRING(__clang_minor__) "." THFR_STRING(__clang_patchlevel__);
#elif defined(__GNUC__)
  return "GNU " THFR_STRING(__GNUC__) "." THFR_STRING(__GNUC_MINOR__) "." THFR_STRING(__GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

static const char* simd_name(Simd level) {
  switch (level) {
    case Simd::avx512: return "avx512";
    case Simd::avx2: return "avx2";
    default: return "baseline";
  }
}

std::vector<std::string> built_simd_levels() {
#ifdef THFR_X86_SIMD
  return {"baseline", "avx2", "avx512"};
#else
  return {"baseline"};
#endif
}

const char* active_simd_level() { return simd_name(active_simd()); }

#ifdef THFR_HAS_CUDA
bool built_with_cuda() { return true; }
const char* built_cuda_version() { return THFR_CUDA_VERSION; }
const char* built_cuda_archs() { return THFR_CUDA_ARCHS; }
#else
bool built_with_cuda() { return false; }
const char* built_cuda_version() { return ""; }
const char* built_cuda_archs() { return ""; }

namespace cuda {
std::vector<Device> devices(std::string* problem) {
  *problem = "built without CUDA";
  return {};
}
}  // namespace cuda
#endif

}  // namespace thfr
