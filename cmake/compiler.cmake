# Flags, faster tools where they are found, sanitizers.
# Aggregates name the fields they set; the rest have defaults.
add_compile_options(-Wall -Wextra -Wshadow -Werror -Wno-missing-field-initializers -fstack-protector-strong)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # With optimisation GCC 12 finds these inside std::string, std::optional and inlined memcpy where they are not (its bugs
  # 105651, 105562, 98465). The sanitizers and clang look for the real ones.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict> -Wno-maybe-uninitialized -Wno-stringop-overflow
                      -Wno-stringop-overread -Wno-array-bounds)
endif()
add_compile_definitions(_GLIBCXX_ASSERTIONS)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG -g1")  # as the libraries we link were built
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG -g1")

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options(-fuse-ld=mold)
endif()

if(SANITIZE)
  # Without vptr: it opens a pipe to look at an object, and calls every object damaged where descriptors have run out.
  add_compile_options(-fsanitize=${SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -fno-sanitize=vptr)
  add_link_options(-fsanitize=${SANITIZE})
  if(SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Protobuf's headers lay messages out differently when they know of the sanitizer, the distribution's library does not.
    add_compile_options(-Wno-tsan -U__SANITIZE_THREAD__)
  endif()
  add_library(sanitizer_defaults OBJECT ${CMAKE_SOURCE_DIR}/cmake/sanitizer_defaults.cc)
  link_libraries($<TARGET_OBJECTS:sanitizer_defaults>)
endif()
