// A folder of a test's own, removed with everything in it at the end.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "storage/base/check.h"
#include "storage/env/env.h"

namespace trilog::testing {

class TempDir {
 public:
  enum class Place {
    kDefault,  // where the system keeps temporary files
    kMemory,   // in memory where there is such a file system: for tests that sync much and do not care whether it helps
  };
  explicit TempDir(Place place = Place::kDefault) {
    std::filesystem::path base = std::filesystem::temp_directory_path();
    if (place == Place::kMemory && ::access("/dev/shm", W_OK) == 0) base = "/dev/shm";
    path_ = (base / "trilog-test-XXXXXX").string();
    CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // "<folder>/<name>"
  std::string operator/(std::string_view name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

}  // namespace trilog::testing
