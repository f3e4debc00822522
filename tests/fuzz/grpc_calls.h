// The input of grpc_fuzz: calls, one after another until the input ends.
//
//   1 method   index into kMethods
//   1 how      low three bits: how many messages, of a stream (others have one); the rest are Hows
//   messages   2 length | bytes
#pragma once

#include <cstdint>
#include <string_view>

namespace trilog::fuzz {

inline constexpr std::string_view kMethods[] = {
    "/trilog.v1.Broker/Produce",
    "/trilog.v1.Broker/ProduceStream",
    "/trilog.v1.Broker/Fetch",
    "/trilog.v1.Broker/Consume",
    "/trilog.v1.Broker/InitProducer",
    "/trilog.v1.Broker/ListOffsets",
    "/trilog.v1.Broker/CommitOffsets",
    "/trilog.v1.Broker/FetchOffsets",
    "/trilog.v1.Admin/CreateTopic",
    "/trilog.v1.Admin/DeleteTopic",
    "/trilog.v1.Admin/ListTopics",
    "/trilog.v1.Admin/DescribeTopic",
    "/trilog.v1.Admin/AlterTopic",
    "/trilog.v1.Admin/TrimTopic",
    "/trilog.v1.Admin/DescribeCluster",
    "/trilog.v1.Admin/ListGroups",
    "/trilog.v1.Admin/DescribeGroup",
    "/trilog.v1.Admin/DeleteGroup",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/trilog.v1.Admin/MoveLeader",  // at the end: seeds know methods by their index
    "/trilog.v1.Admin/ElectLeader",
    "/trilog.v1.Admin/DrainNode",
    "/trilog.v1.Admin/ReplaceVoter",
    "/trilog.v1.Admin/RecoverQuorum",
};

enum How : uint8_t {
  kMessagesMask = 0x07,
  kSliced = 0x08,     // messages come in slices of a few bytes
  kBatch = 0x10,      // a message is a record batch: its checksum is made right, and a ProduceRequest put around it
  kCancelled = 0x20,  // the client goes away in the middle
  kAnswered = 0x40,   // the next call waits until everything that can happen at once has happened
  kStopping = 0x80,   // the node begins to stop
};

inline constexpr std::string_view kTopic = "t";  // is there, with two partitions and a few records

}  // namespace trilog::fuzz
