// What the controller asks of brokers: whether they are there (C5), and how far their logs reach (C8).
#include <map>

#include "broker/broker_impl.h"

namespace trilog {

template <typename Answer, typename Request>
void BrokerImpl::ask_peer(BrokerId broker, PeerKind kind, const Request& request,
                          UniqueFunction<void(Result<Answer>)> done) {
  PeerFrame frame;
  frame.kind = kind;
  frame.body = peer::encode_peer_message(request);
  endpoints_[0]->calls.call(broker, PeerChannel::kControl, std::move(frame), kQuestionNs,
                            [done = std::move(done)](Result<PeerFrame> answer) mutable {
                              if (!answer.ok()) return done(answer.status());
                              done(peer::decode_peer_message<Answer>(answer->body));
                            });
}
template void BrokerImpl::ask_peer(BrokerId, PeerKind, const peer::ProbeRequest&,
                                   UniqueFunction<void(Result<peer::ProbeAnswer>)>);
template void BrokerImpl::ask_peer(BrokerId, PeerKind, const peer::HearingRequest&,
                                   UniqueFunction<void(Result<peer::HearingAnswer>)>);

peer::ProbeAnswer BrokerImpl::probe_answer() const {
  return {lifecycle_ ? lifecycle_->epoch() : BrokerEpoch(-1), loader_.image()->applied()};
}

// Every shard speaks for its partitions.
void BrokerImpl::hear(peer::HearingRequest request, UniqueFunction<void(peer::HearingAnswer)> done) {
  struct Operation {
    std::mutex mutex;
    peer::HearingAnswer answer;  // guarded by mutex
    UniqueFunction<void(peer::HearingAnswer)> done;
  };
  auto operation = std::make_shared<Operation>();
  operation->answer.epoch = lifecycle_->epoch();
  operation->done = std::move(done);
  std::vector<std::vector<TopicPartition>> by_shard(shards_.size());
  if (request.epoch == operation->answer.epoch) {
    for (const TopicPartition& partition : request.partitions) by_shard[shard_of(partition)].push_back(partition);
  }
  auto gather = std::make_shared<Gather>(shards_.size(), [this, operation] {
    shards_[0]->post([operation] { operation->done(std::move(operation->answer)); });
  });
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([operation, gather, partitions = std::move(by_shard[i]), shard = shards_[i].get()] {
      for (const TopicPartition& partition : partitions) {
        std::optional<ReplicaPosition> position = shard->replicas.position(partition);
        peer::HeardReplica heard{.partition = partition};
        if (position && !position->damaged) {
          heard.intact = true;
          heard.last_epoch = position->last_epoch;
          heard.log_end = position->durable_end;
        }
        std::lock_guard lock(operation->mutex);
        operation->answer.replicas.push_back(heard);
      }
      gather->arrived();
    });
  }
}

void BrokerImpl::answer_controller_question(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel,
                                            const PeerFrame& frame) {
  if (frame.call == 0) return;
  if (lifecycle_ == nullptr) return endpoint.calls.refuse(from, channel, frame, "this node is starting or stopping");
  if (frame.kind == PeerKind::kProbe) {
    auto request = peer::decode_peer_message<peer::ProbeRequest>(frame.body);
    if (!request.ok()) return endpoint.calls.refuse(from, channel, frame, request.status().message());
    return endpoint.calls.answer(from, channel, frame, peer::encode_peer_message(probe_answer()));
  }
  auto request = peer::decode_peer_message<peer::HearingRequest>(frame.body);
  if (!request.ok()) return endpoint.calls.refuse(from, channel, frame, request.status().message());
  PeerFrame question;
  question.kind = frame.kind;
  question.call = frame.call;
  hear(std::move(*request), [&endpoint, from, channel, question = std::make_shared<PeerFrame>(std::move(question))](
                                const peer::HearingAnswer& answer) {
    endpoint.calls.answer(from, channel, *question, peer::encode_peer_message(answer));
  });
}

}  // namespace trilog
