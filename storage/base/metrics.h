// Plain counters and histograms of one shard: no atomics, read by posting to the shard. An edge may export them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trilog {

// Latencies in nanoseconds with about 6 % resolution: 16 linear steps per power of two, up to about 18 minutes (larger
// values count in the last bucket). 5 KiB each.
class Histogram {
 public:
  void record(int64_t nanoseconds);
  void merge(const Histogram& other);
  uint64_t count() const { return count_; }
  int64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_); }
  // The value below which `fraction` (0..1) of the recorded ones lie, rounded up to a bucket's end; 0 when empty.
  int64_t quantile(double fraction) const;

 private:
  static constexpr int kSubBits = 4;
  static constexpr int kPowers = 40;
  static size_t bucket_of(uint64_t value);
  static int64_t bucket_end(size_t bucket);
  std::array<uint64_t, (kPowers + 1) << kSubBits> buckets_{};
  uint64_t count_ = 0;
  int64_t sum_ = 0;
  int64_t max_ = 0;
};

}  // namespace trilog
