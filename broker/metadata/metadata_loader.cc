#include "broker/metadata/metadata_loader.h"

#include "storage/base/codec.h"

namespace trilog {

MetadataLoader::MetadataLoader() : image_(std::make_shared<const MetadataImage>()) {}

void MetadataLoader::subscribe(Subscriber subscriber) { subscribers_.push_back(std::move(subscriber)); }

Status MetadataLoader::apply(Offset first, const std::vector<ByteView>& records) {
  auto delta = std::make_shared<MetadataDelta>(image_);
  for (size_t i = 0; i < records.size(); ++i) {
    MetadataRecord record = TRY(decode_metadata_record(records[i]));
    TRY(delta->apply(record, first + static_cast<int64_t>(i)));
  }
  publish(std::move(delta));
  return {};
}

// A snapshot is a row of (length, record), in the order of MetadataImage::to_records().
Bytes MetadataLoader::make_snapshot() const {
  Bytes out;
  ByteWriter writer(out);
  for (const MetadataRecord& record : image_->to_records()) writer.write_sized_bytes(encode_metadata_record(record));
  return out;
}

Status MetadataLoader::load_snapshot(Offset applied, ByteView snapshot) {
  auto delta = std::make_shared<MetadataDelta>(std::make_shared<const MetadataImage>());
  ByteReader reader(snapshot);
  while (!reader.at_end()) {
    ByteView bytes = reader.read_sized_bytes();
    if (!reader.ok()) return Status(Errc::kCorruption, "metadata snapshot ends inside a record");
    MetadataRecord record = TRY(decode_metadata_record(bytes));
    TRY(delta->apply(record, applied));
  }
  delta->replaces(*image_);
  publish(std::move(delta));
  return {};
}

void MetadataLoader::publish(std::shared_ptr<MetadataDelta> delta) {
  image_ = delta->build();
  for (const Subscriber& subscriber : subscribers_) subscriber(image_, delta);
}

}  // namespace trilog
