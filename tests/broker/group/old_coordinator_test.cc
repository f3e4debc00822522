// A coordinator that others may have replaced without its knowledge.
#include "broker/group/group_coordinator.h"
#include "storage/state/memory_state_store.h"
#include "tests/broker/replica/replica_trio.h"

namespace trilog::testing {
namespace {

class OldCoordinator : public ::testing::Test {
 protected:
  using Offsets = std::vector<api::CommittedOffset>;

  OldCoordinator() {
    trio_.add_topic(std::string(kOffsetsTopic));
    trio_.append(trio_.add_topic("orders"), "a");
    ReplicaTrio::Node& node = trio_.nodes.at(1);
    groups_ = std::make_unique<GroupCoordinator>(*node.env, GroupOptions(), *node.replicas,
                                                 [this]() -> Result<StateStore*> { return &store_; });
    groups_->apply(node.image, nullptr);
  }

  api::Answer<Offsets> commit(int64_t offset) {
    api::CommittedOffset entry{.topic = "orders", .partition = PartitionId(0), .offset = Offset(offset)};
    return wait_for(
        [&](auto done) { groups_->commit_offsets({.group = "billing", .offsets = {entry}}, std::move(done)); });
  }
  api::Answer<Offsets> fetch() {
    return wait_for([&](auto done) { groups_->fetch_offsets({.group = "billing"}, std::move(done)); });
  }
  template <typename Call>
  api::Answer<Offsets> wait_for(Call call) {
    std::optional<api::Answer<Offsets>> answer;
    call([&](api::Answer<Offsets> given) { answer.emplace(std::move(given)); });
    EXPECT_TRUE(trio_.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }

  MemoryStateStore store_{std::make_shared<MemoryStateMedium>()};
  ReplicaTrio trio_;
  std::unique_ptr<GroupCoordinator> groups_;
};

TEST_F(OldCoordinator, TellsNoCommittedOffsetsThatMayBeOld) {  // R18, X13
  auto committed = commit(1);
  ASSERT_TRUE(committed.ok()) << committed.error().message;
  ASSERT_FALSE(committed->front().error.has_value()) << committed->front().error->message;
  trio_.nodes.at(1).hears_controller = false;
  trio_.run_ms(3'300);
  auto fetched = fetch();
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code, api::ErrorCode::kLeaderNotAvailable);
  EXPECT_EQ(fetched.error().outcome, api::Outcome::kNotApplicable);
  trio_.nodes.at(1).hears_controller = true;
  trio_.run_ms(500);
  fetched = fetch();
  ASSERT_TRUE(fetched.ok()) << fetched.error().message;
  ASSERT_EQ(fetched->size(), 1u);
  EXPECT_EQ(fetched->front().offset, Offset(1));
}

}  // namespace
}  // namespace trilog::testing
