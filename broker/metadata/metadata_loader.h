// MetadataLoader: committed bytes -> delta -> next image -> subscribers. Runs on the thread of shard 0.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "broker/metadata/metadata_image.h"

namespace trilog {

class MetadataLoader {
 public:
  using DeltaPtr = std::shared_ptr<const MetadataDelta>;  // may cross to other shards
  using Subscriber = std::function<void(const ImagePtr& image, const DeltaPtr& delta)>;
  MetadataLoader();
  // Called in the order of subscription, after every batch that changed something, with the image that holds the
  // change.
  void subscribe(Subscriber subscriber);
  // The records of one committed batch, the first of them at `first`. kCorruption or kUnsupported: this node must stop.
  Status apply(Offset first, const std::vector<ByteView>& records);
  // Replaces everything by a snapshot as of `applied`.
  Status load_snapshot(Offset applied, ByteView snapshot);
  Bytes make_snapshot() const;
  const ImagePtr& image() const { return image_; }

 private:
  void publish(std::shared_ptr<MetadataDelta> delta);
  ImagePtr image_;
  std::vector<Subscriber> subscribers_;
};

}  // namespace trilog
