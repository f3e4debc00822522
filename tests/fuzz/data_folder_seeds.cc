// Writes the seeds of data_folder_fuzz into a corpus folder: data_folder_seeds DIRECTORY. They are the folders of real
// nodes, without what is derived.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/broker/sim_broker.h"
#include "tests/fuzz/checksums.h"
#include "tests/fuzz/input.h"

namespace trilog::fuzz {
namespace {

FileForm form_of(const std::string& path) {
  auto named = [&](std::string_view name) { return path == name || path.ends_with("/" + std::string(name)); };
  if (path.ends_with(".log")) return FileForm::kBatches;
  if (named("marks") || named("vote") || named("durable")) return FileForm::kSlots;
  if (named("meta") || named("clean") || named("leader-epochs") || named("partition.meta")) return FileForm::kFrame;
  return FileForm::kRaw;
}

ByteView without_zeros(ByteView slot) {
  while (!slot.empty() && slot.back() == std::byte{0}) slot = slot.first(slot.size() - 1);
  return slot;
}

void add_folder(InputWriter& out, const sim::DiskImage& image, const std::string& folder, const std::string& inside) {
  for (const auto& [name, inode] : image.node(image.find(folder))->entries) {
    std::string path = inside.empty() ? name : inside + "/" + name;
    if (image.node(inode)->is_directory) {
      add_folder(out, image, folder + "/" + name, path);
      continue;
    }
    if (path.ends_with("index") || path.ends_with(".checksum") || path.ends_with(".snapshot")) continue;
    FileForm form = form_of(path);
    ByteView content = image.content(inode);
    out.piece(as_bytes(path)).byte(static_cast<uint8_t>(static_cast<int>(form) | 0x80));
    if (form != FileForm::kSlots) {
      out.piece(content);
      continue;
    }
    CHECK_EQ(content.size(), 2 * kSlotBytes);
    out.piece(without_zeros(content.first(kSlotBytes))).piece(without_zeros(content.subspan(kSlotBytes)));
  }
}

void write_all(const std::string& corpus) {
  const std::string to = corpus + "/data_folder_fuzz";
  std::filesystem::create_directories(to);
  for (const char* name : {"new", "crashed", "stopped"}) {
    std::string kind = name;
    testing::SimBroker node;
    CHECK(node.try_start().ok());
    if (kind != "new") {
      CHECK(node.create_topic("t", 1).ok());
      for (int i = 0; i < 3; ++i) CHECK(node.produce("t", "key", "value", 0).ok());
      CHECK(node.commit("g", "t", 0, 2).ok());
      node.world.run_for(20'000'000'000);  // marks are written
    }
    if (kind == "stopped") CHECK(node.stop().ok());
    if (kind != "stopped") node.power_cut();
    InputWriter out;
    add_folder(out, node.disk.image(), "data", "");
    std::ofstream(to + "/" + kind, std::ios::binary | std::ios::trunc) << out.text();
  }
}

}  // namespace
}  // namespace trilog::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: data_folder_seeds DIRECTORY\n");
    return 2;
  }
  trilog::fuzz::write_all(argv[1]);
  return 0;
}
