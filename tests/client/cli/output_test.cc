#include "client/cli/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "client/cli/completion.h"

namespace trilog::cli {
namespace {

using client::Error;
using testing::HasSubstr;
using testing::Not;

Error error(const std::string& code, bool retriable = false, Error::Outcome outcome = Error::Outcome::kNotWritten) {
  return {code, "what went wrong", retriable, outcome};
}

TEST(ExitCodes, SayWhatAScriptMayDoNext) {
  EXPECT_EQ(exit_code_of(error("USAGE")), 2);
  EXPECT_EQ(exit_code_of(error("RECORD_TOO_LARGE")), 1);
  EXPECT_EQ(exit_code_of(error("UNKNOWN_PRODUCER")), 1);
  EXPECT_EQ(exit_code_of(error("UNKNOWN_TOPIC")), 4);
  EXPECT_EQ(exit_code_of(error("UNKNOWN_PARTITION")), 4);
  EXPECT_EQ(exit_code_of(error("UNKNOWN_GROUP")), 4);
  EXPECT_EQ(exit_code_of(error("NO_SERVER", true)), 5);
  EXPECT_EQ(exit_code_of(error("NOT_ENOUGH_REPLICAS", true)), 5);
  EXPECT_EQ(exit_code_of(error("THROTTLED", true)), 5);
  EXPECT_EQ(exit_code_of(error("OUTCOME_UNKNOWN", true, Error::Outcome::kUnknown)), 3);
  EXPECT_EQ(exit_code_of(error("REQUEST_TIMED_OUT", true, Error::Outcome::kUnknown)), 3);
  EXPECT_EQ(exit_code_of(error("STORAGE_ERROR", false, Error::Outcome::kUnknown)), 3);
  EXPECT_EQ(exit_code_of(error("INTERRUPTED")), 130);
}

class OutputTest : public testing::Test {
 protected:
  CommonOptions common_;
};

TEST_F(OutputTest, AnErrorIsASentenceForPeopleAndAnObjectForScripts) {
  Error refused = error("RECORD_TOO_LARGE");
  refused.details["partition"] = "3";
  testing::internal::CaptureStderr();
  EXPECT_EQ(Output(common_).fail(refused, 7, "orders"), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "line 7: what went wrong\n");
  common_.json = true;
  testing::internal::CaptureStderr();
  EXPECT_EQ(Output(common_).fail(refused, 7, "orders"), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "{\"error\":{\"code\":\"RECORD_TOO_LARGE\",\"message\":\"what went wrong\",\"retriable\":false,"
            "\"outcome\":\"NOT_WRITTEN\",\"topic\":\"orders\",\"partition\":3,\"line\":7}}\n");
}

TEST_F(OutputTest, AnUnknownOutcomeIsSaid) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(Output(common_).fail(error("OUTCOME_UNKNOWN", true, Error::Outcome::kUnknown)), 3);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("may have been written"));
}

TEST_F(OutputTest, HintsAreForPeopleOnly) {
  testing::internal::CaptureStderr();
  Output(common_).hint("type this");
  common_.json = true;
  Output(common_).hint("not this");
  common_.json = false;
  common_.quiet = true;
  Output(common_).hint("nor this");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "type this\n");
}

TEST_F(OutputTest, ColumnsStayStraightWithNamesThatAreNotAscii) {
  testing::internal::CaptureStdout();
  Output(common_).table({{"a", "b", "c"}, {"größe", "1", "x"}, {"zz", "22"}});
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "a      b   c\ngröße  1   x\nzz     22\n");
}

TEST_F(OutputTest, BytesKeepTheirOrderWithLines) {
  testing::internal::CaptureStdout();
  Output output(common_);
  output.raw(std::string_view("a\0b", 3));
  output.line("next");
  output.raw("rest");
  EXPECT_TRUE(output.flush());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), std::string("a\0bnext\nrest", 12));
}

TEST(Seconds, AreReadable) {
  EXPECT_EQ(seconds_text(0.0009), "0.9 ms");
  EXPECT_EQ(seconds_text(0.0991), "99.1 ms");
  EXPECT_EQ(seconds_text(0.7), "0.7 s");
  EXPECT_EQ(seconds_text(75), "75.0 s");
}

class CompletionTest : public testing::Test {
 protected:
  const std::vector<CompletionEntry> entries_ = {
      {"", {{"produce", "Write records."}, {"topic", "Topics."}}, {{"--help", "show this help"}}},
      {"produce", {}, {{"--key", "the record's key"}}},
      {"topic", {{"show", "Partitions and it's offsets."}, {"create", "Make one."}}, {}},
      {"topic show", {}, {{"--json", "one object a line"}}},
      {"topic create", {}, {{"--partitions", "how many"}}}};
};

TEST_F(CompletionTest, BashKnowsTheWordsOfEveryCommandAndAsksForTopics) {
  std::string script = completion_script("bash", entries_);
  EXPECT_THAT(script, HasSubstr("\"\") words=\"produce topic --help\""));
  EXPECT_THAT(script, HasSubstr("\"topic\") words=\"show create\""));
  EXPECT_THAT(script, HasSubstr("\"topic create\") words=\"--partitions\" ;;"));
  EXPECT_THAT(script,
              HasSubstr("\"topic show\") words=\"--json\"; [[ $current == -* ]] || words+=\" $(trilog topic list -q"));
  EXPECT_THAT(script, HasSubstr("complete -o default -F _trilog trilog"));
}

TEST_F(CompletionTest, ZshUsesTheSameFunction) {
  std::string script = completion_script("zsh", entries_);
  EXPECT_THAT(script, testing::StartsWith("#compdef trilog\n"));
  EXPECT_THAT(script, HasSubstr("bashcompinit"));
  EXPECT_THAT(script, HasSubstr("words=\"produce topic --help\""));
}

TEST_F(CompletionTest, FishQuotesWhatItSaysAndTellsSubcommandsFromCommands) {
  std::string script = completion_script("fish", entries_);
  EXPECT_THAT(script, HasSubstr("-l key -d 'the record\\'s key'"));
  EXPECT_THAT(script, HasSubstr("-a show -d 'Partitions and it\\'s offsets.'"));
  EXPECT_THAT(script, HasSubstr("__fish_seen_subcommand_from topic; and __fish_seen_subcommand_from show"));
  EXPECT_THAT(script, Not(HasSubstr("-n '__fish_seen_subcommand_from show'")));
  EXPECT_THAT(script, HasSubstr("__fish_use_subcommand"));
}

}  // namespace
}  // namespace trilog::cli
