// CHECK stops the process on a bug of ours, with the values printed; DCHECK only in debug builds.
// Never used for bad input or a failing disk: those are a Status.
#pragma once

#include <sstream>
#include <string>

namespace trilog {

// Prints "file:line: check failed: expression (a vs b)" to standard error and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* expression, const std::string& values);

namespace internal {
template <typename A, typename B>
[[noreturn]] void check_op_failed(const char* file, int line, const char* expression, const A& a, const B& b) {
  std::ostringstream out;
  out << a << " vs " << b;
  check_failed(file, line, expression, out.str());
}
}  // namespace internal

}  // namespace trilog

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) [[unlikely]] {                              \
      ::trilog::check_failed(__FILE__, __LINE__, #condition, {}); \
    }                                                             \
  } while (false)

#define TRILOG_CHECK_OP(a, op, b)                                                                     \
  do {                                                                                                \
    const auto& check_a_ = (a);                                                                       \
    const auto& check_b_ = (b);                                                                       \
    if (!(check_a_ op check_b_)) [[unlikely]] {                                                       \
      ::trilog::internal::check_op_failed(__FILE__, __LINE__, #a " " #op " " #b, check_a_, check_b_); \
    }                                                                                                 \
  } while (false)

#define CHECK_EQ(a, b) TRILOG_CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) TRILOG_CHECK_OP(a, !=, b)
#define CHECK_LE(a, b) TRILOG_CHECK_OP(a, <=, b)
#define CHECK_LT(a, b) TRILOG_CHECK_OP(a, <, b)
#define CHECK_GE(a, b) TRILOG_CHECK_OP(a, >=, b)
#define CHECK_GT(a, b) TRILOG_CHECK_OP(a, >, b)

#define UNREACHABLE(text) ::trilog::check_failed(__FILE__, __LINE__, "unreachable: " text, {})

#ifdef NDEBUG
#define DCHECK(condition) \
  do {                    \
  } while (false)
#else
#define DCHECK(condition) CHECK(condition)
#endif
