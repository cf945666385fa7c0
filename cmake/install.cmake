# Installation: the core is the export set `evenkeel`, needed by everybody; the libtorch bridge is a
# set of its own, so that a consumer of the core never looks for libtorch.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(evenkeel_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/evenkeel)

install(TARGETS evenkeel EXPORT evenkeel)
install(DIRECTORY include/evenkeel DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(EXPORT evenkeel NAMESPACE evenkeel:: FILE evenkeelTargets.cmake
        DESTINATION ${evenkeel_package_dir})

if(TARGET evenkeel_torch)
  install(TARGETS evenkeel_torch EXPORT evenkeelTorch)
  install(DIRECTORY torch/include/evenkeel DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT evenkeelTorch NAMESPACE evenkeel:: FILE evenkeelTorchTargets.cmake
          DESTINATION ${evenkeel_package_dir})
endif()

if(TARGET evenkeel_program)
  install(TARGETS evenkeel_program)
endif()

configure_package_config_file(cmake/evenkeelConfig.cmake.in
  ${PROJECT_BINARY_DIR}/evenkeelConfig.cmake INSTALL_DESTINATION ${evenkeel_package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/evenkeelConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/evenkeelConfig.cmake
              ${PROJECT_BINARY_DIR}/evenkeelConfigVersion.cmake
        DESTINATION ${evenkeel_package_dir})

# evenkeel.pc finds its prefix from its own place, so the installed tree may be moved. A static
# evenkeel hands its dependencies to every consumer; a shared one has them inside.
file(RELATIVE_PATH evenkeel_prefix_from_pc
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
get_target_property(evenkeel_type evenkeel TYPE)
if(evenkeel_type STREQUAL SHARED_LIBRARY)
  set(evenkeel_pc_dependencies "Requires.private: libhwy")
else()
  set(evenkeel_pc_dependencies "Requires: libhwy")
  set(evenkeel_pc_static_libs " -fopenmp")
endif()
configure_file(cmake/evenkeel.pc.in ${PROJECT_BINARY_DIR}/evenkeel.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/evenkeel.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
