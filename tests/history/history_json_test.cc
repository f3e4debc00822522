#include "tests/history/history_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace trilog::history {
namespace {

using testing::HasSubstr;

constexpr const char* kProduceLine =
    R"({"op":"produce","client":"p1","invoked_ns":10,"answered_ns":25,"topic":"orders","partition":3,"records":[[0,71],[1,72]]})";

std::string why_refused(const std::string& line) { return std::string(operation_from_json(line).status().message()); }

TEST(HistoryJson, FillsInWhatMayBeLeftOut) {
  const AnyOperation operation = operation_from_json(kProduceLine).value();
  const auto& produce = std::get<Produce>(operation);
  EXPECT_EQ(produce.client, "p1");
  EXPECT_EQ(produce.invoked_ns, 10);
  EXPECT_EQ(produce.answered_ns, 25);
  EXPECT_EQ(produce.outcome, Outcome::kOk);
  EXPECT_EQ(produce.partition, (Partition{"orders", 3}));
  EXPECT_EQ(produce.records, (std::vector<Record>{{0, 71}, {1, 72}}));
  EXPECT_EQ(produce.acks, Acks::kAll);
  EXPECT_FALSE(produce.idempotent);
}

TEST(HistoryJson, WritesOneLine) {
  Produce produce;
  produce.client = "p\n1";
  produce.detail = "\xff";
  produce.records = {{0, UINT64_MAX}};
  const std::string line = to_json(AnyOperation(produce));
  EXPECT_THAT(line,
              HasSubstr(R"({"op":"produce","client":"p\n1","invoked_ns":0,"answered_ns":0,"outcome":"ok","detail":)"));
  EXPECT_THAT(line, HasSubstr(R"("records":[[0,18446744073709551615]])"));
  EXPECT_EQ(std::get<Produce>(operation_from_json(line).value()).records, produce.records);
}

TEST(HistoryJson, SaysWhatIsWrongInALine) {
  EXPECT_THAT(why_refused("nonsense"), HasSubstr("not a JSON object"));
  EXPECT_THAT(why_refused("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(why_refused("{}"), HasSubstr("field \"op\" is missing"));
  EXPECT_THAT(why_refused(R"({"op":"teleport"})"), HasSubstr("unknown op \"teleport\""));
  EXPECT_THAT(why_refused(R"({"op":7})"), HasSubstr("unknown op 7"));
  EXPECT_THAT(why_refused(R"({"op":"healed","client":"h","invoked_ns":1,"answered_ns":1})"),
              HasSubstr("field \"bound_ns\" is missing"));
  EXPECT_THAT(why_refused(R"({"op":"healed","client":"h","invoked_ns":1,"answered_ns":"x","bound_ns":1})"),
              HasSubstr("field \"answered_ns\" cannot be \"x\""));
  EXPECT_THAT(why_refused(R"({"op":"healed","client":"h","invoked_ns":1,"answered_ns":1.5,"bound_ns":1})"),
              HasSubstr("field \"answered_ns\" cannot be 1.5"));
  EXPECT_THAT(why_refused(R"({"op":"healed","client":"h","invoked_ns":2,"answered_ns":1,"bound_ns":1})"),
              HasSubstr("answered_ns is before invoked_ns"));
  EXPECT_THAT(why_refused(R"({"op":"healed","client":"h","invoked_ns":1,"answered_ns":1,"bound_ns":1,"bund":2})"),
              HasSubstr("a field that this operation does not have: \"bund\""));
  EXPECT_THAT(
      why_refused(R"({"op":"healed","client":"h","invoked_ns":1,"answered_ns":1,"bound_ns":1,"outcome":"maybe"})"),
      HasSubstr("field \"outcome\" cannot be \"maybe\""));
  const std::string line = kProduceLine;
  for (const char* records :
       {"[[0,-71]]", "[[0]]", "[0,71]", "[[0,71,2]]", "{}", "[[1e3,71]]", "[[9223372036854775808,1]]"}) {
    const std::string bad = line.substr(0, line.find("[[")) + records + "}";
    EXPECT_THAT(why_refused(bad), HasSubstr("field \"records\" cannot be")) << records;
  }
  EXPECT_THAT(
      why_refused(
          R"({"op":"produce","client":"p","invoked_ns":1,"answered_ns":1,"topic":"t","partition":4294967296,"records":[]})"),
      HasSubstr("field \"partition\" cannot be 4294967296"));
}

TEST(HistoryReader, NamesTheBadLine) {
  std::istringstream lines(std::string(kProduceLine) + "\n\nnonsense\n");
  History history;
  const Status status = HistoryReader(history).read(lines);
  EXPECT_EQ(status.code(), Errc::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 3: not a JSON object"));
}

TEST(HistoryReader, SkipsALastLineThatWasCutWhileItWasWritten) {
  const std::string whole = kProduceLine;
  std::istringstream cut(whole + "\n" + whole.substr(0, 40));
  std::istringstream cut_in_the_middle(whole.substr(0, 40) + "\n" + whole);
  History history;
  EXPECT_TRUE(HistoryReader(history).read(cut).ok());
  EXPECT_EQ(history.size(), 1u);
  EXPECT_FALSE(HistoryReader(history).read(cut_in_the_middle).ok());
}

TEST(HistoryReader, LetsTheAnswerTakeThePlaceOfTheIntent) {
  std::string intent = kProduceLine;
  intent.insert(intent.size() - 1, R"(,"outcome":"unknown")");
  std::istringstream lines(intent + "\n" + kProduceLine);
  History history;
  ASSERT_TRUE(HistoryReader(history).read(lines).ok());
  ASSERT_EQ(history.all<Produce>().size(), 1u);
  EXPECT_EQ(history.all<Produce>()[0].outcome, Outcome::kOk);
}

}  // namespace
}  // namespace trilog::history
