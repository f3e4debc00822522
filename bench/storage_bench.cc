// The storage floor in small pieces: checksum, the walk over a produced batch, building, compressing. README.md tells
// how to read the figures.
#include <benchmark/benchmark.h>

#include <random>
#include <string>

#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"
#include "storage/record/record_batch_builder.h"

namespace trilog {
namespace {

constexpr size_t kBatchBytes = 1 << 20;

// Half random, half repeated: compresses to something like text.
Bytes make_value(size_t size) {
  std::mt19937_64 random(7);
  Bytes value(size);
  for (size_t i = 0; i < size; ++i) {
    value.data()[i] = static_cast<std::byte>(i % 16 < 8 ? random() % 64 + 32 : 'x');
  }
  return value;
}

// A batch of about a mebibyte with records of `record_bytes`.
Bytes make_batch(size_t record_bytes, Codec codec = Codec::kNone) {
  RecordBatchBuilder builder(codec);
  const Bytes value = make_value(record_bytes);
  while (builder.size() + record_bytes < kBatchBytes) {
    std::string key = "key-" + std::to_string(builder.count());
    builder.add(1'700'000'000'000 + builder.count(), as_bytes(key), value);
  }
  return builder.build().value();
}

void count_batch(benchmark::State& state, size_t bytes, int32_t records) {
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
  state.counters["records"] = benchmark::Counter(static_cast<double>(records) * static_cast<double>(state.iterations()),
                                                 benchmark::Counter::kIsRate);
}

void checksum(benchmark::State& state) {
  const Bytes bytes = make_value(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(bytes));
  state.SetBytesProcessed(state.range(0) * state.iterations());
}
BENCHMARK(checksum)->Arg(128)->Arg(1 << 10)->Arg(64 << 10)->Arg(1 << 20);

void check_records(benchmark::State& state) {
  const Bytes bytes = make_batch(static_cast<size_t>(state.range(0)));
  const RecordBatch batch = RecordBatch::parse(bytes).value();
  for (auto _ : state) {
    if (!batch.check_records().ok()) state.SkipWithError("damaged");
  }
  count_batch(state, bytes.size(), batch.record_count());
}
BENCHMARK(check_records)->Arg(10)->Arg(100)->Arg(1000);

// All that a produced batch passes before it is written: frame, checksum, walk, stamps.
void validate_batch(benchmark::State& state) {
  Bytes bytes = make_batch(static_cast<size_t>(state.range(0)));
  int32_t records = 0;
  for (auto _ : state) {
    Result<RecordBatch> batch = RecordBatch::parse(bytes);
    if (!batch.ok() || !batch->crc_matches() || !batch->check_records().ok()) state.SkipWithError("damaged");
    records = batch->record_count();
    RecordBatch::set_base_offset(bytes.mutable_view(), Offset(state.iterations()));
    RecordBatch::set_leader_epoch(bytes.mutable_view(), LeaderEpoch(1));
  }
  count_batch(state, bytes.size(), records);
}
BENCHMARK(validate_batch)->Arg(10)->Arg(100)->Arg(1000);

void build_batch(benchmark::State& state) {
  const Bytes value = make_value(static_cast<size_t>(state.range(0)));
  RecordBatchBuilder builder;
  size_t bytes = 0;
  int32_t records = 0;
  for (auto _ : state) {
    builder.reserve(kBatchBytes);
    while (builder.size() + value.size() < kBatchBytes) builder.add(1'700'000'000'000, std::nullopt, value);
    records = builder.count();
    Bytes batch = builder.build().value();
    bytes = batch.size();
    benchmark::DoNotOptimize(batch.data());
  }
  count_batch(state, bytes, records);
}
BENCHMARK(build_batch)->Arg(10)->Arg(100)->Arg(1000);

void read_records(benchmark::State& state) {
  const auto codec = static_cast<Codec>(state.range(0));
  const Bytes bytes = make_batch(100, codec);
  const RecordBatch batch = RecordBatch::parse(bytes).value();
  for (auto _ : state) {
    RecordIterator iterator = RecordIterator::open(batch, 2 * kBatchBytes).value();
    while (std::optional<RecordView> record = iterator.next().value()) benchmark::DoNotOptimize(record->value);
  }
  state.SetLabel(std::string(codec_name(codec)) + ", " + std::to_string(bytes.size() >> 10) + " KiB");
  count_batch(state, kBatchBytes, batch.record_count());
}
BENCHMARK(read_records)->DenseRange(0, 4);

void compress_block(benchmark::State& state) {
  const auto codec = static_cast<Codec>(state.range(0));
  const Bytes batch = make_batch(100);
  const ByteView records = batch.view().subspan(kBatchHeaderBytes);
  for (auto _ : state) benchmark::DoNotOptimize(compress(codec, records).value().data());
  state.SetLabel(std::string(codec_name(codec)));
  state.SetBytesProcessed(static_cast<int64_t>(records.size()) * state.iterations());
}
BENCHMARK(compress_block)->DenseRange(1, 4);

}  // namespace
}  // namespace trilog

BENCHMARK_MAIN();
