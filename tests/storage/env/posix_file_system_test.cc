// What only the real file system has: permissions, other processes, limits of the system.
#include "storage/env/posix_file_system.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.h"
#include "tests/support/test_executor.h"

namespace trilog {
namespace {

constexpr int kSkipped = 77;

// Runs `body` in a child process, so that it may change limits and mounts; answers its exit code, or -1 if it died.
int in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int state = 0;
  EXPECT_EQ(::waitpid(child, &state, 0), child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

// In the child: a tmpfs of this size on the folder, seen by nobody else.
bool mount_tmpfs(const std::string& path, const std::string& size) {
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return ::mount("tmpfs", path.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
}

mode_t mode_of(const std::string& path) {
  struct stat info;
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

TEST(PosixFileSystem, OnlyTheOwnerMayTouchWhatItCreates) {
  testing::TempDir folder;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  mode_t old_mask = ::umask(0);
  ASSERT_TRUE(files->create_directories(folder / "a/b").ok());
  ASSERT_TRUE(files->open(folder / "a/file", OpenMode::kCreate).ok());
  ASSERT_TRUE(files->lock(folder / "a/lock").ok());
  ::umask(old_mask);
  EXPECT_EQ(mode_of(folder / "a"), 0700u);
  EXPECT_EQ(mode_of(folder / "a/b"), 0700u);
  EXPECT_EQ(mode_of(folder / "a/file"), 0600u);
  EXPECT_EQ(mode_of(folder / "a/lock"), 0600u);
}

TEST(PosixFileSystem, SyncWaitsOnTheRunnerAndAnswersThroughTheExecutor) {
  class HeldRunner : public SyncRunner {
   public:
    void run(UniqueFunction<void()> work) override { held.push_back(std::move(work)); }
    std::vector<UniqueFunction<void()>> held;
  };
  testing::TempDir folder;
  testing::TestExecutor executor;
  HeldRunner runner;
  std::unique_ptr<FileSystem> files = make_posix_file_system(executor, runner, runner);
  std::unique_ptr<File> file = files->open(folder / "a", OpenMode::kCreate).value();
  bool answered = false;
  file->sync([&](const Status&) { answered = true; });
  ASSERT_EQ(runner.held.size(), 1u);
  EXPECT_EQ(executor.waiting(), 0u);
  std::thread(std::move(runner.held[0])).join();
  EXPECT_EQ(executor.waiting(), 1u);
  EXPECT_FALSE(answered);
  EXPECT_TRUE(executor.run_until([&] { return answered; }));
}

TEST(PosixFileSystem, AClosedFileKeepsItsDescriptorUntilItsSyncIsThrough) {
  class LateRunner : public SyncRunner {
   public:
    void run(UniqueFunction<void()> work) override { held = std::move(work); }
    UniqueFunction<void()> held;
  };
  testing::TempDir folder;
  testing::TestExecutor executor;
  LateRunner runner;
  std::unique_ptr<FileSystem> files = make_posix_file_system(executor, runner, runner);
  std::unique_ptr<File> file = files->open(folder / "a", OpenMode::kCreate).value();
  Status answer(Errc::kFailed, "not yet");
  file->sync([&](Status status) { answer = std::move(status); });
  file.reset();
  runner.held();
  EXPECT_TRUE(executor.run_until([&] { return answer.ok(); }));
}

TEST(PosixFileSystem, TheBlockingOneAnswersASyncAtOnce) {
  testing::TempDir folder;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  std::unique_ptr<File> file = files->open(folder / "a", OpenMode::kCreate).value();
  int answers = 0;
  file->sync([&](const Status& status) { answers += status.ok() ? 1 : 0; });
  files->sync_directory(folder.path(), [&](const Status& status) { answers += status.ok() ? 1 : 0; });
  EXPECT_EQ(answers, 2);
}

TEST(PosixFileSystem, TellsWhichProcessHoldsTheLock) {
  testing::TempDir folder;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  std::unique_ptr<FileLock> lock = files->lock(folder / "lock").value();
  std::string holder = "process " + std::to_string(::getpid());
  int code = in_child([&] {
    Status status = make_blocking_posix_file_system()->lock(folder / "lock").status();
    return status.code() == Errc::kBusy && status.message().find(holder) != std::string_view::npos ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

TEST(PosixFileSystem, ALockDiesWithItsProcess) {
  testing::TempDir folder;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  pid_t child = ::fork();
  if (child == 0) {
    Result<std::unique_ptr<FileLock>> held = files->lock(folder / "lock");
    static_cast<void>(::write(pipe_ends[1], held.ok() ? "y" : "n", 1) == 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(pipe_ends[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_EQ(files->lock(folder / "lock").status().code(), Errc::kBusy);
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(files->lock(folder / "lock").ok());
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST(PosixFileSystem, ANamedPipeIsRefusedInsteadOfBlocking) {
  testing::TempDir folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  EXPECT_EQ(files->open(folder / "pipe", OpenMode::kRead).status().code(), Errc::kInvalidArgument);
  EXPECT_EQ(files->open(folder / "pipe", OpenMode::kReadWrite).status().code(), Errc::kInvalidArgument);
}

TEST(PosixFileSystem, ListFollowsLinksToFoldersAndRemoveTreeDoesNot) {
  testing::TempDir folder;
  testing::TempDir elsewhere;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  std::ofstream(elsewhere / "precious") << "x";
  ASSERT_TRUE(files->create_directories(folder / "tree").ok());
  ASSERT_EQ(::symlink(elsewhere.path().c_str(), (folder / "tree/link").c_str()), 0);
  std::vector<DirectoryEntry> entries = files->list(folder / "tree").value();
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_TRUE(entries[0].is_directory);
  EXPECT_TRUE(files->remove_tree(folder / "tree").ok());
  EXPECT_TRUE(files->exists(elsewhere / "precious"));
}

// The size limit of the process makes the system accept only the first part of a write.
TEST(PosixFileSystem, AShortWriteIsContinuedUntilTheSystemSaysWhy) {
  testing::TempDir folder;
  std::string path = folder / "a";
  int code = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{1050, 1050};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
    std::unique_ptr<File> file = files->open(path, OpenMode::kCreate).value();
    std::string piece(100, 'x');
    std::vector<ByteView> pieces(20, as_bytes(piece));
    Status status = file->write_at(0, pieces);
    if (status.code() != Errc::kTooLarge) return 2;
    return *file->size() == 1050 ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
}

TEST(PosixFileSystem, AFullDiskIsToldApartAndGoesOnAfterSpaceReturned) {
  testing::TempDir folder;
  int code = in_child([&] {
    if (!mount_tmpfs(folder.path(), "256k")) return kSkipped;
    std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
    std::unique_ptr<File> ballast = files->open(folder / "ballast", OpenMode::kCreate).value();
    std::string block(64u << 10, 'x');
    if (!ballast->write_at(0, as_bytes(block)).ok()) return 1;
    std::unique_ptr<File> file = files->open(folder / "log", OpenMode::kCreate).value();
    uint64_t end = 0;
    Status status;
    while (status.ok() && end < (1u << 20)) {
      status = file->write_at(end, as_bytes(block));
      if (status.ok()) end += block.size();
    }
    if (status.code() != Errc::kDiskFull) return 2;
    if (!file->truncate(end).ok()) return 3;
    if (!file->sync_now().ok()) return 4;
    if (!ballast->truncate(0).ok()) return 5;
    if (!file->write_at(end, as_bytes(block)).ok()) return 6;
    return files->space(folder.path())->total_bytes == (256u << 10) ? 0 : 7;
  });
  if (code == kSkipped) GTEST_SKIP() << "may not mount a tmpfs here";
  EXPECT_EQ(code, 0);
}

TEST(PosixFileSystem, AReadOnlyDiskSaysSo) {
  testing::TempDir folder;
  int code = in_child([&] {
    if (!mount_tmpfs(folder.path(), "64k")) return kSkipped;
    if (::mount("none", folder.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) return kSkipped;
    std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
    if (files->open(folder / "a", OpenMode::kCreate).status().code() != Errc::kPermission) return 1;
    if (files->create_directories(folder / "d").code() != Errc::kPermission) return 2;
    return files->lock(folder / "lock").status().code() == Errc::kPermission ? 0 : 3;
  });
  if (code == kSkipped) GTEST_SKIP() << "may not mount a tmpfs here";
  EXPECT_EQ(code, 0);
}

TEST(PosixFileSystem, AFolderCanBeSyncedWithoutAFreeDescriptor) {
  testing::TempDir folder;
  int code = in_child([&] {
    rlimit limit{64, 64};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
    std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
    std::vector<std::unique_ptr<File>> open_files;
    while (true) {
      Result<std::unique_ptr<File>> file =
          files->open(folder / ("f" + std::to_string(open_files.size())), OpenMode::kCreate);
      if (!file.ok()) {
        if (file.status().code() != Errc::kIo) return 2;
        break;
      }
      open_files.push_back(std::move(*file));
      if (open_files.size() > 64) return 3;
    }
    // Twice: the spare one must be there again after its use.
    if (!files->sync_directory_now(folder.path()).ok()) return 4;
    return files->sync_directory_now(folder.path()).ok() ? 0 : 5;
  });
  EXPECT_EQ(code, 0);
}

TEST(PosixFileSystem, ManyThreadsMayReadOneFile) {
  testing::TempDir folder;
  std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
  std::unique_ptr<File> file = files->open(folder / "a", OpenMode::kCreate).value();
  std::string content;
  for (int i = 0; i < 4096; ++i) content += static_cast<char>(i * 7);
  ASSERT_TRUE(file->write_at(0, as_bytes(content)).ok());
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (size_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      for (size_t i = 0; i < 500; ++i) {
        size_t at = (i * 37 + reader * 11) % 4000;
        std::byte buffer[64];
        Result<size_t> got = file->read_at(at, buffer);
        if (!got.ok() || as_text({buffer, *got}) != content.substr(at, 64)) ++wrong;
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace trilog
