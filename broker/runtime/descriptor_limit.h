// How many files and connections the process may have open at once.
#pragma once

#include <cstddef>

namespace trilog {

// More than a node needs; some systems allow a billion, and then whoever loops over all numbers takes minutes.
inline constexpr size_t kDescriptorsMax = 65'536;

// Raises the soft limit of this process to the hard one, but not over kDescriptorsMax; what it is afterwards. The usual
// soft limit of 1,024 is for programs that use select().
size_t raise_descriptor_limit();

}  // namespace trilog
