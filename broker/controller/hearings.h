// Hearings (C8): before a replica that restarted uncleanly is elected from an ELR, the controller asks so many members
// how far their logs reach that one of them must have everything, and takes the furthest. This class finds the
// partitions that need it, asks each broker once for all of them, and hands over who won. It decides nothing: the
// outcome is checked against the committed state again when it is planned.
//
// On the thread of shard 0. Does nothing, and sets no timer, while no partition needs it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "broker/controller/controller.h"
#include "broker/controller/isr_control.h"
#include "broker/controller/partition_control.h"

namespace trilog {

class Hearings {
 public:
  using Won = std::function<void(std::vector<HeardElection>)>;
  Hearings(Env& env, std::function<ImagePtr()> image, Won won);
  ~Hearings();
  Hearings(const Hearings&) = delete;
  Hearings& operator=(const Hearings&) = delete;

  void set_peers(ControllerPeers::Hear hear) { hear_ = std::move(hear); }
  // Somebody may have become fit to be heard, or a partition may have lost its leader. Until stop() it asks again by
  // itself while enough members are there and not all of them answered.
  void look();
  void stop();

  static constexpr int64_t kRoundNs = 300'000'000;  // then those who have answered must do
  static constexpr int64_t kPauseNs = 200'000'000;  // between rounds

 private:
  struct Case {
    PartitionEpoch partition_epoch{-1};
    int32_t min_in_sync = 1;
    std::vector<BrokerId> members;  // fit to be heard
    std::vector<Heard> heard;
  };
  struct Round {
    std::map<TopicPartition, Case> cases;
    std::map<BrokerId, BrokerEpoch> processes;
    size_t calls = 0;
  };
  void begin();
  void ask(BrokerId broker, std::vector<TopicPartition> partitions);
  void on_answer(BrokerId broker, const Result<peer::HearingAnswer>& answer);
  void end_round();
  void wait(int64_t delay_ns, void (Hearings::*then)());

  Env& env_;
  const std::function<ImagePtr()> image_;
  const Won won_;
  ControllerPeers::Hear hear_;
  std::unique_ptr<Round> round_;
  uint64_t round_number_ = 0;
  bool look_again_ = false;
  TimerId timer_ = 0;
  std::shared_ptr<Hearings*> self_ = std::make_shared<Hearings*>(this);  // null inside once this is gone
};

}  // namespace trilog
