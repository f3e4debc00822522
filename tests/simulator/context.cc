#include "tests/simulator/context.h"

#include <charconv>
#include <cstdio>

namespace trilog::simulator {

void Journal::note(const std::string& text) {
  char time[32];
  std::snprintf(time, sizeof(time), "%11.6f ", static_cast<double>(world_.now_ns()) / 1e9 - 1000);
  std::string line = time + text;
  if (show_) std::fprintf(stderr, "%s\n", line.c_str());
  lines_.push_back(std::move(line));
  if (lines_.size() > kLinesMax) lines_.pop_front();
}

std::string Journal::tail() const {
  std::string text;
  for (const std::string& line : lines_) text += line + "\n";
  return text;
}

int Context::pick_node() {
  for (int tries = 0; tries < 2; ++tries) {
    int number = static_cast<int>(draw(1, cluster.size()));
    if (cluster.runs(number)) return number;
  }
  return static_cast<int>(draw(1, cluster.size()));
}

ImagePtr Context::newest_image() const {
  ImagePtr newest;
  for (int number = 1; number <= cluster.size(); ++number) {
    if (!cluster.runs(number)) continue;
    ImagePtr image = cluster.broker(number)->image();
    if (!newest || image->applied() > newest->applied()) newest = image;
  }
  return newest;
}

const PartitionImage* Context::find_partition(const MetadataImage& image, const std::string& topic,
                                              int32_t partition) const {
  const TopicImage* found = image.find_topic(topic);
  if (found == nullptr || static_cast<size_t>(partition) >= found->partitions.size()) return nullptr;
  return &found->partitions[static_cast<size_t>(partition)];
}

int Context::leader_node(const std::string& topic, int32_t partition) {
  ImagePtr image = newest_image();
  const PartitionImage* found = image ? find_partition(*image, topic, partition) : nullptr;
  if (found == nullptr || found->leader == kNoBroker) return pick_node();
  return found->leader.value();
}

void Context::violation(std::string what) {
  journal.note("VIOLATION " + what);
  if (violations.size() < 10) violations.push_back(std::move(what));
}

std::string value_of(uint64_t token, size_t padding) {
  return "t" + std::to_string(token) + ":" + std::string(padding, static_cast<char>('a' + token % 26));
}

uint64_t token_of(std::string_view value) {
  uint64_t token = 0;
  if (!value.starts_with('t')) return 0;
  auto [end, error] = std::from_chars(value.data() + 1, value.data() + value.size(), token);
  return error == std::errc() && end != value.data() + value.size() && *end == ':' ? token : 0;
}

}  // namespace trilog::simulator
