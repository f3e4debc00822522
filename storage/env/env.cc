#include "storage/env/env.h"

namespace trilog {

std::string join_path(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/') path += '/';
  path += name;
  return path;
}

std::string parent_path(std::string_view path) {
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

Result<Bytes> FileSystem::read_file(std::string_view path, size_t size_max) {
  std::unique_ptr<File> file = TRY(open(path, OpenMode::kRead));
  uint64_t size = TRY(file->size());
  if (size > size_max) {
    return Status(Errc::kTooLarge, std::string(path) + " has " + std::to_string(size) + " bytes; at most " +
                                       std::to_string(size_max) + " are read");
  }
  Bytes content(static_cast<size_t>(size));
  content.resize_uninitialized(TRY(file->read_at(0, content.mutable_view())));
  return content;
}

Status FileSystem::replace_file(std::string_view path, ByteView content) {
  std::string temporary = std::string(path) + ".tmp";
  {
    std::unique_ptr<File> file = TRY(open(temporary, OpenMode::kCreate));
    TRY(file->truncate(0));
    TRY(file->write_at(0, content));
    TRY(file->sync_now());
  }
  TRY(rename(temporary, path));
  return sync_directory_now(parent_path(path));
}

}  // namespace trilog
