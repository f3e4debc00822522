#include "broker/controller/hearings.h"

#include <algorithm>
#include <utility>

namespace trilog {

Hearings::Hearings(Env& env, std::function<ImagePtr()> image, Won won)
    : env_(env), image_(std::move(image)), won_(std::move(won)) {}

// The env may be gone already; what still runs finds `self_` empty.
Hearings::~Hearings() { *self_ = nullptr; }

void Hearings::stop() {
  if (timer_ != 0) env_.executor().cancel(std::exchange(timer_, 0));
  round_.reset();
  ++round_number_;
  look_again_ = false;
}

void Hearings::wait(int64_t delay_ns, void (Hearings::*then)()) {
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_ = env_.executor().schedule_after(delay_ns, [self = self_, then] {
    if (*self == nullptr) return;
    (*self)->timer_ = 0;
    ((*self)->*then)();
  });
}

void Hearings::look() {
  if (!hear_) return;
  if (round_ != nullptr) {
    look_again_ = true;
    return;
  }
  begin();
}

void Hearings::begin() {
  ImagePtr image = image_();
  auto round = std::make_unique<Round>();
  std::map<BrokerId, std::vector<TopicPartition>> questions;
  for (const auto& [name, topic] : image->topics()) {
    const int32_t minimum = min_in_sync(*topic);
    for (size_t p = 0; p < topic->partitions.size(); ++p) {
      const PartitionImage& partition = topic->partitions[p];
      if (!needs_hearing(partition, minimum)) continue;
      Case made{partition.partition_epoch, minimum, {}, {}};
      for (BrokerId member : partition.elr) {
        const BrokerImage* broker = image->find_broker(member);
        if (broker != nullptr && broker->eligible()) made.members.push_back(member);
      }
      // Fewer cannot decide it. Whoever joins them makes us look again.
      if (static_cast<int32_t>(made.members.size()) < minimum) continue;
      TopicPartition id{topic->id, PartitionId(static_cast<int32_t>(p))};
      for (BrokerId member : made.members) {
        round->processes[member] = image->find_broker(member)->epoch;
        questions[member].push_back(id);
      }
      round->cases.emplace(id, std::move(made));
    }
  }
  if (round->cases.empty()) return;
  round_ = std::move(round);
  ++round_number_;
  wait(kRoundNs, &Hearings::end_round);
  for (auto& [broker, partitions] : questions) {
    for (size_t from = 0; from < partitions.size(); from += peer::kHearingPartitionsMax) {
      size_t to = std::min(partitions.size(), from + peer::kHearingPartitionsMax);
      ask(broker, {partitions.begin() + static_cast<ptrdiff_t>(from), partitions.begin() + static_cast<ptrdiff_t>(to)});
    }
  }
}

void Hearings::ask(BrokerId broker, std::vector<TopicPartition> partitions) {
  ++round_->calls;
  peer::HearingRequest request{round_->processes.at(broker), std::move(partitions)};
  hear_(broker, std::move(request),
        [self = self_, number = round_number_, broker](const Result<peer::HearingAnswer>& answer) {
          if (*self != nullptr && (*self)->round_number_ == number) (*self)->on_answer(broker, answer);
        });
}

void Hearings::on_answer(BrokerId broker, const Result<peer::HearingAnswer>& answer) {
  if (round_ == nullptr) return;
  // Another process than the one that was asked has another log.
  if (answer.ok() && answer->epoch == round_->processes.at(broker)) {
    for (const peer::HeardReplica& replica : answer->replicas) {
      auto found = round_->cases.find(replica.partition);
      if (found == round_->cases.end() || !replica.intact || !contains(found->second.members, broker)) continue;
      found->second.heard.push_back({broker, replica.last_epoch, replica.log_end});
    }
  }
  if (--round_->calls == 0) end_round();
}

void Hearings::end_round() {
  if (round_ == nullptr) return;
  std::unique_ptr<Round> round = std::move(round_);
  ++round_number_;
  ImagePtr image = image_();
  std::vector<HeardElection> elections;
  for (const auto& [id, heard] : round->cases) {
    const TopicImage* topic = image->find_topic(id.topic);
    auto index = static_cast<size_t>(id.partition.value());
    if (topic == nullptr || index >= topic->partitions.size()) continue;
    BrokerId leader = choose_heard(topic->partitions[index], heard.heard, heard.min_in_sync);
    if (leader == kNoBroker) continue;
    elections.push_back({id, heard.partition_epoch, leader, round->processes.at(leader)});
  }
  const bool all = elections.size() == round->cases.size();
  if (!elections.empty()) won_(std::move(elections));
  const bool again = std::exchange(look_again_, false);
  if (all && !again) {
    if (timer_ != 0) env_.executor().cancel(std::exchange(timer_, 0));
    return;
  }
  wait(kPauseNs, &Hearings::begin);
}

}  // namespace trilog
