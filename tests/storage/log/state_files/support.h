// What the tests of small files share: a folder of their own, an Env with a clock and a free-space figure that the test
// sets, and the bad cases that every checksummed file must survive.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/env/posix_file_system.h"
#include "storage/log/checkpoint_file.h"

namespace trilog::testing {

// Real files that call back at once, with a free space and failures that the test chooses.
class TestFiles : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) override { return real_->open(path, mode); }
  bool exists(std::string_view path) override { return real_->exists(path); }
  Result<std::vector<DirectoryEntry>> list(std::string_view path) override { return real_->list(path); }
  Status create_directories(std::string_view path) override { return real_->create_directories(path); }
  Status rename(std::string_view from, std::string_view to) override {
    return rename_status.ok() ? real_->rename(from, to) : rename_status;
  }
  Status remove_file(std::string_view path) override { return real_->remove_file(path); }
  Status remove_tree(std::string_view path) override { return real_->remove_tree(path); }
  void sync_directory(std::string_view path, UniqueFunction<void(Status)> done) override {
    real_->sync_directory(path, std::move(done));
  }
  Status sync_directory_now(std::string_view path) override {
    ++directory_syncs;
    return real_->sync_directory_now(path);
  }
  Result<std::unique_ptr<FileLock>> lock(std::string_view path) override { return real_->lock(path); }
  Result<Space> space(std::string_view) override {
    ++space_asked;
    if (!space_status.ok()) return space_status;
    return free_space;
  }

  Space free_space{100u << 30, 50u << 30};
  Status space_status;
  Status rename_status;
  int space_asked = 0;
  int directory_syncs = 0;

 private:
  std::unique_ptr<FileSystem> real_ = make_blocking_posix_file_system();
};

class TestClock : public Clock {
 public:
  int64_t monotonic_ns() const override { return now_ns; }
  int64_t wall_ms() const override { return now_ns / 1'000'000; }
  int64_t now_ns = 1'000'000'000;
};

class TestEnv : public Env {
 public:
  TestClock& clock() override { return clock_; }
  Executor& executor() override { UNREACHABLE("these tests post nothing"); }
  TestFiles& files() override { return files_; }
  Random& random() override { UNREACHABLE("these tests draw nothing"); }
  const Logger& log() const override { return log_; }
  void fatal(const Status& why) override { check_failed(__FILE__, __LINE__, "fatal", why.to_string()); }

 private:
  TestClock clock_;
  TestFiles files_;
  Logger log_;
};

// A fixture with a folder that is gone afterwards.
class InFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "trilog-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { EXPECT_TRUE(files().remove_tree(folder_).ok()); }

  TestFiles& files() { return env_.files(); }
  std::string path(std::string_view name) const { return join_path(folder_, name); }
  Bytes content(std::string_view name) { return files().read_file(path(name)).value(); }
  void put(std::string_view name, ByteView bytes) { ASSERT_TRUE(files().replace_file(path(name), bytes).ok()); }

  TestEnv env_;
  std::string folder_;
};

using Decode = std::function<Errc(ByteView)>;

// Every way a small file can be bad, except for content that a checksum would vouch for: each must be kCorruption, and
// a newer version kUnsupported.
inline void expect_every_bad_case_is_found(const Bytes& good, const Decode& decode) {
  ASSERT_EQ(decode(good), Errc::kOk);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(decode(good.view().first(size)), Errc::kCorruption) << "cut to " << size;
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes flipped = Bytes::copy_of(good.view());
      flipped.data()[at] ^= static_cast<std::byte>(1 << bit);
      EXPECT_EQ(decode(flipped), Errc::kCorruption) << "bit " << bit << " of byte " << at;
    }
  }
  Bytes longer = Bytes::copy_of(good.view());
  longer.append(as_bytes("x"));
  EXPECT_EQ(decode(longer), Errc::kCorruption) << "one byte too many";
  EXPECT_EQ(decode(as_bytes("PNG\r\n and so on, a file of somebody else")), Errc::kCorruption);
  EXPECT_EQ(decode(Bytes::copy_of(std::string(good.size(), '\0'))), Errc::kCorruption) << "all zero";
  ByteView payload = unframe_checkpoint(good, UINT32_MAX).value();
  EXPECT_EQ(decode(frame_checkpoint(2, payload)), Errc::kUnsupported);
}

// `payload` with a frame that is right, so that only the decoder itself can object.
inline void expect_payloads_are_checked(const Bytes& good, const Decode& decode) {
  ByteView payload = unframe_checkpoint(good, UINT32_MAX).value();
  for (size_t size = 0; size < payload.size(); ++size) {
    Errc answer = decode(frame_checkpoint(1, payload.first(size)));
    EXPECT_EQ(answer, Errc::kCorruption) << "payload cut to " << size;
  }
  // No flipped bit may crash a decoder; some give another valid value.
  for (size_t at = 0; at < payload.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes flipped = Bytes::copy_of(payload);
      flipped.data()[at] ^= static_cast<std::byte>(1 << bit);
      Errc answer = decode(frame_checkpoint(1, flipped));
      EXPECT_TRUE(answer == Errc::kOk || answer == Errc::kCorruption) << errc_name(answer);
    }
  }
}

}  // namespace trilog::testing
