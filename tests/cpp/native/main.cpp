// Runs all tests of the program. Exit code 1: a check has failed; 77: this CPU has not the instruction set of THFR_SIMD.
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "thfr/info.h"

int main() {
  const char* wanted = std::getenv("THFR_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, thfr::active_simd_level()) != 0) {
    std::printf("skipped: this CPU has no %s\n", wanted);
    return 77;
  }
  const check::Tally& tally = check::tally();
  for (const check::Test& test : check::tests()) {
    const long long checks = tally.checks, failures = tally.failures;
    check::tally().where = test.name;
    test.run();
    std::printf("%-40s %8lld checks, %lld failed\n", test.name, tally.checks - checks, tally.failures - failures);
    if (tally.checks == checks) return std::printf("%s has checked nothing\n", test.name), 1;
  }
  std::printf("%s: %lld checks, %lld failed\n", thfr::active_simd_level(), tally.checks, tally.failures);
  return tally.failures == 0 ? 0 : 1;
}
