#include "broker/mark_writer.h"

#include <utility>

namespace trilog {

MarkWriter::MarkWriter(Env& env, MarksFile& file) : env_(env), file_(file), marks_(file.marks()) {}

void MarkWriter::write(Marks changes, Executor& reply_to, UniqueFunction<void(Status)> done) {
  for (auto& [partition, mark] : changes) marks_[partition] = mark;
  waiting_.push_back({&reply_to, std::move(done)});
  if (!writing_) start_write();
}

void MarkWriter::forget(const TopicId& topic) {
  auto from = marks_.lower_bound({topic, PartitionId(INT32_MIN)});
  auto to = marks_.upper_bound({topic, PartitionId(INT32_MAX)});
  marks_.erase(from, to);
}

void MarkWriter::start_write() {
  writing_ = true;
  file_.write(marks_, [this, waiters = std::exchange(waiting_, {})](const Status& status) mutable {
    writing_ = false;
    if (!status.ok() && status.code() != Errc::kDiskFull) env_.fatal(status.with_context("marks"));
    for (Waiter& waiter : waiters) {
      waiter.reply_to->post([done = std::move(waiter.done), status]() mutable { done(status); });
    }
    if (!waiting_.empty()) start_write();
  });
}

}  // namespace trilog
