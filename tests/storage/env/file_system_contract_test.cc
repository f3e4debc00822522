// What env.h promises about files, checked on the real and on the simulated file system alike: what the simulator's
// tests prove is worth nothing if its disk behaves differently from a real one.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "storage/env/env.h"
#include "storage/env/posix_file_system.h"
#include "tests/sim/sim_env.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_executor.h"

namespace trilog {
namespace {

// A file system, a folder in it that is empty, and a way to let callbacks run.
class Host {
 public:
  virtual ~Host() = default;
  virtual FileSystem& files() = 0;
  virtual std::string root() = 0;
  virtual bool run_until(const std::function<bool()>& predicate) = 0;
};

class RealHost : public Host {
 public:
  FileSystem& files() override { return *files_; }
  std::string root() override { return folder_.path(); }
  bool run_until(const std::function<bool()>& predicate) override { return executor_.run_until(predicate); }

 private:
  testing::TempDir folder_;
  testing::TestExecutor executor_;
  testing::ThreadSyncRunner runner_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system(executor_, runner_, runner_);
};

class SimHost : public Host {
 public:
  SimHost() { EXPECT_TRUE(files().create_directories(root()).ok()); }
  FileSystem& files() override { return env_->files(); }
  std::string root() override { return "/tmp/test"; }
  bool run_until(const std::function<bool()>& predicate) override { return world_.run_until(predicate); }

 private:
  sim::World world_{1};
  sim::SimDisk disk_{world_.scheduler()};
  std::unique_ptr<sim::SimEnv> env_ = world_.make_env(disk_);
};

std::unique_ptr<Host> make_host(std::string_view kind) {
  if (kind == "Real") return std::make_unique<RealHost>();
  return std::make_unique<SimHost>();
}

class FileSystemContract : public ::testing::TestWithParam<const char*> {
 protected:
  FileSystem& files() { return host_->files(); }
  std::string path(std::string_view name) { return join_path(host_->root(), name); }
  std::unique_ptr<File> open(std::string_view name, OpenMode mode = OpenMode::kCreate) {
    Result<std::unique_ptr<File>> file = files().open(path(name), mode);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    return std::move(file).value();
  }
  void write(std::string_view name, std::string_view content) {
    ASSERT_TRUE(open(name)->write_at(0, as_bytes(content)).ok());
  }
  std::string read(std::string_view name) {
    Result<Bytes> content = files().read_file(path(name));
    EXPECT_TRUE(content.ok()) << content.status().to_string();
    return content.ok() ? std::string(as_text(*content)) : std::string();
  }
  Errc open_error(std::string_view name, OpenMode mode) { return files().open(path(name), mode).status().code(); }
  std::vector<std::string> names(std::string_view folder) {
    Result<std::vector<DirectoryEntry>> entries = files().list(path(folder));
    EXPECT_TRUE(entries.ok()) << entries.status().to_string();
    std::vector<std::string> result;
    for (const DirectoryEntry& entry : *entries) result.push_back(entry.name + (entry.is_directory ? "/" : ""));
    return result;
  }

  std::unique_ptr<Host> host_ = make_host(GetParam());
};

using Names = std::vector<std::string>;

TEST_P(FileSystemContract, ReadsBackWhatWasWritten) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes("hello world")).ok());
  ASSERT_TRUE(file->write_at(6, as_bytes("there")).ok());
  EXPECT_EQ(read("a"), "hello there");
  EXPECT_EQ(*file->size(), 11u);
}

TEST_P(FileSystemContract, WritesManyPiecesOneAfterAnother) {
  std::vector<std::string> texts;
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    texts.push_back(i % 5 == 0 ? "" : std::string(static_cast<size_t>(i), static_cast<char>('a' + i % 26)));
    expected += texts.back();
  }
  std::vector<ByteView> pieces;
  pieces.reserve(texts.size());
  for (const std::string& text : texts) pieces.push_back(as_bytes(text));
  ASSERT_TRUE(open("a")->write_at(3, pieces).ok());
  EXPECT_EQ(read("a"), std::string(3, '\0') + expected);
}

TEST_P(FileSystemContract, WritingNothingChangesNothing) {
  std::unique_ptr<File> file = open("a");
  EXPECT_TRUE(file->write_at(100, std::span<const ByteView>()).ok());
  EXPECT_TRUE(file->write_at(100, ByteView()).ok());
  EXPECT_EQ(*file->size(), 0u);
}

TEST_P(FileSystemContract, WritesAndReadsMegabytesInOneCall) {
  std::string content(5u << 20, 'x');
  for (size_t i = 0; i < content.size(); i += 4096) content[i] = static_cast<char>(i >> 12);
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes(content)).ok());
  Bytes back(content.size());
  EXPECT_EQ(*file->read_at(0, back.mutable_view()), content.size());
  EXPECT_TRUE(as_text(back) == content);
}

TEST_P(FileSystemContract, ReadsFewerBytesOnlyAtTheEnd) {
  write("a", "0123456789");
  std::unique_ptr<File> file = open("a", OpenMode::kRead);
  std::byte buffer[8];
  EXPECT_EQ(*file->read_at(0, buffer), 8u);
  EXPECT_EQ(*file->read_at(7, buffer), 3u);
  EXPECT_EQ(as_text({buffer, 3}), "789");
  EXPECT_EQ(*file->read_at(10, buffer), 0u);
  EXPECT_EQ(*file->read_at(1'000'000, buffer), 0u);
  EXPECT_EQ(*file->read_at(0, {}), 0u);
}

TEST_P(FileSystemContract, AGapReadsAsZeros) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(5, as_bytes("x")).ok());
  EXPECT_EQ(read("a"), std::string(5, '\0') + "x");
}

TEST_P(FileSystemContract, TruncateCutsAndExtendsWithZeros) {
  write("a", "0123456789");
  std::unique_ptr<File> file = open("a", OpenMode::kReadWrite);
  ASSERT_TRUE(file->truncate(4).ok());
  EXPECT_EQ(read("a"), "0123");
  ASSERT_TRUE(file->truncate(6).ok());
  EXPECT_EQ(read("a"), std::string("0123\0\0", 6));
}

TEST_P(FileSystemContract, OpenModesSayWhatMustBeThere) {
  EXPECT_EQ(open_error("a", OpenMode::kRead), Errc::kNotFound);
  EXPECT_EQ(open_error("a", OpenMode::kReadWrite), Errc::kNotFound);
  EXPECT_EQ(open_error("missing/a", OpenMode::kCreate), Errc::kNotFound);
  EXPECT_EQ(open_error("a", OpenMode::kCreateNew), Errc::kOk);
  EXPECT_EQ(open_error("a", OpenMode::kCreateNew), Errc::kAlreadyExists);
  write("a", "kept");
  EXPECT_EQ(open_error("a", OpenMode::kCreate), Errc::kOk);
  EXPECT_EQ(read("a"), "kept");
  EXPECT_EQ(open_error("a/b", OpenMode::kCreate), Errc::kNotFound);
}

TEST_P(FileSystemContract, AFileOpenedForReadingRefusesToBeChanged) {
  write("a", "kept");
  std::unique_ptr<File> file = open("a", OpenMode::kRead);
  EXPECT_FALSE(file->write_at(0, as_bytes("x")).ok());
  EXPECT_FALSE(file->truncate(0).ok());
  EXPECT_EQ(read("a"), "kept");
}

TEST_P(FileSystemContract, AFolderIsNotAFile) {
  ASSERT_TRUE(files().create_directories(path("d")).ok());
  EXPECT_EQ(open_error("d", OpenMode::kRead), Errc::kInvalidArgument);
  EXPECT_EQ(open_error("d", OpenMode::kReadWrite), Errc::kInvalidArgument);
  EXPECT_EQ(open_error("d", OpenMode::kCreateNew), Errc::kAlreadyExists);
  EXPECT_EQ(files().remove_file(path("d")).code(), Errc::kInvalidArgument);
  EXPECT_EQ(files().read_file(path("d")).status().code(), Errc::kInvalidArgument);
}

TEST_P(FileSystemContract, ErrorsNameThePath) {
  Status status = files().open(path("no-such-file"), OpenMode::kRead).status();
  EXPECT_NE(status.message().find(path("no-such-file")), std::string_view::npos) << status.to_string();
  status = files().rename(path("from"), path("to"));
  EXPECT_NE(status.message().find(path("from")), std::string_view::npos) << status.to_string();
}

TEST_P(FileSystemContract, ListsNamesInOrderAndTellsFolders) {
  write("b", "");
  write("a", "");
  ASSERT_TRUE(files().create_directories(path("c/d")).ok());
  EXPECT_EQ(names(""), (Names{"a", "b", "c/"}));
  EXPECT_EQ(names("c"), (Names{"d/"}));
  EXPECT_EQ(files().list(path("missing")).status().code(), Errc::kNotFound);
  EXPECT_EQ(files().list(path("a")).status().code(), Errc::kNotFound);
}

TEST_P(FileSystemContract, CreatesFoldersWithAllTheirParentsAndAgain) {
  EXPECT_TRUE(files().create_directories(path("a/b/c")).ok());
  EXPECT_TRUE(files().create_directories(path("a/b/c")).ok());
  EXPECT_TRUE(files().create_directories(path("a/b/c/")).ok());
  EXPECT_EQ(names("a/b"), (Names{"c/"}));
  write("file", "");
  EXPECT_EQ(files().create_directories(path("file")).code(), Errc::kAlreadyExists);
  EXPECT_EQ(files().create_directories(path("file/below")).code(), Errc::kNotFound);
}

TEST_P(FileSystemContract, RenameReplacesTheTarget) {
  write("a", "new");
  write("b", "old");
  ASSERT_TRUE(files().rename(path("a"), path("b")).ok());
  EXPECT_EQ(read("b"), "new");
  EXPECT_FALSE(files().exists(path("a")));
  EXPECT_EQ(files().rename(path("a"), path("b")).code(), Errc::kNotFound);
  EXPECT_EQ(files().rename(path("b"), path("missing/b")).code(), Errc::kNotFound);
  EXPECT_TRUE(files().rename(path("b"), path("b")).ok());
  EXPECT_EQ(read("b"), "new");
}

TEST_P(FileSystemContract, RenameMovesAFolderWithItsContent) {
  ASSERT_TRUE(files().create_directories(path("a/deep")).ok());
  write("a/deep/file", "x");
  ASSERT_TRUE(files().rename(path("a"), path("b")).ok());
  EXPECT_EQ(read("b/deep/file"), "x");
  EXPECT_EQ(names(""), (Names{"b/"}));
  ASSERT_TRUE(files().create_directories(path("full/x")).ok());
  EXPECT_EQ(files().rename(path("b"), path("full")).code(), Errc::kAlreadyExists);
  EXPECT_EQ(files().rename(path("b"), path("b/deep/b")).code(), Errc::kInvalidArgument);
  EXPECT_EQ(read("b/deep/file"), "x");
}

TEST_P(FileSystemContract, RemovesFilesAndTrees) {
  write("a", "");
  EXPECT_TRUE(files().remove_file(path("a")).ok());
  EXPECT_FALSE(files().exists(path("a")));
  EXPECT_EQ(files().remove_file(path("a")).code(), Errc::kNotFound);

  ASSERT_TRUE(files().create_directories(path("t/u")).ok());
  write("t/u/f", "x");
  write("t/g", "x");
  EXPECT_TRUE(files().remove_tree(path("t")).ok());
  EXPECT_EQ(names(""), Names{});
  EXPECT_TRUE(files().remove_tree(path("t")).ok());
}

TEST_P(FileSystemContract, AnOpenFileStaysReadableAfterItsNameIsGone) {
  write("a", "still here");
  std::unique_ptr<File> file = open("a", OpenMode::kReadWrite);
  ASSERT_TRUE(files().remove_file(path("a")).ok());
  write("a", "another file");
  Bytes back(10);
  EXPECT_EQ(*file->read_at(0, back.mutable_view()), 10u);
  EXPECT_EQ(as_text(back), "still here");
  EXPECT_TRUE(file->write_at(0, as_bytes("STILL")).ok());
  EXPECT_TRUE(file->sync_now().ok());
  EXPECT_EQ(read("a"), "another file");
}

TEST_P(FileSystemContract, SyncAnswersLaterAndOnce) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes("x")).ok());
  int answers = 0;
  bool inside = true;
  file->sync([&](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.to_string();
    EXPECT_FALSE(inside);
    ++answers;
  });
  inside = false;
  EXPECT_TRUE(host_->run_until([&] { return answers > 0; }));
  int folder_answers = 0;
  inside = true;
  files().sync_directory(path(""), [&](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.to_string();
    EXPECT_FALSE(inside);
    ++folder_answers;
  });
  inside = false;
  EXPECT_TRUE(host_->run_until([&] { return folder_answers > 0; }));
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(folder_answers, 1);
}

TEST_P(FileSystemContract, WhatWasLoadedIsReadOutOfMemory) {
  std::unique_ptr<File> file = open("a");
  std::string content(1u << 20, 'x');
  ASSERT_TRUE(file->write_at(0, as_bytes(content)).ok());
  ASSERT_TRUE(file->sync_now().ok());
  Bytes out(content.size());
  std::optional<size_t> cached;
  // Other programs may press the pages out again: then it is loaded again.
  for (int attempt = 0; attempt < 20 && !cached; ++attempt) {
    file->drop_cache();
    bool loaded = false;
    bool inside = true;
    file->load(0, content.size(), [&] {
      EXPECT_FALSE(inside);
      loaded = true;
    });
    inside = false;
    ASSERT_TRUE(host_->run_until([&] { return loaded; }));
    Result<std::optional<size_t>> got = file->read_cached(0, out.mutable_view());
    ASSERT_TRUE(got.ok()) << got.status().to_string();
    cached = *got;
  }
  ASSERT_EQ(cached, content.size());
  EXPECT_EQ(as_text(out.view()), content);
}

TEST_P(FileSystemContract, LoadingPastTheEndOrOfAFileClosedMeanwhileEnds) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes("abc")).ok());
  int loaded = 0;
  file->load(0, uint64_t{1} << 30, [&] { ++loaded; });
  file->load(1000, 5, [&] { ++loaded; });
  file.reset();
  EXPECT_TRUE(host_->run_until([&] { return loaded == 2; }));
}

TEST_P(FileSystemContract, SyncsOfManyFilesRunSideBySide) {
  std::vector<std::unique_ptr<File>> open_files;
  int answers = 0;
  for (int i = 0; i < 16; ++i) {
    open_files.push_back(open("f" + std::to_string(i)));
    ASSERT_TRUE(open_files.back()->write_at(0, as_bytes("x")).ok());
    open_files.back()->sync([&answers](const Status& status) { answers += status.ok() ? 1 : 0; });
  }
  EXPECT_TRUE(host_->run_until([&] { return answers == 16; }));
}

TEST_P(FileSystemContract, SyncOfAMissingFolderFails) {
  EXPECT_EQ(files().sync_directory_now(path("missing")).code(), Errc::kNotFound);
  write("file", "");
  EXPECT_EQ(files().sync_directory_now(path("file")).code(), Errc::kNotFound);
  Status answer;
  bool answered = false;
  files().sync_directory(path("missing"), [&](Status status) {
    answer = std::move(status);
    answered = true;
  });
  EXPECT_TRUE(host_->run_until([&] { return answered; }));
  EXPECT_EQ(answer.code(), Errc::kNotFound);
}

TEST_P(FileSystemContract, DroppingTheCacheLosesNothing) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes("synced")).ok());
  ASSERT_TRUE(file->sync_now().ok());
  ASSERT_TRUE(file->write_at(6, as_bytes(" and not")).ok());
  file->drop_cache();
  EXPECT_EQ(read("a"), "synced and not");
}

TEST_P(FileSystemContract, ALockHasOneHolder) {
  Result<std::unique_ptr<FileLock>> first = files().lock(path("lock"));
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  EXPECT_EQ(files().lock(path("lock")).status().code(), Errc::kBusy);
  EXPECT_TRUE(files().lock(path("other")).ok());
  first = Status(Errc::kFailed, "released");
  EXPECT_TRUE(files().lock(path("lock")).ok());
  EXPECT_EQ(files().lock(path("missing/lock")).status().code(), Errc::kNotFound);
}

TEST_P(FileSystemContract, TellsItsSpace) {
  Result<Space> space = files().space(path(""));
  ASSERT_TRUE(space.ok());
  EXPECT_GT(space->total_bytes, 0u);
  EXPECT_LE(space->available_bytes, space->total_bytes);
  EXPECT_EQ(files().space(path("missing")).status().code(), Errc::kNotFound);
}

TEST_P(FileSystemContract, ReadFileRefusesMoreThanItsLimit) {
  write("a", "0123456789");
  EXPECT_EQ(files().read_file(path("a"), 9).status().code(), Errc::kTooLarge);
  EXPECT_EQ(as_text(*files().read_file(path("a"), 10)), "0123456789");
}

TEST_P(FileSystemContract, ReplaceFileLeavesTheNewContentAndNothingElse) {
  ASSERT_TRUE(files().replace_file(path("a"), as_bytes("a longer first text")).ok());
  ASSERT_TRUE(files().replace_file(path("a"), as_bytes("second")).ok());
  EXPECT_EQ(read("a"), "second");
  EXPECT_EQ(names(""), (Names{"a"}));
  // What an earlier crash left beside it does not matter.
  write("a.tmp", "left over from a replacement that never finished");
  ASSERT_TRUE(files().replace_file(path("a"), as_bytes("third")).ok());
  EXPECT_EQ(read("a"), "third");
  EXPECT_EQ(names(""), (Names{"a"}));
}

INSTANTIATE_TEST_SUITE_P(OnDisk, FileSystemContract, ::testing::Values("Real", "Simulated"),
                         [](const auto& with) { return std::string(with.param); });

// One random program run on both, step by step: the same answers, and the same content after each step.
class Differential {
 public:
  explicit Differential(uint32_t seed) : random_(seed) {
    for (Host* host : {real_.get(), simulated_.get()}) {
      for (const char* folder : {"d0", "d1", "d0/d2"}) {
        EXPECT_TRUE(host->files().create_directories(join_path(host->root(), folder)).ok());
      }
    }
  }

  void step() {
    uint32_t choice = random_() % 10;
    std::string name = draw_name();
    std::string other = draw_name();
    uint64_t offset = random_() % 3000;
    std::string text(random_() % 2000, static_cast<char>('a' + random_() % 26));
    auto run = [&](Host& host) -> Status {
      FileSystem& files = host.files();
      std::string path = join_path(host.root(), name);
      switch (choice) {
        case 0: return files.rename(path, join_path(host.root(), other));
        case 1: return files.remove_file(path);
        case 2: return offset % 4 == 0 ? files.remove_tree(path) : files.create_directories(path);
        case 3: return files.open(path, OpenMode::kCreateNew).status();
        case 4: return TRY(files.open(path, OpenMode::kReadWrite))->truncate(offset);
        case 5: return files.replace_file(path, as_bytes(text));
        case 6: return files.list(path).status();
        default: return TRY(files.open(path, OpenMode::kCreate))->write_at(offset, as_bytes(text));
      }
    };
    Status real = run(*real_);
    Status simulated = run(*simulated_);
    ASSERT_EQ(errc_name(real.code()), errc_name(simulated.code()))
        << "choice " << choice << " on " << name << " and " << other << ": " << real.to_string() << " / "
        << simulated.to_string();
    ASSERT_EQ(content(*real_, ""), content(*simulated_, "")) << "choice " << choice << " on " << name;
  }

 private:
  std::string draw_name() {
    static constexpr const char* kNames[] = {"f0",    "f1",    "d0",       "d1",          "d0/f0",
                                             "d0/f1", "d1/f0", "d0/d2/f0", "d0/d2",       "d1/d3",
                                             "d3",    "f0/x",  "d3/d4/f",  "d0/d2/d3/d4", "d1/d3/f1"};
    return kNames[random_() % std::size(kNames)];
  }
  // Every name with its content, one per line.
  std::string content(Host& host, const std::string& folder) {
    std::string text;
    std::vector<DirectoryEntry> entries = host.files().list(join_path(host.root(), folder)).value();
    for (const DirectoryEntry& entry : entries) {
      std::string name = folder.empty() ? entry.name : folder + "/" + entry.name;
      if (entry.is_directory) {
        text += name + "/\n" + content(host, name);
        continue;
      }
      Bytes bytes = host.files().read_file(join_path(host.root(), name)).value();
      text += name + ": " + std::string(as_text(bytes)) + "\n";
    }
    return text;
  }

  std::mt19937 random_;
  std::unique_ptr<Host> real_ = make_host("Real");
  std::unique_ptr<Host> simulated_ = make_host("Simulated");
};

TEST(FileSystemDifferential, TheSimulatedDiskAnswersLikeTheRealOne) {
  for (uint32_t seed = 0; seed < 25; ++seed) {
    Differential program(seed);
    for (int step = 0; step < 120; ++step) {
      ASSERT_NO_FATAL_FAILURE(program.step()) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace trilog
