#include "client/consume_positions.h"

#include <algorithm>
#include <limits>

namespace trilog::client {
namespace {

int64_t begin_of(const v1::FetchedPartition& part) {
  return part.records_size() > 0 ? part.records(0).offset() : part.next_offset();
}

std::optional<std::string> flaw_of(const v1::FetchedPartition& part) {
  std::string name = part.topic() + "/" + std::to_string(part.partition());
  int64_t next = 0;
  for (const v1::Record& record : part.records()) {
    if (record.offset() < next || record.offset() == std::numeric_limits<int64_t>::max()) {
      return "offset " + std::to_string(record.offset()) + " of " + name + " where at least " + std::to_string(next) +
             " was next";
    }
    next = record.offset() + 1;
  }
  if (part.next_offset() >= next) return std::nullopt;
  return name + " goes on at " + std::to_string(part.next_offset()) + ", before the end of its records";
}

}  // namespace

std::optional<std::string> flaw_of(const v1::ConsumeResponse& response,
                                   const std::function<bool(const std::string&)>& reads) {
  auto unread = [&](const auto& place) { return place.partition() < 0 || !reads(place.topic()); };
  auto name = [](const auto& place) { return place.topic() + "/" + std::to_string(place.partition()); };
  if (response.event_case() == v1::ConsumeResponse::kRecords) {
    if (unread(response.records())) return "records of " + name(response.records()) + ", which is not read";
    return flaw_of(response.records());
  }
  for (const v1::Position& end : response.caught_up().partitions()) {
    if (unread(end)) return "the end of " + name(end) + ", which is not read";
    if (end.has_offset() && end.offset() < 0) return "a negative end of " + name(end);
  }
  return std::nullopt;
}

void ConsumePositions::set(const Position& position) {
  places_[{position.topic, position.partition}] = Place{.where = position, .old = {}};
}

void ConsumePositions::seek(const Position& position) {
  Place& place = places_[{position.topic, position.partition}];
  if (place.where.offset) {
    place.old.push_back(*place.where.offset);
  } else {
    place.old_start_known = false;
  }
  place.where = position;
  place.seeking = true;
}

void ConsumePositions::reconnected() {
  for (auto& [key, place] : places_) place = Place{.where = place.where, .old = {}};
}

std::optional<int> ConsumePositions::take(const v1::FetchedPartition& part) {
  Place& place = places_[{part.topic(), part.partition()}];
  int64_t begin = begin_of(part);
  auto old = std::find(place.old.begin(), place.old.end(), begin);
  bool is_old = old != place.old.end();
  if (is_old) *old = part.next_offset();
  if (place.seeking) {
    int64_t target = place.where.offset.value_or(part.log_start_offset());
    // Offsets have no holes, so what begins elsewhere is old as well.
    if (begin != target && (is_old || !place.old_start_known)) return std::nullopt;
    place = Place{.where = place.where, .old = {}};
    // Old answers that happen to reach the target are what was asked for, but the answer to the seek still comes.
    if (is_old) place.old.push_back(target);
  }
  int64_t from = place.where.offset.value_or(0);
  if (part.next_offset() <= from) return std::nullopt;
  int first = 0;
  while (first < part.records_size() && part.records(first).offset() < from) ++first;
  place.where = Position{part.topic(), part.partition(), part.next_offset()};
  return first;
}

void ConsumePositions::skip(const v1::FetchedPartition& part) {
  Place& place = places_[{part.topic(), part.partition()}];
  auto old = std::find(place.old.begin(), place.old.end(), begin_of(part));
  if (old != place.old.end()) {
    *old = part.next_offset();
  } else {
    place.old.push_back(part.next_offset());
  }
  if (!place.seeking && !place.where.offset) place.where = Position{part.topic(), part.partition(), begin_of(part)};
}

Position ConsumePositions::position(const std::string& topic, int32_t partition) const {
  auto place = places_.find({topic, partition});
  return place == places_.end() ? Position{topic, partition, {}} : place->second.where;
}

bool ConsumePositions::knows(const std::string& topic) const {
  auto place = places_.lower_bound({topic, std::numeric_limits<int32_t>::min()});
  return place != places_.end() && place->first.first == topic;
}

bool ConsumePositions::take_end(const v1::Position& end) {
  if (!end.has_offset()) return true;
  Place& place = places_[{end.topic(), end.partition()}];
  if (place.seeking && place.where.offset) {
    if (*place.where.offset != end.offset()) return false;
  } else if (place.seeking) {
    // Sought to the first record, whose offset is not known here: the position moves with the records.
    return std::find(place.old.begin(), place.old.end(), end.offset()) == place.old.end();
  }
  int64_t reached = std::max(place.where.offset.value_or(0), end.offset());
  place = Place{.where = {end.topic(), end.partition(), reached}, .old = {}};
  return true;
}

std::vector<Position> ConsumePositions::all() const {
  std::vector<Position> positions;
  for (const auto& [key, place] : places_) positions.push_back(place.where);
  return positions;
}

}  // namespace trilog::client
