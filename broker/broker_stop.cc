// How a broker stops: it hands over what it leads, answers who waits, closes its shards, then the metadata log and the
// network, and writes the mark of a clean stop last (C9, S11).
#include <utility>

#include "broker/broker_impl.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

void BrokerImpl::hand_over(UniqueFunction<void()> done) {
  shards_[0]->post([this, done = std::move(done)]() mutable {
    if (lifecycle_ == nullptr) return done();
    lifecycle_->shut_down(std::move(done));
  });
}

void BrokerImpl::stop(UniqueFunction<void(Status)> done) {
  hand_over([this, done = std::move(done)]() mutable { stop_serving(std::move(done)); });
}

void BrokerImpl::stop_serving(UniqueFunction<void(Status)> done) {
  stopping_ = true;
  serving_ = false;
  {
    std::lock_guard lock(mutex_);
    fetches_.clear();
  }
  shards_[0]->post([this, done = std::move(done)]() mutable {
    finish_start(Status(Errc::kFailed, "stopped while starting"));
    while (!producer_id_waiters_.empty()) {
      answer<api::InitProducerResult>(std::move(producer_id_waiters_.front()),
                                      Error(ErrorCode::kNodeStopping, "node is stopping"));
      producer_id_waiters_.pop_front();
    }
    stop_shards(std::move(done));
  });
}

void BrokerImpl::stop_shards(UniqueFunction<void(Status)> done) {
  struct Stopped {
    std::mutex mutex;
    Result<Marks> marks = Marks();
    UniqueFunction<void(Status)> done;
  };
  auto stopped = std::make_shared<Stopped>();
  stopped->done = std::move(done);
  auto finish = [this, stopped] {
    shards_[0]->post([this, stopped] { stop_metadata(std::move(stopped->marks), std::move(stopped->done)); });
  };
  auto gather = std::make_shared<Gather>(shards_.size(), std::move(finish));
  for (auto& each : shards_) {
    auto stop_shard = [stopped, gather, shard = each.get()] {
      shard->groups.stop();
      shard->replicas.stop([stopped, gather](Result<Marks> marks) {
        {
          std::lock_guard lock(stopped->mutex);
          if (!marks.ok()) {
            stopped->marks = marks.status();
          } else if (stopped->marks.ok()) {
            stopped->marks->merge(*marks);
          }
        }
        gather->arrived();
      });
    };
    each->post([stop_shard, shard = each.get()] { shard->when_idle(stop_shard); });
  }
}

void BrokerImpl::stop_metadata(Result<Marks> marks, UniqueFunction<void(Status)> done) {
  auto release = [this, marks = std::move(marks), done = std::move(done)](const Status& closed) mutable {
    group_claims_.reset();
    isr_requests_.reset();
    lifecycle_.reset();
    controller_client_.reset();
    controller_.reset();
    metadata_log_.reset();
    {
      std::lock_guard lock(state_mutex_);
      state_store_.reset();
    }
    Status status = !closed.ok() ? closed : marks.ok() ? Status() : marks.status();
    // Without exact marks of every log the stop is not clean, and recovery will look (S11, S12).
    if (status.ok() && shards_follow_) status = folder_->write_clean(*marks);
    done(std::move(status));
  };
  auto finish = [this, release = std::move(release)](Status closed) mutable {
    stop_network([release = std::move(release), closed = std::move(closed)]() mutable { release(closed); });
  };
  if (metadata_log_ == nullptr) return finish({});
  if (lifecycle_ == nullptr) return metadata_log_->close(std::move(finish));
  lifecycle_->farewell([this, finish = std::move(finish)]() mutable {
    controller_->stop();
    metadata_log_->close(std::move(finish));
  });
}

// Who waits for another node is answered, and nothing more comes from there.
void BrokerImpl::stop_network(UniqueFunction<void()> done) {
  for (auto& [number, waiter] : std::exchange(applied_waiters_, {})) shards_[0]->post(std::move(waiter.run));
  auto gather = std::make_shared<Gather>(
      endpoints_.size() + 1, [this, done = std::move(done)]() mutable { shards_[0]->post(std::move(done)); });
  for (size_t i = 0; i < endpoints_.size(); ++i) {
    shards_[i]->post([gather, endpoint = endpoints_[i].get()] {
      endpoint->stop();
      gather->arrived();
    });
  }
  gather->arrived();
}

}  // namespace trilog
