#include "tests/storage/crash/log_case.h"

#include <algorithm>
#include <utility>

#include "tests/support/batches.h"

namespace trilog::crash {
namespace {

std::string text(Offset offset) { return std::to_string(offset.value()); }
std::string name(const LogNode::Entry& entry) { return "log " + entry.spec.meta.topic + ": "; }

Bytes joined(const Timeline& batches) {
  Bytes bytes;
  for (const ModelBatch& batch : batches) bytes.append(batch.bytes);
  return bytes;
}

std::shared_ptr<const Timeline> longer(const Timeline& timeline, const Timeline& more) {
  Timeline result = timeline;
  result.insert(result.end(), more.begin(), more.end());
  return std::make_shared<const Timeline>(std::move(result));
}

std::shared_ptr<const Timeline> cut(const Timeline& timeline, Offset end) {
  auto kept = static_cast<std::ptrdiff_t>(batches_below(timeline, end));
  return std::make_shared<const Timeline>(timeline.begin(), timeline.begin() + kept);
}

}  // namespace

std::unique_ptr<CrashCase> make_log_case() { return std::make_unique<LogCase>(); }

sim::Recording LogCase::record(uint64_t seed, size_t steps) {
  static constexpr Step kSteps[] = {
      {&LogCase::append, 34},       {&LogCase::request_sync, 12},        {&LogCase::settle, 12},
      {&LogCase::let_time_pass, 4}, {&LogCase::raise_high_watermark, 6}, {&LogCase::write_marks, 6},
      {&LogCase::truncate, 4},      {&LogCase::advance_start, 3},        {&LogCase::apply_retention, 4},
      {&LogCase::begin_epoch, 3},   {&LogCase::change_meta, 2},          {&LogCase::stop_cleanly, 3},
      {&LogCase::kill, 3},          {&LogCase::fail_a_sync, 1},          {&LogCase::append_on_a_full_disk, 2},
      {&LogCase::replace_topic, 1},
  };
  world_ = std::make_unique<sim::World>(seed);
  disk_ = std::make_unique<sim::SimDisk>(world_->scheduler());
  random_ = sim::SeededRandom(seed);
  {
    auto setup = world_->make_env(*disk_);
    CHECK(setup->files().create_directories(kDataFolder).ok());
  }
  disk_->start_recording();
  make_topic();
  if (random_.chance(50)) make_topic();
  start_node("first start");
  uint32_t weights = 0;
  for (const Step& step : kSteps) weights += step.weight;
  for (size_t i = 0; i < steps && !ended_; ++i) {
    uint64_t draw = random_.below(weights);
    for (const Step& step : kSteps) {
      if (draw < step.weight) {
        (this->*step.run)();
        break;
      }
      draw -= step.weight;
    }
  }
  sim::Recording recording = disk_->stop_recording();
  env_.reset();
  node_.reset();
  return recording;
}

// A topic of one partition with small segments, so that a short program rolls.
void LogCase::make_topic() {
  LogExpectation made;
  ++topics_made_;
  made.meta.topic_id = TopicId(7, topics_made_);
  made.meta.topic = "t" + std::to_string(topics_made_);
  made.meta.replicas = {BrokerId(1)};
  made.meta_allowed = {made.meta};
  made.config.segment_bytes = 1024 + random_.below(16 << 10);
  made.config.segment_ms = 10'000;
  made.config.index_interval_bytes = static_cast<uint32_t>(64 + random_.below(1024));
  made.config.batch_bytes_max = 1u << 20;
  made.config.retention_bytes = random_.chance(50) ? static_cast<int64_t>(random_.below(16 << 10)) : -1;
  made.config.retention_ms = random_.chance(50) ? 20'000 : -1;
  now_[{made.meta.topic_id, made.meta.partition}] = std::move(made);
}

void LogCase::start_node(const std::string& why) {
  expect(true, why);
  env_.reset();  // its tasks die before the logs that they refer to
  node_.reset();
  env_ = world_->make_env(*disk_);
  node_.emplace(*env_);
  std::vector<LogSpec> specs;
  for (const auto& [id, log] : now_) {
    if (log.presence == LogExpectation::Presence::kPresent) specs.push_back({log.meta, log.config});
  }
  Status started = node_->start(specs);
  if (!started.ok()) check_failed(__FILE__, __LINE__, "the node starts", started.to_string());
  for (auto& [id, entry] : node_->entries()) listen(id);
  adopt_recovered();
}

void LogCase::listen(const TopicPartition& id) {
  node_->entries().at(id).log->set_durable_listener([this, id] {
    const LogNode::Entry& entry = node_->entries().at(id);
    if (entry.log->failed()) return;
    LogExpectation& log = now_.at(id);
    log.acknowledged = std::max(log.acknowledged, entry.log->durable_end());
    expect(true, name(entry) + "acknowledged up to " + text(log.acknowledged));
  });
}

// What a restart found is what the log holds from now on. A kill is a crash too, so it is checked like one.
void LogCase::adopt_recovered() {
  for (auto& [id, entry] : node_->entries()) {
    LogExpectation& log = now_.at(id);
    LogComparison comparison(*entry.log, log);
    std::string wrong = comparison.run(random_.next());
    if (!wrong.empty()) check_failed(__FILE__, __LINE__, "a restart within the program", name(entry) + wrong);
    // A log with a hole has no single row of batches to go on with.
    if (!comparison.holes().empty()) {
      ended_ = true;
      expectations_.last().at(id).holes = comparison.holes();
      continue;
    }
    log.timeline = std::make_shared<const Timeline>(comparison.found());
    log.failed_appends = std::make_shared<const Timeline>();
    log.acknowledged = entry.log->log_end();
    log.start_least = log.start_most = entry.log->log_start();
    log.high_watermark_least = entry.high_watermark;
  }
  if (!ended_) expect(true, "started");
}

LogNode::Entry& LogCase::pick() {
  auto at = node_->entries().begin();
  std::advance(at, random_.below(node_->entries().size()));
  return at->second;
}

// One to four batches that continue the log, some of producers with sequences.
Timeline LogCase::draw_batches(const LogNode::Entry& entry) {
  const Timeline& timeline = *now_.at(entry.spec.id()).timeline;
  ModelProducers producers = replay_producers(timeline);
  Timeline drawn;
  Offset at = entry.log->log_end();
  uint64_t count = random_.chance(60) ? 1 : 2 + random_.below(3);
  for (uint64_t i = 0; i < count; ++i) {
    ModelBatch batch;
    BatchProducer producer;
    if (random_.chance(60)) {
      producer.id = ProducerId(static_cast<int64_t>(1 + random_.below(3)));
      ModelProducer& state = producers[producer.id];
      bool bump = state.batches.empty() || random_.chance(5);
      producer.epoch = bump ? state.epoch + 1 : state.epoch;
      producer.base_sequence = bump ? 0 : state.batches.back().last_sequence + 1;
    }
    std::vector<testing::TestRecord> records(1 + random_.below(4));
    int64_t now_ms = env_->clock().wall_ms();
    for (testing::TestRecord& record : records) {
      uint64_t size = random_.chance(10) ? random_.below(9000) : random_.below(300);
      std::string value(size, static_cast<char>('a' + random_.below(26)));
      // Content differs from batch to batch, so that one standing in for another is noticed.
      record.key = std::to_string(random_.next());
      record.value = std::move(value);
      record.timestamp_ms = now_ms + static_cast<int64_t>(random_.below(100)) - 50;
      batch.timestamps.push_back(record.timestamp_ms);
    }
    if (random_.chance(5)) ++epoch_;
    Bytes bytes = testing::make_batch(records, {.producer = producer, .base_offset = at, .leader_epoch = epoch_});
    RecordBatch parsed = RecordBatch::parse(bytes).value();
    batch.base = at;
    batch.next = at = parsed.next_offset();
    batch.epoch = epoch_;
    batch.producer = producer.id;
    batch.producer_epoch = producer.epoch;
    batch.first_sequence = parsed.base_sequence();
    batch.last_sequence = producer.id == kNoProducerId ? kNoSequence : parsed.last_sequence();
    if (producer.id != kNoProducerId) {
      ModelProducer& state = producers[producer.id];
      state.epoch = producer.epoch;
      state.batches.push_back({batch.first_sequence, batch.last_sequence, batch.base});
    }
    batch.bytes = SharedBytes(std::move(bytes));
    drawn.push_back(std::move(batch));
  }
  return drawn;
}

void LogCase::append() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  Timeline batches = draw_batches(entry);
  log.timeline = longer(*log.timeline, batches);
  expect(false, name(entry) + "append " + std::to_string(batches.size()) + " batches, offsets " +
                    text(batches.front().base) + " to " + text(batches.back().next));
  auto appended = entry.log->append(joined(batches));
  if (!appended.ok()) check_failed(__FILE__, __LINE__, "an append succeeds", appended.status().to_string());
  if (random_.chance(30)) entry.log->request_sync();
}

// Rule S8: until the refusal is out, the batches may be found after a crash; from then on they must not be.
void LogCase::append_on_a_full_disk() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  Timeline batches = draw_batches(entry);
  auto timeline = log.timeline;
  log.failed_appends = longer(*log.failed_appends, batches);
  expect(false, name(entry) + "append at " + text(batches.front().base) + " while the disk is full");
  disk_->set_capacity(disk_->bytes_used() + random_.below(joined(batches).size() + 500));
  auto appended = entry.log->append(joined(batches));
  disk_->set_capacity(UINT64_MAX);
  if (appended.ok()) log.timeline = longer(*timeline, batches);
  log.failed_appends = std::make_shared<const Timeline>();
  expect(!appended.ok(), appended.ok() ? "there was room" : "refused: " + appended.status().to_string());
  if (entry.log->failed()) kill();
}

void LogCase::request_sync() {
  LogNode::Entry& entry = pick();
  entry.log->request_sync();
  expect(false, name(entry) + "request a sync at " + text(entry.log->log_end()));
}

void LogCase::settle() {
  if (random_.chance(50)) {
    for (uint64_t events = random_.below(4); events > 0; --events) world_->run_one();
  } else {
    world_->run_until_idle();
  }
}

void LogCase::let_time_pass() { world_->run_for(static_cast<int64_t>(random_.below(15)) * 1'000'000'000); }

void LogCase::raise_high_watermark() {
  for (auto& [id, entry] : node_->entries()) {
    auto behind = static_cast<uint64_t>(entry.log->durable_end() - entry.high_watermark);
    entry.high_watermark =
        entry.log->durable_end() - static_cast<int64_t>(random_.chance(60) ? 0 : random_.below(behind + 1));
  }
}

void LogCase::write_marks_now() {
  if (node_->marks_file().writing()) world_->run_until_idle();
  Marks marks = node_->marks();
  CHECK(node_->marks_file().write_now(marks).ok());
  for (auto& [id, entry] : node_->entries()) {
    now_.at(id).start_least = std::max(now_.at(id).start_least, marks.at(id).log_start);
    now_.at(id).high_watermark_least = marks.at(id).high_watermark;
  }
  expect(true, "marks are written");
}

void LogCase::write_marks() {
  if (random_.chance(50) || node_->marks_file().writing()) return write_marks_now();
  expect(false, "begin to write marks");
  Marks marks = node_->marks();
  node_->marks_file().write(marks, [this, marks](const Status& status) {
    if (!status.ok()) return;
    for (const auto& [id, mark] : marks) {
      LogExpectation& log = now_.at(id);
      log.start_least = std::max(log.start_least, mark.log_start);
      log.high_watermark_least = std::max(log.high_watermark_least, mark.high_watermark);
    }
    expect(true, "marks are written");
  });
}

// What a follower does that has diverged: first the lowered mark, then the cut (S2). Never below the high watermark.
void LogCase::truncate() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  Offset least = std::max(entry.high_watermark, entry.log->log_start());
  size_t from = batches_below(*log.timeline, least);
  if (from >= log.timeline->size()) return;
  Offset end = (*log.timeline)[from + random_.below(log.timeline->size() - from)].base;
  if (end < least) return;
  log.acknowledged = std::min(log.acknowledged, end);
  expect(false, name(entry) + "lower the mark to " + text(end));
  if (node_->marks_file().writing()) world_->run_until_idle();
  log.acknowledged = std::min(log.acknowledged, end);
  Marks marks = node_->marks();
  LogMark& mark = marks.at(entry.spec.id());
  if (mark.durable_end > end) mark = {end, std::min(mark.high_watermark, end), mark.log_start, Offset(-1), 0};
  CHECK(node_->marks_file().write_now(marks).ok());
  expect(false, name(entry) + "truncate to " + text(end));
  Status truncated = entry.log->truncate_to(end);
  if (!truncated.ok()) check_failed(__FILE__, __LINE__, "a truncation succeeds", truncated.to_string());
  log.timeline = cut(*log.timeline, end);
  log.failed_appends = std::make_shared<const Timeline>();
  expect(true, name(entry) + "is truncated");
}

// What a follower does that is behind its leader's first record: it forgets everything, and goes on further up.
void LogCase::restart_at() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  if (node_->marks_file().writing()) world_->run_until_idle();
  Offset start = entry.log->log_end() + static_cast<int64_t>(1 + random_.below(50));
  auto emptied = std::make_shared<LogExpectation>(log);
  emptied->timeline = emptied->failed_appends = std::make_shared<const Timeline>();
  emptied->acknowledged = emptied->start_least = emptied->start_most = start;
  log.or_else = emptied;
  expect(false, name(entry) + "write the mark of an empty log at " + text(start));
  Marks marks = node_->marks();
  marks.at(entry.spec.id()) = {start, start, start, Offset(-1), 0};
  CHECK(node_->marks_file().write_now(marks).ok());
  log = *emptied;
  expect(true, name(entry) + "restart at " + text(start));
  Status restarted = entry.log->restart_at(start);
  if (!restarted.ok()) check_failed(__FILE__, __LINE__, "a log restarts", restarted.to_string());
  entry.high_watermark = log.high_watermark_least = start;
  expect(true, name(entry) + "is empty");
}

void LogCase::advance_start() {
  LogNode::Entry& entry = pick();
  Offset least = entry.log->log_start();
  if (entry.high_watermark <= least) return;
  auto room = static_cast<uint64_t>(entry.high_watermark - least);
  Offset start = least + static_cast<int64_t>(1 + random_.below(room));
  expected(entry).start_most = start;
  expect(false, name(entry) + "advance the start to " + text(start));
  entry.log->advance_start(start);
}

void LogCase::apply_retention() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  log.start_most = std::max(entry.log->log_start(), entry.high_watermark);
  expect(false, name(entry) + "retention, from " + text(entry.log->log_start()));
  entry.log->apply_retention(env_->clock().wall_ms(), random_.chance(80), entry.high_watermark);
  CHECK(entry.log->log_start() <= log.start_most);
  log.start_most = entry.log->log_start();
  expect(true, name(entry) + "retention left what begins at " + text(log.start_most));
}

void LogCase::begin_epoch() {
  LogNode::Entry& entry = pick();
  ++epoch_;
  expect(false, name(entry) + "begin epoch " + std::to_string(epoch_.value()));
  entry.log->begin_epoch(epoch_);
}

void LogCase::change_meta() {
  LogNode::Entry& entry = pick();
  LogExpectation& log = expected(entry);
  PartitionMeta changed = log.meta;
  changed.settings["retention.ms"] = std::to_string(random_.below(1000));
  log.meta_allowed.push_back(changed);
  expect(false, name(entry) + "change its partition.meta");
  Status set = entry.log->set_meta(changed);
  if (!set.ok()) check_failed(__FILE__, __LINE__, "partition.meta is replaced", set.to_string());
  log.meta = entry.spec.meta = changed;
  log.meta_allowed = {changed};
  expect(true, name(entry) + "partition.meta is changed");
}

void LogCase::stop_cleanly() {
  expect(false, "stop: close the logs");
  size_t open = node_->entries().size();
  for (auto& [id, entry] : node_->entries()) {
    entry.log->close([&open](const Status& status) {
      if (!status.ok()) check_failed(__FILE__, __LINE__, "a log closes", status.to_string());
      --open;
    });
  }
  world_->run_until_idle();
  CHECK_EQ(open, 0u);
  if (node_->marks_file().writing()) world_->run_until_idle();
  for (auto& [id, entry] : node_->entries()) {
    LogExpectation& log = now_.at(id);
    CHECK_EQ(entry.log->durable_end(), entry.log->log_end());
    log.acknowledged = entry.log->log_end();
  }
  expect(true, "stop: the logs are closed");
  CHECK(node_->write_clean_marker().ok());
  for (auto& [id, entry] : node_->entries()) now_.at(id).start_least = entry.log->log_start();
  start_node("stop: the clean marker is written; start");
  CHECK(node_->started_clean());
}

void LogCase::kill() { start_node("kill -9; start"); }

// Rule S3: the pages turn clean although nothing arrived, the process dies, and the next one must not believe what the
// cache shows.
void LogCase::fail_a_sync() {
  LogNode::Entry& entry = pick();
  disk_->add_fault({sim::DiskCall::kSync, ".log", 1, 1, Errc::kIo});
  expect(false, name(entry) + "a sync is going to fail");
  bool died = false;
  env_->on_fatal([&died](const Status&) { died = true; });
  entry.log->request_sync();
  world_->run_until_idle();
  disk_->clear_faults();
  env_->on_fatal({});
  if (died) start_node("the sync failed: die and start");
}

void LogCase::replace_topic() {
  TopicPartition id = pick().spec.id();
  if (node_->marks_file().writing()) world_->run_until_idle();
  LogExpectation& old = now_.at(id);
  old.presence = LogExpectation::Presence::kRemoving;
  expect(false, "remove topic " + old.meta.topic);
  node_->entries().at(id).log->abandon();
  node_->entries().erase(id);
  bool removed = false;
  node_->directory().remove(id, [this, id, &removed](const Status& status) {
    if (!status.ok()) check_failed(__FILE__, __LINE__, "a log is removed", status.to_string());
    now_.at(id).presence = LogExpectation::Presence::kAbsent;
    expect(true, "its name is gone");
    removed = true;
  });
  world_->run_until_idle();
  CHECK(removed);
  size_t before = now_.size();
  make_topic();
  CHECK_EQ(now_.size(), before + 1);
  auto made = now_.find({TopicId(7, topics_made_), PartitionId(0)});
  expect(false, "make topic " + made->second.meta.topic);
  CHECK(node_->open({made->second.meta, made->second.config}).ok());
  listen(made->first);
}

}  // namespace trilog::crash
