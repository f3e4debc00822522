// The real file system over system calls that fail, are interrupted and do half of what they were asked. This program
// brings its own fdatasync, fsync, pread and pwritev, which go to the system unless a test says otherwise: hence a
// program of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/env/posix_file_system.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_executor.h"

namespace {

// What the next calls of one kind do. Counts down; at zero calls go through.
struct Script {
  std::atomic<int> calls{0};
  std::atomic<int> failures{0};  // this many fail with `error`
  std::atomic<int> error{0};
  std::atomic<size_t> at_most{0};  // if not 0: no call moves more bytes than this

  void reset() {
    calls = 0;
    failures = 0;
    at_most = 0;
  }
  void fail(int times, int with) {
    error = with;
    failures = times;
  }
  bool fails() {
    ++calls;
    if (failures.load() == 0) return false;
    --failures;
    errno = error;
    return true;
  }
};
Script data_syncs;
Script folder_syncs;
Script reads;
Script writes;

}  // namespace

extern "C" {

int fdatasync(int fd) {
  if (data_syncs.fails()) return -1;
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

int fsync(int fd) {
  if (folder_syncs.fails()) return -1;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

ssize_t pread(int fd, void* to, size_t size, off_t offset) {
  if (reads.fails()) return -1;
  if (reads.at_most != 0) size = std::min(size, reads.at_most.load());
  return ::syscall(SYS_pread64, fd, to, size, offset);
}

ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  if (writes.fails()) return -1;
  if (writes.at_most == 0) return ::syscall(SYS_pwritev, fd, pieces, count, offset, 0);
  // A short write: the beginning of the first piece.
  return ::syscall(SYS_pwrite64, fd, pieces->iov_base, std::min(pieces->iov_len, writes.at_most.load()), offset);
}

}  // extern "C"

namespace trilog {
namespace {

class PosixFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = files_->open(folder_ / "a", OpenMode::kCreate).value();
    for (Script* script : {&data_syncs, &folder_syncs, &reads, &writes}) script->reset();
  }
  void TearDown() override {
    for (Script* script : {&data_syncs, &folder_syncs, &reads, &writes}) script->reset();
  }
  Status sync_later(File& file) {
    Status answer;
    int answers = 0;
    file.sync([&](Status status) {
      answer = std::move(status);
      ++answers;
    });
    EXPECT_TRUE(executor_.run_until([&] { return answers > 0; }));
    return answer;
  }

  testing::TempDir folder_;
  testing::TestExecutor executor_;
  testing::ThreadSyncRunner runner_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system(executor_, runner_, runner_);
  std::unique_ptr<File> file_;
};

TEST_F(PosixFaultTest, AFailedSyncIsNeverRetried) {
  data_syncs.fail(1, EIO);
  Status status = sync_later(*file_);
  EXPECT_EQ(status.code(), Errc::kIo);
  EXPECT_NE(status.message().find(folder_ / "a"), std::string_view::npos) << status.to_string();
  // The system would answer with success now, since it reports a lost write only once (rule S3).
  EXPECT_EQ(sync_later(*file_).code(), Errc::kFailed);
  EXPECT_EQ(file_->sync_now().code(), Errc::kFailed);
  EXPECT_EQ(data_syncs.calls, 1);
}

TEST_F(PosixFaultTest, AFailedBlockingSyncIsRememberedToo) {
  data_syncs.fail(1, ENOSPC);
  EXPECT_EQ(file_->sync_now().code(), Errc::kDiskFull);
  EXPECT_EQ(sync_later(*file_).code(), Errc::kFailed);
  EXPECT_EQ(data_syncs.calls, 1);
}

TEST_F(PosixFaultTest, AnotherFileIsNotAffectedByAFailedSync) {
  data_syncs.fail(1, EIO);
  EXPECT_FALSE(file_->sync_now().ok());
  EXPECT_TRUE(files_->open(folder_ / "b", OpenMode::kCreate).value()->sync_now().ok());
}

TEST_F(PosixFaultTest, AFailedFolderSyncIsTold) {
  folder_syncs.fail(2, EIO);
  EXPECT_EQ(files_->sync_directory_now(folder_.path()).code(), Errc::kIo);
  Status answer;
  bool answered = false;
  files_->sync_directory(folder_.path(), [&](Status status) {
    answer = std::move(status);
    answered = true;
  });
  EXPECT_TRUE(executor_.run_until([&] { return answered; }));
  EXPECT_EQ(answer.code(), Errc::kIo);
}

TEST_F(PosixFaultTest, InterruptedCallsAreMadeAgain) {
  for (Script* script : {&data_syncs, &folder_syncs, &reads, &writes}) script->fail(3, EINTR);
  EXPECT_TRUE(file_->write_at(0, as_bytes("0123456789")).ok());
  EXPECT_TRUE(file_->sync_now().ok());
  EXPECT_TRUE(files_->sync_directory_now(folder_.path()).ok());
  Bytes back(10);
  EXPECT_EQ(file_->read_at(0, back.mutable_view()).value(), 10u);
  EXPECT_EQ(as_text(back), "0123456789");
  for (Script* script : {&data_syncs, &folder_syncs, &reads, &writes}) EXPECT_EQ(script->calls, 4);
}

TEST_F(PosixFaultTest, ShortWritesAndReadsAreContinuedAtTheRightByte) {
  for (size_t at_most : {1, 2, 3, 7, 100}) {
    writes.at_most = at_most;
    reads.at_most = at_most;
    std::vector<ByteView> pieces = {as_bytes("first "), as_bytes(""), as_bytes("second "), as_bytes("third")};
    ASSERT_TRUE(file_->write_at(5, pieces).ok());
    Bytes back(100);
    EXPECT_EQ(file_->read_at(5, back.mutable_view()).value(), 18u);
    EXPECT_EQ(as_text(back).substr(0, 18), "first second third") << at_most;
    ASSERT_TRUE(file_->truncate(0).ok());
  }
}

TEST_F(PosixFaultTest, AWriteThatFailsHalfwayLeavesAPrefix) {
  writes.at_most = 4;
  ASSERT_TRUE(file_->write_at(0, as_bytes("0123456789")).ok());
  ASSERT_TRUE(file_->truncate(0).ok());
  ASSERT_TRUE(file_->write_at(0, as_bytes("abcd")).ok());
  writes.fail(1, ENOSPC);
  EXPECT_EQ(file_->write_at(4, as_bytes("efgh")).code(), Errc::kDiskFull);
  EXPECT_EQ(file_->size().value(), 4u);
  EXPECT_TRUE(file_->write_at(4, as_bytes("efgh")).ok()) << "a full disk is no reason to give the file up";
}

TEST_F(PosixFaultTest, AReadErrorIsTold) {
  ASSERT_TRUE(file_->write_at(0, as_bytes("0123456789")).ok());
  reads.fail(1, EIO);
  Bytes back(10);
  EXPECT_EQ(file_->read_at(0, back.mutable_view()).status().code(), Errc::kIo);
  EXPECT_TRUE(file_->read_at(0, back.mutable_view()).ok());
  reads.fail(1, EIO);
  EXPECT_EQ(files_->read_file(folder_ / "a").status().code(), Errc::kIo);
}

TEST_F(PosixFaultTest, ReplacingAFileStopsAtAFailedSync) {
  ASSERT_TRUE(files_->replace_file(folder_ / "state", as_bytes("old")).ok());
  data_syncs.fail(1, EIO);
  EXPECT_EQ(files_->replace_file(folder_ / "state", as_bytes("new")).code(), Errc::kIo);
  EXPECT_EQ(as_text(files_->read_file(folder_ / "state").value()), "old");
}

}  // namespace
}  // namespace trilog
