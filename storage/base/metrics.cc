#include "storage/base/metrics.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace trilog {

size_t Histogram::bucket_of(uint64_t value) {
  constexpr uint64_t kSub = 1u << kSubBits;
  if (value < kSub) return static_cast<size_t>(value);
  int power = 63 - std::countl_zero(value);  // >= kSubBits
  uint64_t sub = (value >> (power - kSubBits)) & (kSub - 1);
  size_t bucket = (static_cast<size_t>(power - kSubBits + 1) << kSubBits) + static_cast<size_t>(sub);
  return std::min(bucket, (static_cast<size_t>(kPowers + 1) << kSubBits) - 1);
}

int64_t Histogram::bucket_end(size_t bucket) {
  constexpr size_t kSub = 1u << kSubBits;
  if (bucket < kSub) return static_cast<int64_t>(bucket);
  size_t power = (bucket >> kSubBits) - 1;
  size_t sub = bucket & (kSub - 1);
  return static_cast<int64_t>(((kSub + sub + 1) << power) - 1);
}

void Histogram::record(int64_t nanoseconds) {
  nanoseconds = std::max<int64_t>(nanoseconds, 0);
  ++buckets_[bucket_of(static_cast<uint64_t>(nanoseconds))];
  ++count_;
  sum_ += nanoseconds;
  max_ = std::max(max_, nanoseconds);
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

int64_t Histogram::quantile(double fraction) const {
  if (count_ == 0) return 0;
  auto wanted = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
  wanted = std::clamp<uint64_t>(wanted, 1, count_);
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(bucket_end(i), max_);
  }
  return max_;
}

}  // namespace trilog
