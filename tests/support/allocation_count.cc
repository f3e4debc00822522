#include "tests/support/allocation_count.h"

#include <cstdlib>
#include <new>

// In a file of its own, because a compiler that sees both these and their callers takes the pair for a mismatch.
static thread_local size_t calls = 0;

void* operator new(size_t size) {
  ++calls;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace trilog::testing {

size_t allocation_count() { return calls; }

}  // namespace trilog::testing
