#include "broker/controller/sessions.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace trilog {

void Sessions::refused(BrokerId broker, BrokerEpoch epoch, int64_t now_ns) {
  Refusals& refusals = refusals_.try_emplace(broker, Refusals{epoch, now_ns, now_ns}).first->second;
  if (refusals.epoch != epoch) refusals = {epoch, now_ns, now_ns};
  refusals.last_ns = now_ns;
}

bool Sessions::refused_twice(BrokerId broker, BrokerEpoch epoch) const {
  auto found = refusals_.find(broker);
  return found != refusals_.end() && found->second.epoch == epoch &&
         found->second.last_ns - found->second.first_ns >= kRefusalsApart_ns;
}

void Sessions::take_office(const MetadataImage& image, std::optional<BrokerId> exempt, int64_t now_ns) {
  leave_office();
  exempt_ = exempt;
  for (const auto& [id, broker] : image.brokers()) sessions_[id] = Session{broker.epoch, now_ns + timeout_ns_};
}

void Sessions::leave_office() {
  sessions_.clear();
  handed_over_.clear();
  exempt_.reset();
}

void Sessions::registered(BrokerId broker, BrokerEpoch epoch, int64_t now_ns) {
  sessions_[broker] = Session{epoch, now_ns + timeout_ns_, true};
  handed_over_.erase(broker);
  refusals_.erase(broker);
}

void Sessions::heard(BrokerId broker, BrokerEpoch epoch, std::optional<Offset> applied, int64_t now_ns) {
  auto found = sessions_.find(broker);
  if (found == sessions_.end() || found->second.epoch != epoch) return;
  Session& session = found->second;
  session.end_ns = now_ns + timeout_ns_;
  session.heard = true;
  session.gone = false;
  if (applied) session.applied = std::max(session.applied, *applied);
  refusals_.erase(broker);
}

void Sessions::found_gone(BrokerId broker) {
  auto found = sessions_.find(broker);
  if (found != sessions_.end()) found->second.gone = true;
}

void Sessions::restart_all(int64_t now_ns) {
  for (auto& [broker, session] : sessions_) session.end_ns = std::max(session.end_ns, now_ns + timeout_ns_);
}

bool Sessions::over(BrokerId broker, const Session& session, int64_t now_ns) const {
  return session.gone || now_ns >= session.end_ns || refused_twice(broker, session.epoch);
}

const Sessions::Session* Sessions::session_of(const BrokerImage& broker) const {
  auto found = sessions_.find(broker.id);
  return found != sessions_.end() && found->second.epoch == broker.epoch ? &found->second : nullptr;
}

bool Sessions::live(BrokerId broker, int64_t now_ns) const {
  auto found = sessions_.find(broker);
  return found != sessions_.end() && !over(broker, found->second, now_ns);
}

std::map<BrokerId, BrokerEpoch> Sessions::ended(const MetadataImage& image, int64_t now_ns) const {
  std::map<BrokerId, BrokerEpoch> ended;
  for (const auto& [id, broker] : image.brokers()) {
    const Session* session = session_of(broker);
    if (broker.fenced || exempt_ == id || session == nullptr) continue;
    if (over(id, *session, now_ns)) ended[id] = broker.epoch;
  }
  return ended;
}

std::set<BrokerId> Sessions::undecided(const MetadataImage& image, int64_t now_ns) const {
  std::set<BrokerId> undecided;
  for (const auto& [id, broker] : image.brokers()) {
    const Session* session = session_of(broker);
    if (broker.fenced || exempt_ == id || session == nullptr) continue;
    if (!session->heard && !over(id, *session, now_ns)) undecided.insert(id);
  }
  return undecided;
}

std::optional<int64_t> Sessions::next_end(const MetadataImage& image) const {
  std::optional<int64_t> next;
  for (const auto& [id, broker] : image.brokers()) {
    const Session* session = session_of(broker);
    if (broker.fenced || exempt_ == id || session == nullptr) continue;
    next = next ? std::min(*next, session->end_ns) : session->end_ns;
  }
  return next;
}

Offset Sessions::applied(BrokerId broker) const {
  auto found = sessions_.find(broker);
  return found == sessions_.end() ? kNoOffset : found->second.applied;
}

void Sessions::clock_told(BrokerId broker, int64_t ahead_ms) {
  auto found = sessions_.find(broker);
  if (found != sessions_.end()) found->second.clock_ahead_ms = ahead_ms;
}

bool Sessions::clock_agrees(BrokerId broker, int64_t now_ns) const {
  auto found = sessions_.find(broker);
  if (found == sessions_.end() || !found->second.clock_ahead_ms) return false;
  const int64_t ahead_ms = *found->second.clock_ahead_ms;
  int told = 0;
  int agree = 0;
  for (const auto& [id, session] : sessions_) {
    if (!session.clock_ahead_ms || over(id, session, now_ns)) continue;
    ++told;
    agree += std::abs(*session.clock_ahead_ms - ahead_ms) <= kClocksApart_ms;
  }
  return 2 * agree > told;
}

bool Sessions::disk_told(BrokerId broker, bool full) {
  auto found = sessions_.find(broker);
  return found != sessions_.end() && std::exchange(found->second.disk_full, full) != full;
}

std::set<BrokerId> Sessions::with_full_disk() const {
  std::set<BrokerId> brokers;
  for (const auto& [id, session] : sessions_) {
    if (session.disk_full) brokers.insert(id);
  }
  return brokers;
}

std::optional<Offset> Sessions::handed_over_at(BrokerId broker) const {
  auto found = handed_over_.find(broker);
  return found == handed_over_.end() ? std::nullopt : std::optional(found->second);
}

bool Sessions::all_others_applied(const MetadataImage& image, BrokerId broker, Offset at) const {
  for (const auto& [id, other] : image.brokers()) {
    if (id != broker && !other.fenced && applied(id) < at) return false;
  }
  return true;
}

}  // namespace trilog
