#include "broker/runtime/descriptor_limit.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace trilog {
namespace {

// In a child: limits of the test program stay as they are.
size_t raised_from(rlim_t soft, rlim_t hard) {
  pid_t child = ::fork();
  if (child == 0) {
    rlimit limit{soft, hard};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::_exit(1);
    size_t raised = raise_descriptor_limit();
    ::_exit(::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == raised && raised == hard ? 0 : 2);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? hard : 0;
}

TEST(DescriptorLimit, IsRaisedToWhatTheSystemAllowsAndNeverLowered) {
  EXPECT_EQ(raised_from(100, 300), 300u);
  EXPECT_EQ(raised_from(300, 300), 300u);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  size_t raised = raise_descriptor_limit();
  EXPECT_GE(raised, before.rlim_cur);
  EXPECT_LE(raised, std::max<rlim_t>(before.rlim_cur, kDescriptorsMax));
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace trilog
