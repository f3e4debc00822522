// GroupClaims: the Consume streams of this process that hold groups. A coordinator knows claims from memory only: when
// another node takes over, or the same one anew, each claim is renewed there, so that a stream, and who reads through
// it, outlives the coordinator. Private to this folder.
//
// On the thread of shard 0, but what it is given to ask with answers on any.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "storage/base/function.h"
#include "storage/env/env.h"

namespace trilog {

class GroupClaims {
 public:
  using Answered = UniqueFunction<void(api::Answer<api::GroupClaim>)>;  // on the thread of shard 0
  using Ask = std::function<void(api::ClaimGroupRequest, Answered)>;
  // `release`: of a claim that was renewed although its stream had ended meanwhile.
  using Release = std::function<void(const std::string& group, api::StreamId stream)>;
  using Lost = UniqueFunction<void(const api::Error&)>;

  GroupClaims(Env& env, std::function<ImagePtr()> image, Ask ask, Release release);
  ~GroupClaims();
  GroupClaims(const GroupClaims&) = delete;
  GroupClaims& operator=(const GroupClaims&) = delete;

  // `lost` runs once if another stream has the group now, or may have had it; not after remove().
  void add(api::ClaimGroupRequest request, api::GroupClaim granted, Lost lost);
  void remove(api::StreamId stream);
  // The image changed: asks again for those whose coordinator is not the one that granted them.
  void follow();
  // Likewise for this one, because its coordinator does not know it. False if it is not held any more.
  bool refused(api::StreamId stream);

  static constexpr int64_t kAgainNs = 50'000'000;  // after an answer that is no decision

 private:
  struct Held {
    api::ClaimGroupRequest request;
    api::GroupClaim granted;
    Lost lost;
    bool renewing = false;
  };
  void renew(api::StreamId stream);
  void answered(api::StreamId stream, const std::string& group, api::Answer<api::GroupClaim> answer);

  Env& env_;
  const std::function<ImagePtr()> image_;
  const Ask ask_;
  const Release release_;
  std::map<api::StreamId, Held> held_;
  const std::shared_ptr<GroupClaims*> alive_ = std::make_shared<GroupClaims*>(this);
};

}  // namespace trilog
