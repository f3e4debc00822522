// BrokerLifecycle: this process in the eyes of the controller. Registers it when its metadata and its logs are there
// (C3, C8), keeps its session alive, lets it serve when it has caught up with its own registration (C4), and takes it
// out of the cluster in good order (C9).
//
//   metadata --current--> logs --opened--> registering --committed--> fenced --caught up--> active --shut_down()-->
//   leaving
//
// A cluster of one sends no heartbeats. On the thread of shard 0.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "broker/controller_client.h"
#include "broker/metadata/metadata_image.h"
#include "storage/env/env.h"

namespace trilog {

class BrokerLifecycle {
 public:
  struct Host {
    // The metadata is as new as what this node knew in its former life.
    std::function<bool()> is_current;
    std::function<ImagePtr()> image;
    // Opens the logs that the image gives this node and tells which of them are damaged. Once.
    std::function<void(UniqueFunction<void(std::vector<TopicPartition>)>)> open_logs;
    // The process has this epoch now; noted on the disk when this returns.
    std::function<Status(BrokerEpoch)> registered;
    // It refuses records for want of space (S8).
    std::function<bool()> disk_full;
    // The controller has confirmed a heartbeat that was sent then (R18); its metadata reached up to `applied`. And
    // whether this node's wall clock is that of most others (F14).
    std::function<void(int64_t sent_ns, Offset applied, bool clock_agrees)> confirmed;
    // Once: it may serve, or why it cannot start.
    std::function<void(Status)> admitted;
  };
  // `facts`: what the start found; epoch and damage are filled in here. `alone`: a cluster of one.
  BrokerLifecycle(Env& env, ControllerClient& controller, peer::RegisterBrokerRequest facts, bool alone, Host host);
  ~BrokerLifecycle();
  BrokerLifecycle(const BrokerLifecycle&) = delete;
  BrokerLifecycle& operator=(const BrokerLifecycle&) = delete;

  // Something it may wait for has happened: leadership, an image.
  void poke();
  // Hands over what this broker leads; it goes on serving meanwhile. `done` at the latest after kShutDownNs, or soon if
  // there is no controller to ask.
  void shut_down(UniqueFunction<void()> done);
  // After everything is closed: asks to be fenced, so that nobody has to find out. `done` within kFarewellNs.
  void farewell(UniqueFunction<void()> done);
  // Nothing is sent any more.
  void stop();

  BrokerEpoch epoch() const { return epoch_; }  // -1: not registered yet

  static constexpr int64_t kHeartbeatNs = 700'000'000;
  static constexpr int64_t kCallNs = 1'000'000'000;
  static constexpr int64_t kRetryNs = 50'000'000;
  static constexpr int64_t kEagerNs = 20'000'000;  // while it is fenced, or leaving
  static constexpr int64_t kShutDownNs = 5'000'000'000;
  static constexpr int64_t kShutDownUnheardNs = 1'000'000'000;
  static constexpr int64_t kFarewellNs = 1'000'000'000;
  static constexpr int64_t kOtherFolderNs = 10'000'000'000;  // then a start gives up: its id is another's

 private:
  enum class State { kMetadata, kLogs, kRegistering, kFenced, kActive, kLeaving, kStopped };
  void step();
  void step_later(int64_t delay_ns);
  void register_now();
  void on_registered(const Result<peer::RegisterBrokerAnswer>& answer);
  void other_folder(const std::string& message);
  bool image_shows_us(bool unfenced) const;
  bool image_shows_a_later_one() const;
  void register_later();
  void heartbeat();
  void on_heartbeat(int64_t sent_ns, const Result<peer::HeartbeatAnswer>& answer);
  void admit(Status status);
  void left();

  Env& env_;
  ControllerClient& controller_;
  peer::RegisterBrokerRequest facts_;
  const bool alone_;
  Host host_;
  State state_ = State::kMetadata;
  BrokerEpoch epoch_{-1};
  bool calling_ = false;
  bool admitted_ = false;
  int64_t refused_since_ns_ = 0;
  int64_t leaving_until_ns_ = 0;
  int64_t unheard_until_ns_ = 0;
  UniqueFunction<void()> left_;
  TimerId timer_ = 0;
  std::shared_ptr<BrokerLifecycle*> self_ = std::make_shared<BrokerLifecycle*>(this);  // null inside once this is gone
};

}  // namespace trilog
