// For tests that promise "allocates nothing". Link allocation_count.cc into the test program.
#pragma once

#include <cstddef>

namespace trilog::testing {

// How often this thread has called operator new so far.
size_t allocation_count();

}  // namespace trilog::testing
