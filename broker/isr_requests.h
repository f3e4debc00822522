// IsrRequests: what leaders of all shards ask of the controller (AlterPartition, R8), gathered: one request is under
// way at a time, and what comes meanwhile makes the next one. On the thread of shard 0.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "broker/controller_client.h"
#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"

namespace trilog {

class IsrRequests {
 public:
  // `epoch`: of this process as registered, -1 before.
  IsrRequests(ControllerClient& controller, BrokerId self, std::function<BrokerEpoch()> epoch,
              std::function<ImagePtr()> image);
  ~IsrRequests();
  IsrRequests(const IsrRequests&) = delete;
  IsrRequests& operator=(const IsrRequests&) = delete;

  using Done = UniqueFunction<void(api::Answer<IsrChanged>)>;
  // As AlterIsr (replica_manager.h).
  void ask(IsrChange change, Done done);

  static constexpr size_t kPartitionsPerRequest = 10'000;
  static constexpr int64_t kTimeoutNs = 2'000'000'000;

 private:
  struct Waiting {
    IsrChange change;
    Done done;
  };
  void send();
  void on_answer(std::vector<Waiting> asked, const Result<peer::AlterPartitionAnswer>& answer);
  api::Answer<IsrChanged> outcome(const peer::AlteredPartition& altered) const;

  ControllerClient& controller_;
  const BrokerId self_;
  const std::function<BrokerEpoch()> epoch_;
  const std::function<ImagePtr()> image_;
  std::vector<Waiting> waiting_;
  bool under_way_ = false;
  std::shared_ptr<IsrRequests*> alive_ = std::make_shared<IsrRequests*>(this);  // null inside once this is gone
};

}  // namespace trilog
