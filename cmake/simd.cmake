# Function multiversioning by translation unit: a source is compiled once for each instruction set with
# THFR_ISA set to a namespace of that name; csrc/common/simd.h picks at run time. (The compiler's own target_clones
# does not reach the bodies that OpenMP outlines, nor templates.)
#
# Such a source must not use the standard library's templates: an inline function compiled here with AVX-512 could
# be the copy that the linker keeps for everyone.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  set(THFR_ISAS baseline avx2 avx512)
else()
  set(THFR_ISAS baseline)
endif()
set(THFR_ISA_FLAGS_baseline "")
set(THFR_ISA_FLAGS_avx2 -march=x86-64-v3)
set(THFR_ISA_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512)

function(thfr_add_simd_sources target)
  foreach(isa IN LISTS THFR_ISAS)
    set(objects ${target}_${isa})
    if(NOT TARGET ${objects})
      add_library(${objects} OBJECT)
      target_include_directories(${objects} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/csrc/include ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
      target_compile_definitions(${objects} PRIVATE THFR_ISA=${isa})
      target_compile_options(${objects} PRIVATE -O3 -fno-math-errno -fno-trapping-math -Wall -Wextra
                             ${THFR_ISA_FLAGS_${isa}} $<$<BOOL:${THFR_WERROR}>:-Werror> ${THFR_SANITIZE_FLAGS})
      target_link_libraries(${objects} PRIVATE OpenMP::OpenMP_CXX)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
    endif()
    target_sources(${objects} PRIVATE ${ARGN})
  endforeach()
  if("avx512" IN_LIST THFR_ISAS)
    target_compile_definitions(${target} PRIVATE THFR_X86_SIMD)
  endif()
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
endfunction()
