#include "broker/runtime/program_pages.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace trilog {
namespace {

long resident_pages() {
  long total = 0;
  long resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

TEST(ProgramPages, GivesBackWhatIsNotUsedAndGoesOnWorking) {
  const long before = resident_pages();
  ProgramPages pages;
  pages.give_back_if_quiet();
  const long after = resident_pages();
  EXPECT_LT(after, before);
  pages.give_back_if_quiet();  // nothing much came back since
  EXPECT_LT(resident_pages(), before);
}

}  // namespace
}  // namespace trilog
