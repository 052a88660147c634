// What a C++ test needs: TEST registers one, CHECK counts a failure and says where.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registered {
  Registered(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

struct Tally {
  long long checks = 0, failures = 0;
  std::string where;  // what the test is at
};

inline Tally& tally() {
  static Tally counts;
  return counts;
}

inline void expect(bool held, const char* condition, const char* file, int line) {
  Tally& counts = tally();
  ++counts.checks;
  if (held) return;
  if (++counts.failures <= 20) std::printf("%s:%d: %s: expected %s\n", file, line, counts.where.c_str(), condition);
}

}  // namespace check

#define CHECK(condition) ::check::expect(static_cast<bool>(condition), #condition, __FILE__, __LINE__)

#define TEST(name)                                                 \
  static void name();                                              \
  static const ::check::Registered name##_registered{#name, name}; \
  static void name()
