#include "broker/runtime/program_pages.h"

#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace trilog {
namespace {

int64_t read_clock_ns(clockid_t clock) {
  timespec time;
  ::clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

size_t page_bytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }

// 0 if it cannot be read.
size_t resident_bytes() {
  int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[128];
  ssize_t size = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (size <= 0) return 0;
  text[size] = '\0';
  unsigned long total = 0;
  unsigned long resident = 0;
  return std::sscanf(text, "%lu %lu", &total, &resident) == 2 ? resident * page_bytes() : 0;
}

void give_back() {
  auto give_back_object = [](dl_phdr_info* object, size_t, void*) {
    const uintptr_t page = page_bytes();
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr)& segment = object->dlpi_phdr[i];
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
      uintptr_t from = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
      uintptr_t to = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
      ::madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
    }
    return 0;
  };
  ::dl_iterate_phdr(give_back_object, nullptr);
}

}  // namespace

void ProgramPages::give_back_if_quiet() {
  const int64_t now_ns = read_clock_ns(CLOCK_MONOTONIC);
  const int64_t used_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  const bool quiet = static_cast<double>(used_ns - used_ns_) < kQuietShare * static_cast<double>(now_ns - seen_ns_);
  seen_ns_ = now_ns;
  used_ns_ = used_ns;
  if (!quiet) return;
  const size_t now_bytes = resident_bytes();
  if (std::exchange(coming_back_, false)) resident_bytes_ = now_bytes;
  if (now_bytes < resident_bytes_ + kWorthwhileBytes) return;
  give_back();
  coming_back_ = true;
}

}  // namespace trilog
