# Install of the C++ library: headers, archive and the package file for find_package(thfr).
include(CMakePackageConfigHelpers)
install(TARGETS thfr EXPORT thfrTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY csrc/include/thfr DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT thfrTargets NAMESPACE thfr:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/thfr)
configure_package_config_file(cmake/thfrConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/thfrConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/thfr)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/thfrConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/thfrConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/thfrConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/thfr)
