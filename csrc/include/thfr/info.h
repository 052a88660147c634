// What was built and what runs.
#pragma once

#include <string>
#include <vector>

namespace thfr {

const char* version();   // of the project, e.g. "0.1.0"
const char* compiler();  // e.g. "GNU 12.2.0"
std::vector<std::string> built_simd_levels();
const char* active_simd_level();  // the widest built level that this CPU runs
bool built_with_cuda();
const char* built_cuda_version();  // "" without CUDA
const char* built_cuda_archs();    // e.g. "80 90 90+PTX"; "" without CUDA

namespace cuda {

struct Device {
  std::string name;
  int major = 0;
  int minor = 0;
  long long memory_bytes = 0;
  bool runnable = false;  // this build has code for it
};

// Make a device the calling thread's current one for this library's runtime, which is not torch's; "" or what is wrong.
const char* set_device(int index);

// The devices the driver shows. Empty without a driver or a device; `problem` then says why.
std::vector<Device> devices(std::string* problem);

}  // namespace cuda
}  // namespace thfr
