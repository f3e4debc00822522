#include "storage/env/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

namespace trilog {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;
constexpr size_t kLoadStepBytes = size_t{256} << 10;
constexpr size_t kPiecesPerCall = 64;  // IOV_MAX is 1024; this keeps the array small on the stack

Errc errc_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR: return Errc::kNotFound;
    case EEXIST:
    case ENOTEMPTY: return Errc::kAlreadyExists;
    case ENOSPC:
    case EDQUOT: return Errc::kDiskFull;
    case EACCES:
    case EPERM:
    case EROFS: return Errc::kPermission;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG: return Errc::kInvalidArgument;
    case EFBIG: return Errc::kTooLarge;
    case EXDEV: return Errc::kUnsupported;
    default: return Errc::kIo;
  }
}

Status error_status(int error, std::string_view what, std::string_view path) {
  std::string message(what);
  message += ' ';
  message += path;
  message += ": ";
  message += std::generic_category().message(error);
  return Status(errc_of(error), std::move(message));
}

// Calls until it is not interrupted by a signal (rule S15).
template <typename Call>
auto retry_interrupted(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// An owned descriptor. Shared with a sync under way, so that closing the file cannot hand its number to another file
// while fdatasync still uses it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

  // Rule S3: Linux reports a lost write-back once and marks the pages clean, so a second fdatasync would "succeed".
  // Therefore the first failure is remembered and answered for good.
  Status sync(std::string_view path) {
    if (sync_failed_.load(std::memory_order_acquire)) {
      return Status(Errc::kFailed, "sync " + std::string(path) + ": an earlier sync of this file failed");
    }
    if (retry_interrupted([this] { return ::fdatasync(fd_); }) == 0) return ok_status();
    int error = errno;
    sync_failed_.store(true, std::memory_order_release);
    return error_status(error, "sync", path);
  }

 private:
  const int fd_;
  std::atomic<bool> sync_failed_{false};
};

// One spare descriptor, so that a directory can be synced although the process has used up all others: its failure
// would end the process (rule S16, fault F20).
class SpareDescriptor {
 public:
  SpareDescriptor() { refill(); }
  ~SpareDescriptor() { release(); }
  SpareDescriptor(const SpareDescriptor&) = delete;
  SpareDescriptor& operator=(const SpareDescriptor&) = delete;

  Status sync_directory(const std::string& path) {
    int fd = open_directory(path);
    if (fd >= 0) return sync_and_close(fd, path);
    if (errno != EMFILE && errno != ENFILE) return error_status(errno, "open folder", path);
    std::lock_guard lock(mutex_);
    release();
    fd = open_directory(path);
    Status status = fd >= 0 ? sync_and_close(fd, path) : error_status(errno, "open folder", path);
    refill();
    return status;
  }

 private:
  static int open_directory(const std::string& path) {
    return retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  }
  static Status sync_and_close(int fd, const std::string& path) {
    int result = retry_interrupted([fd] { return ::fsync(fd); });
    int error = errno;
    ::close(fd);
    return result == 0 ? ok_status() : error_status(error, "sync folder", path);
  }
  void refill() { fd_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
  void release() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  std::mutex mutex_;
  int fd_ = -1;
};

// Where blocking work is done and its callbacks go; both null in the blocking file system.
struct Waiting {
  Executor* executor = nullptr;
  SyncRunner* syncs = nullptr;
  SyncRunner* loads = nullptr;

  template <typename Work>
  void sync(Work work, UniqueFunction<void(Status)> done) const {
    run(syncs, std::move(work), std::move(done));
  }
  template <typename Work>
  void load(Work work, UniqueFunction<void(Status)> done) const {
    run(loads, std::move(work), std::move(done));
  }

 private:
  template <typename Work>
  void run(SyncRunner* runner, Work work, UniqueFunction<void(Status)> done) const {
    if (runner == nullptr) {
      done(work());
      return;
    }
    runner->run([to = executor, work = std::move(work), done = std::move(done)]() mutable {
      Status status = work();
      to->post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    });
  }
};

class PosixFile : public File {
 public:
  PosixFile(std::shared_ptr<Descriptor> descriptor, std::string path, Waiting waiting)
      : descriptor_(std::move(descriptor)), path_(std::move(path)), waiting_(waiting) {}

  Result<size_t> read_at(uint64_t offset, MutableByteView out) const override {
    size_t done = 0;
    while (done < out.size()) {
      ssize_t got = retry_interrupted([&] {
        return ::pread(descriptor_->get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      });
      if (got < 0) return error_status(errno, "read", path_);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  Result<std::optional<size_t>> read_cached(uint64_t offset, MutableByteView out) const override {
    iovec vector{out.data(), out.size()};
    ssize_t got = retry_interrupted(
        [&] { return ::preadv2(descriptor_->get(), &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT); });
    if (got >= 0 && static_cast<size_t>(got) == out.size()) return std::optional(out.size());
    // Fewer bytes: the rest is on the disk, or the file ends here; loading it settles which.
    if (got >= 0 || errno == EAGAIN) return std::optional<size_t>();
    return std::optional(TRY(read_at(offset, out)));
  }

  void load(uint64_t offset, uint64_t length, UniqueFunction<void()> done) const override {
    auto read = [descriptor = descriptor_, offset, length] {
      Bytes scratch;
      scratch.resize_uninitialized(static_cast<size_t>(std::min<uint64_t>(length, kLoadStepBytes)));
      for (uint64_t at = 0; at < length; at += scratch.size()) {
        ssize_t got = retry_interrupted([&] {
          return ::pread(descriptor->get(), scratch.mutable_view().data(), scratch.size(),
                         static_cast<off_t>(offset + at));
        });
        if (got <= 0) break;
      }
      return ok_status();
    };
    waiting_.load(std::move(read), [done = std::move(done)](const Status&) mutable { done(); });
  }

  using File::write_at;
  Status write_at(uint64_t offset, std::span<const ByteView> pieces) override {
    std::array<iovec, kPiecesPerCall> vectors;
    size_t piece = 0;         // the first piece that is not fully written
    size_t within_piece = 0;  // bytes of it that are
    while (true) {
      size_t count = 0;
      for (size_t i = piece; i < pieces.size() && count < vectors.size(); ++i) {
        ByteView rest = i == piece ? pieces[i].subspan(within_piece) : pieces[i];
        if (rest.empty()) continue;
        vectors[count++] = {const_cast<std::byte*>(rest.data()), rest.size()};
      }
      if (count == 0) return ok_status();
      ssize_t put = retry_interrupted([&] {
        return ::pwritev(descriptor_->get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(offset));
      });
      if (put < 0) return error_status(errno, "write", path_);
      if (put == 0) return Status(Errc::kIo, "write " + path_ + ": the system accepted no bytes");
      offset += static_cast<uint64_t>(put);
      auto left = static_cast<size_t>(put);
      while (piece < pieces.size() && left >= pieces[piece].size() - within_piece) {
        left -= pieces[piece].size() - within_piece;
        ++piece;
        within_piece = 0;
      }
      within_piece += left;
    }
  }

  Status truncate(uint64_t size) override {
    if (retry_interrupted([&] { return ::ftruncate(descriptor_->get(), static_cast<off_t>(size)); }) == 0) return {};
    return error_status(errno, "truncate", path_);
  }

  Result<uint64_t> size() const override {
    struct stat info;
    if (::fstat(descriptor_->get(), &info) != 0) return error_status(errno, "stat", path_);
    return static_cast<uint64_t>(info.st_size);
  }

  void sync(UniqueFunction<void(Status)> done) override {
    waiting_.sync([descriptor = descriptor_, path = path_] { return descriptor->sync(path); }, std::move(done));
  }
  Status sync_now() override { return descriptor_->sync(path_); }
  void drop_cache() override { ::posix_fadvise(descriptor_->get(), 0, 0, POSIX_FADV_DONTNEED); }

 private:
  const std::shared_ptr<Descriptor> descriptor_;
  const std::string path_;
  const Waiting waiting_;
};

class PosixFileLock : public FileLock {
 public:
  explicit PosixFileLock(int fd) : descriptor_(fd) {}

 private:
  Descriptor
      descriptor_;  // closing it releases the lock; the file stays, since removing it would race with a new holder
};

int flags_of(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead: return O_RDONLY;
    case OpenMode::kReadWrite: return O_RDWR;
    case OpenMode::kCreate: return O_RDWR | O_CREAT;
    case OpenMode::kCreateNew: return O_RDWR | O_CREAT | O_EXCL;
  }
  UNREACHABLE("OpenMode");
}

bool is_directory_entry(DIR* directory, const dirent& entry) {
  if (entry.d_type == DT_DIR) return true;
  if (entry.d_type != DT_UNKNOWN && entry.d_type != DT_LNK) return false;
  struct stat info;
  return ::fstatat(::dirfd(directory), entry.d_name, &info, 0) == 0 && S_ISDIR(info.st_mode);
}

// ", held by process 123" if the lock file says so; the holder writes its number there.
std::string lock_holder(int fd) {
  char text[16];
  ssize_t size = ::pread(fd, text, sizeof(text), 0);
  int pid = 0;
  if (size <= 0 || std::from_chars(text, text + size, pid).ec != std::errc() || pid <= 0) return {};
  return ", held by process " + std::to_string(pid);
}

class PosixFileSystem : public FileSystem {
 public:
  explicit PosixFileSystem(Waiting waiting) : waiting_(waiting) {}

  Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) override {
    std::string name(path);
    // O_NONBLOCK means nothing for a regular file, and keeps a named pipe in a foreign folder from blocking us here.
    int flags = flags_of(mode) | O_CLOEXEC | O_NONBLOCK;
    int fd = retry_interrupted([&] { return ::open(name.c_str(), flags, kFileMode); });
    if (fd < 0) return error_status(errno, "open", name);
    auto descriptor = std::make_shared<Descriptor>(fd);
    struct stat info;
    if (::fstat(fd, &info) != 0) return error_status(errno, "stat", name);
    if (!S_ISREG(info.st_mode)) return Status(Errc::kInvalidArgument, "open " + name + ": not a regular file");
    return std::unique_ptr<File>(std::make_unique<PosixFile>(std::move(descriptor), std::move(name), waiting_));
  }

  bool exists(std::string_view path) override {
    struct stat info;
    return ::stat(std::string(path).c_str(), &info) == 0;
  }

  Result<std::vector<DirectoryEntry>> list(std::string_view directory) override {
    std::string name(directory);
    std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(name.c_str()), [](DIR* open) { return ::closedir(open); });
    if (handle == nullptr) return error_status(errno, "list", name);
    std::vector<DirectoryEntry> entries;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(handle.get());
      if (entry == nullptr) break;
      if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
      entries.push_back({entry->d_name, is_directory_entry(handle.get(), *entry)});
    }
    if (errno != 0) return error_status(errno, "list", name);
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
  }

  Status create_directories(std::string_view path) override {
    std::string name(path);
    while (name.size() > 1 && name.back() == '/') name.pop_back();
    if (::mkdir(name.c_str(), kDirectoryMode) == 0) return ok_status();
    if (errno == ENOENT) {
      std::string parent = parent_path(name);
      if (name.empty() || parent == name || parent == ".") return error_status(ENOENT, "create folder", name);
      TRY(create_directories(parent));
      if (::mkdir(name.c_str(), kDirectoryMode) == 0) return ok_status();
    }
    int error = errno;
    struct stat info;
    if (error == EEXIST && ::stat(name.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return ok_status();
    return error_status(error, "create folder", name);
  }

  Status rename(std::string_view from, std::string_view to) override {
    std::string source(from);
    std::string target(to);
    if (::rename(source.c_str(), target.c_str()) == 0) return ok_status();
    return error_status(errno, "rename", source + " to " + target);
  }

  Status remove_file(std::string_view path) override {
    std::string name(path);
    if (::unlink(name.c_str()) == 0) return ok_status();
    return error_status(errno, "remove", name);
  }

  Status remove_tree(std::string_view path) override {
    std::error_code error;
    std::filesystem::remove_all(std::filesystem::path(path), error);
    if (!error || error.value() == ENOENT || error.value() == ENOTDIR) return ok_status();
    return error_status(error.value(), "remove", path);
  }

  void sync_directory(std::string_view path, UniqueFunction<void(Status)> done) override {
    waiting_.sync([spare = spare_, name = std::string(path)] { return spare->sync_directory(name); }, std::move(done));
  }
  Status sync_directory_now(std::string_view path) override { return spare_->sync_directory(std::string(path)); }

  Result<std::unique_ptr<FileLock>> lock(std::string_view path) override {
    std::string name(path);
    int fd = retry_interrupted([&] { return ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode); });
    if (fd < 0) return error_status(errno, "open lock file", name);
    auto held = std::make_unique<PosixFileLock>(fd);
    // flock belongs to the open file, not to the process: a second broker in this process is refused too, and nothing
    // else in it that closes the file gives the lock away, as it would with fcntl's process-wide locks.
    if (retry_interrupted([fd] { return ::flock(fd, LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) return error_status(errno, "lock", name);
      return Status(Errc::kBusy, name + " is locked" + lock_holder(fd));
    }
    // Only for the message above, so a failure (say, a full disk) does not matter.
    std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(fd, 0) == 0) static_cast<void>(::pwrite(fd, pid.data(), pid.size(), 0) == 0);
    return std::unique_ptr<FileLock>(std::move(held));
  }

  Result<Space> space(std::string_view path) override {
    std::string name(path);
    struct statvfs info;
    if (retry_interrupted([&] { return ::statvfs(name.c_str(), &info); }) != 0) {
      return error_status(errno, "free space of", name);
    }
    return Space{static_cast<uint64_t>(info.f_blocks) * info.f_frsize,
                 static_cast<uint64_t>(info.f_bavail) * info.f_frsize};
  }

 private:
  const Waiting waiting_;
  const std::shared_ptr<SpareDescriptor> spare_ = std::make_shared<SpareDescriptor>();
};

}  // namespace

std::unique_ptr<FileSystem> make_posix_file_system(Executor& executor, SyncRunner& syncs, SyncRunner& loads) {
  return std::make_unique<PosixFileSystem>(Waiting{&executor, &syncs, &loads});
}

std::unique_ptr<FileSystem> make_blocking_posix_file_system() { return std::make_unique<PosixFileSystem>(Waiting{}); }

}  // namespace trilog
