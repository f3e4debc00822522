#include "storage/base/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trilog {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<std::string> kCommands = {"produce", "consume", "topic", "group", "cluster", "up"};

TEST(Names, TheNearestNameIsFound) {
  EXPECT_EQ(most_similar_name("prodcue", kCommands), "produce");
  EXPECT_EQ(most_similar_name("topics", kCommands), "topic");
  EXPECT_EQ(most_similar_name("goup", kCommands), "group");
  EXPECT_EQ(most_similar_name("ordrs", {"orders", "orders-eu"}), "orders");
}

TEST(Names, WhatIsFarAwayIsNotGuessed) {
  EXPECT_EQ(most_similar_name("payments", kCommands), std::nullopt);
  EXPECT_EQ(most_similar_name("", kCommands), std::nullopt);
  EXPECT_EQ(most_similar_name("x", {}), std::nullopt);
}

TEST(Names, ThreeLettersAreEnoughOfABeginning) {
  EXPECT_EQ(most_similar_name("retention", {"retention.minutes.of.all"}), "retention.minutes.of.all");
  EXPECT_EQ(most_similar_name("con", kCommands), "consume");
  EXPECT_EQ(most_similar_name("co", kCommands), std::nullopt);
}

TEST(Names, SeveralComeNearestFirstThenByNameAndNoMoreThanAsked) {
  std::vector<std::string> known = {"orders3", "orders", "orders2", "ordering-of-things"};
  EXPECT_THAT(similar_names("orders", known, 5), ElementsAre("orders", "orders2", "orders3"));
  EXPECT_THAT(similar_names("orders", known, 2), ElementsAre("orders", "orders2"));
  EXPECT_THAT(similar_names("orders", known, 0), IsEmpty());
}

TEST(Names, OverlongNamesAreNotCompared) {
  std::string longest(250, 'a');
  EXPECT_EQ(most_similar_name(longest, {longest}), longest);
  EXPECT_EQ(most_similar_name(longest + "a", {longest}), std::nullopt);
  EXPECT_EQ(most_similar_name(longest, {longest + "a"}), std::nullopt);
}

}  // namespace
}  // namespace trilog
