// Writes the seeds of log_recovery_fuzz into a corpus folder: log_seeds DIRECTORY. They are the folders of real logs:
// as a clean stop and as a crash leave them, with a torn tail, and with a hole.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "storage/log/log.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/log_files.h"
#include "tests/sim/sim_env.h"
#include "tests/support/batches.h"
#include "tests/support/partition.h"

namespace trilog::fuzz {
namespace {

using testing::kLogFolder;

class Writer {
 public:
  explicit Writer(std::string folder) : folder_(std::move(folder)) { std::filesystem::create_directories(folder_); }

  // A log of three segments and two epochs, with a producer; then `damage` is done to it.
  void write(const std::string& name, uint8_t how, const std::function<void(sim::SimDisk&)>& damage = {}) {
    sim::World world(7);
    sim::SimDisk disk(world.scheduler());
    auto env = world.make_env(disk);
    LogConfig config;
    config.segment_bytes = 600;
    config.index_interval_bytes = 150;
    auto log = Log::open(*env, std::string(kLogFolder), testing::test_meta(), config, std::nullopt, false).value();
    for (int i = 0; i < 12; ++i) {
      testing::TestBatchOptions options{.base_offset = log->log_end(), .leader_epoch = LeaderEpoch(i < 5 ? 1 : 3)};
      options.codec = i % 4 == 3 ? Codec::kLz4 : Codec::kNone;
      if (i % 3 == 0) options.producer = {ProducerId(5), ProducerEpoch(0), i / 3 * 2};
      int64_t now = testing::kTestTimestampMs + i;
      Bytes batch =
          testing::make_batch({{"k", "v" + std::to_string(i), {}, now}, {"l", "w", {{"h", "x"}}, now}}, options);
      CHECK(log->append(batch).ok());
      log->request_sync();
      world.run_until_idle();
    }
    if ((how & kClean) != 0) {
      log->close([](const Status& closed) { CHECK(closed.ok()); });
      world.run_until_idle();
    }
    LogMark mark = log->mark(log->durable_end());
    env.reset();
    log.reset();
    disk.power_cut(sim::CrashPolicy::lose_all());
    if (damage) damage(disk);
    put(name, how, mark, disk);
  }

 private:
  void put(const std::string& name, uint8_t how, const LogMark& mark, sim::SimDisk& disk) {
    InputWriter out;
    out.byte(how);
    if ((how & kKnown) != 0) {
      out.long_number(mark.durable_end.value()).long_number(mark.high_watermark.value());
      out.long_number(mark.log_start.value()).long_number(mark.segment.value());
      out.long_number(static_cast<int64_t>(mark.position));
    }
    const sim::DiskImage& image = disk.image();
    for (const auto& [file, inode] : image.node(image.find(kLogFolder))->entries) add(out, file, image.content(inode));
    std::ofstream(folder_ + "/" + name, std::ios::binary | std::ios::trunc) << out.text();
  }
  static void add(InputWriter& out, const std::string& file, ByteView content) {
    for (size_t i = 0; i < std::size(kLogFileKinds); ++i) {
      const LogFileKind& kind = kLogFileKinds[i];
      if (kind.numbered ? !file.ends_with(kind.name) : file != kind.name) continue;
      // The crc of batches with right checksums is right already: what is put into them later, too.
      out.byte(static_cast<uint8_t>(i | kChecksumsRight));
      out.long_number(kind.numbered ? std::stoll(file) : 0).piece(content);
      return;
    }
    CHECK(false);
  }

  const std::string folder_;
};

std::string segment(int64_t base) { return std::string(kLogFolder) + "/" + numbered_file(Offset(base), kLogSuffix); }

void write_all(const std::string& corpus) {
  Writer writer(corpus + "/log_recovery_fuzz");
  writer.write("clean", kClean | kKnown);
  writer.write("clean_without_mark", kClean);
  writer.write("crash", kKnown);
  writer.write("crash_without_mark", 0);
  writer.write("crash_marked_anew", kKnown | kMarkAnew);
  auto flip = [](int64_t base, uint64_t byte) {
    return [base, byte](sim::SimDisk& disk) { disk.flip_bit(segment(base), byte * 8); };
  };
  writer.write("length_of_the_first_batch", kKnown, flip(0, 9));
  writer.write("epoch_of_the_second_batch", 0, flip(0, 133));
  writer.write("offset_of_a_first_batch_behind_damage", 0, [](sim::SimDisk& disk) {
    disk.flip_bit(segment(0), 450 * 8);  // an epoch: checksums are made right
    disk.flip_bit(segment(12), 7 * 8);
  });
  writer.write("torn_tail", 0, [](sim::SimDisk& disk) {
    Bytes content = Bytes::copy_of(disk.image().content(disk.image().find(segment(0))));
    content.append(Bytes::copy_of(content.view().first(70)));
    disk.put_file(segment(0), content);
  });
}

}  // namespace
}  // namespace trilog::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: log_seeds DIRECTORY\n");
    return 2;
  }
  trilog::fuzz::write_all(argv[1]);
  return 0;
}
