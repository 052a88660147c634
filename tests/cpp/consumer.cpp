#include <cmath>
#include <cstdio>

#include "thfr/info.h"
#include "thfr/scoring.h"

// Two channels at one row of two locations: equal vectors (distance 0), then orthogonal ones (distance 1).
int main() {
  float features[] = {3, 1, 4, 0}, restored[] = {3, 0, 4, 1}, distance[] = {-1, -1};
  const thfr::TensorView x{features, thfr::DType::f32, 4, {1, 2, 1, 2}, {4, 2, 2, 1}};
  const thfr::TensorView y{restored, thfr::DType::f32, 4, {1, 2, 1, 2}, {4, 2, 2, 1}};
  const thfr::TensorView d{distance, thfr::DType::f32, 3, {1, 1, 2, 0}, {2, 2, 1, 0}};
  thfr::cosine_distance(x, y, 1e-8, d, 2);
  std::printf("thfr %s, %s: %g %g\n", thfr::version(), thfr::active_simd_level(), distance[0], distance[1]);
  return std::abs(distance[0]) < 1e-6 && std::abs(distance[1] - 1) < 1e-6 ? 0 : 1;
}
