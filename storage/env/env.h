// The outside world as interfaces: time, work, files, randomness. Everything below the edges sees the world only
// through an Env, so the same code runs on a real machine and in a simulator with a virtual clock and disk.
//
// One Env belongs to one shard (one thread). All its methods are called on that thread unless a comment says otherwise,
// and every callback it takes runs on that thread, exactly once, never inside the call that took it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/function.h"
#include "storage/base/logging.h"
#include "storage/base/status.h"

namespace trilog {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t monotonic_ns() const = 0;  // never goes back; for timeouts (rule Q7)
  virtual int64_t wall_ms() const = 0;       // since 1970, may jump (fault F14); only for timestamps and retention
};

using TimerId = uint64_t;  // 0 is never handed out

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `task` later on the shard's thread; tasks of one poster run in order. The only method that any thread may
  // call. After the shard stopped, tasks are destroyed without running.
  virtual void post(UniqueFunction<void()> task) = 0;
  virtual TimerId schedule_after(int64_t delay_ns, UniqueFunction<void()> task) = 0;
  // The task will not run, even if its time has come; an unknown or spent id is ignored.
  virtual void cancel(TimerId timer) = 0;
};

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t next() = 0;
};

// An open file. Reading is safe from any thread, so that edges can serve a FileSlice; all else is for the owner's
// thread. Short reads and writes and EINTR are dealt with inside (rule S15).
class File {
 public:
  virtual ~File() = default;

  // Fills `out` from `offset`; returns how many bytes there were, fewer than asked only at the end of the file.
  virtual Result<size_t> read_at(uint64_t offset, MutableByteView out) const = 0;
  // The same out of memory: nullopt if some of it would have to come from the disk. Where the system cannot tell, it
  // waits like read_at().
  virtual Result<std::optional<size_t>> read_cached(uint64_t offset, MutableByteView out) const = 0;
  // Off this thread, brings a range into memory, so that reading it next will hardly wait; `done` is posted. What goes
  // wrong shows when it is read. The file may be destroyed meanwhile.
  virtual void load(uint64_t offset, uint64_t length, UniqueFunction<void()> done) const = 0;
  // Writes the pieces one after another at `offset`, growing the file as needed. On failure any prefix may have been
  // written: the caller restores its boundary with truncate() (rule S8). kDiskFull when space ran out.
  virtual Status write_at(uint64_t offset, std::span<const ByteView> pieces) = 0;
  Status write_at(uint64_t offset, ByteView bytes) { return write_at(offset, std::span<const ByteView>(&bytes, 1)); }
  virtual Status truncate(uint64_t size) = 0;
  virtual Result<uint64_t> size() const = 0;

  // Makes everything written before this call durable (data and size), off this thread; `done` is posted. A failed sync
  // is never retried (rule S3): the caller must stop using the file. The file must live until `done` ran; destroying it
  // earlier is a bug. Several may be outstanding on different files and run side by side.
  virtual void sync(UniqueFunction<void(Status)> done) = 0;
  // The same, blocking. For start-up, recovery and small control files only.
  virtual Status sync_now() = 0;
  // After sync_now(): forgets cached pages so that the next read comes from the disk (rule S3). Best effort.
  virtual void drop_cache() = 0;
};

// A byte range of a file that stays readable although retention removes the file meanwhile.
struct FileSlice {
  std::shared_ptr<const File> file;
  uint64_t position = 0;
  uint32_t length = 0;
};

class FileLock {
 public:
  virtual ~FileLock() = default;  // releases
};

enum class OpenMode {
  kRead,       // kNotFound if missing
  kReadWrite,  // kNotFound if missing
  kCreate,     // read and write; created empty if missing
  kCreateNew,  // read and write; kAlreadyExists if there
};

struct DirectoryEntry {
  std::string name;  // without the folder
  bool is_directory = false;
};

struct Space {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // to this process
};

// Paths are UTF-8 with '/'. Errors name the path. A created, renamed or removed name is durable only after
// sync_directory() of its folder (rule S4).
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) = 0;
  virtual bool exists(std::string_view path) = 0;
  // Sorted by name, without "." and "..".
  virtual Result<std::vector<DirectoryEntry>> list(std::string_view directory) = 0;
  virtual Status create_directories(std::string_view path) = 0;           // 0700; success if it is there
  virtual Status rename(std::string_view from, std::string_view to) = 0;  // replaces `to`
  virtual Status remove_file(std::string_view path) = 0;
  virtual Status remove_tree(std::string_view path) = 0;  // success if missing
  // Off this thread; `done` is posted. As File::sync(), a failure is final.
  virtual void sync_directory(std::string_view path, UniqueFunction<void(Status)> done) = 0;
  virtual Status sync_directory_now(std::string_view path) = 0;
  // kBusy if another process (or another holder in this one) has it. Creates the file.
  virtual Result<std::unique_ptr<FileLock>> lock(std::string_view path) = 0;
  virtual Result<Space> space(std::string_view path) = 0;

  // Built from the above. Whole small file, at most `size_max` bytes, else kTooLarge.
  Result<Bytes> read_file(std::string_view path, size_t size_max = 64u << 20);
  // Atomically and durably: temporary file beside it, sync, rename, sync of the folder (rule S5). Blocking.
  Status replace_file(std::string_view path, ByteView content);
};

class Env {
 public:
  virtual ~Env() = default;
  virtual Clock& clock() = 0;
  virtual Executor& executor() = 0;
  virtual FileSystem& files() = 0;
  virtual Random& random() = 0;
  virtual const Logger& log() const = 0;
  // Something happened after which going on could lie about durability (a failed sync, rule S3). The runtime ends the
  // process or the embedded broker as soon as it can; the caller must acknowledge nothing more meanwhile.
  virtual void fatal(const Status& why) = 0;
};

// "a/b" from "a" and "b".
std::string join_path(std::string_view directory, std::string_view name);
// "a" from "a/b"; "." if there is no '/'.
std::string parent_path(std::string_view path);

}  // namespace trilog
