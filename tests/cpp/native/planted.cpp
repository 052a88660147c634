// One fault, by name, in a call of the library: the proof that a build with sanitizers would see such a one.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "tensors.h"
#include "thfr/info.h"
#include "thfr/parallel.h"
#include "thfr/scoring.h"

using namespace thfr;
using thfr_test::Tensor;

int main(int count, char** arguments) {
  const char* wanted = std::getenv("THFR_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, active_simd_level()) != 0) return std::printf("this CPU has no %s\n", wanted), 0;
  const char* fault = count == 2 ? arguments[1] : "";
  Tensor x(DType::f32, {2, 8, 4, 9}), distance(DType::f32, {2, 4, 9});
  x.fill([](std::int64_t) { return 1.0; });
  TensorView features = x.view(), output = distance.view();
  if (std::strcmp(fault, "read") == 0) features.data = features.as<float>() + 1;  // the last row sticks out by a number
  if (std::strcmp(fault, "write") == 0) output.data = output.as<float>() + 1;
  if (std::strcmp(fault, "overflow") == 0) features.stride[0] = std::numeric_limits<std::int64_t>::max();
  if (std::strcmp(fault, "writes") == 0) {  // two threads of parallel_for write one output
    parallel_for(2, 2, 1, [&](std::int64_t, std::int64_t) { cosine_distance(features, features, 1e-8, output, 1); });
  } else if (std::strcmp(fault, "race") == 0) {
    int sum = 0;
    parallel_for(2, 2, 1, [&](std::int64_t, std::int64_t) { ++sum; });
    std::printf("%d\n", sum);
  } else {
    cosine_distance(features, features, 1e-8, output, 1);
  }
  std::printf("%s: nothing found\n", fault);
  return 0;
}
