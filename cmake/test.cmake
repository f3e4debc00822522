# room_test(<name> LABELS <labels> SOURCES <files> LIBRARIES <targets>): one test program per room, its cases found by
# ctest one by one, so that `ctest -L storage/log` runs one room and `ctest -R name` one test. A case that skips itself
# is shown by ctest as skipped, never as passed. The target `room_tests` builds all of them.
include(GoogleTest)
add_custom_target(room_tests)
function(room_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "LABELS;SOURCES;LIBRARIES" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
  add_dependencies(room_tests ${name})
endfunction()
