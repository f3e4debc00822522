#include "client/cli/record_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace trilog::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using namespace std::string_literals;

class RecordSourceTest : public testing::Test {
 protected:
  RecordSourceTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trilog-input-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~RecordSourceTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<RecordSource> open(Format format, const std::string& content,
                                     std::optional<std::string> key_field = {},
                                     std::optional<std::string> separator = {}) {
    std::string file = folder_ + "/input";
    std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
    auto source =
        RecordSource::open({.format = format, .file = file, .key_field = key_field, .key_separator = separator});
    EXPECT_TRUE(source.ok()) << source.status().message();
    return source.ok() ? std::move(*source) : nullptr;
  }
  // "key=value@line" of each record, "!message" of each bad row.
  static std::vector<std::string> all(RecordSource& source) {
    std::vector<std::string> found;
    for (int i = 0; i < 1'000; ++i) {
      auto next = source.next();
      if (!next.ok()) {
        found.push_back("!" + std::string(next.status().message()));
        if (next.status().code() != Errc::kInvalidArgument) return found;
        continue;
      }
      if (!*next) return found;
      const SourceRecord& record = **next;
      found.push_back((record.record.key ? *record.record.key + "=" : "") + record.record.value.value_or("(null)") +
                      "@" + std::to_string(record.line));
    }
    ADD_FAILURE() << "no end";
    return found;
  }
  std::vector<std::string> lines(const std::string& content) { return all(*open(Format::kLines, content)); }
  std::vector<std::string> csv(const std::string& content, std::optional<std::string> key = {}) {
    return all(*open(Format::kCsv, content, key));
  }

  std::string folder_;
};

TEST_F(RecordSourceTest, BothLineEndsEndALineAndTheLastNeedsNone) {
  EXPECT_THAT(lines("a\nb\r\n\nc"), ElementsAre("a@1", "b@2", "@3", "c@4"));
  EXPECT_THAT(lines("a\n"), ElementsAre("a@1"));
  EXPECT_THAT(lines("a\r\n"), ElementsAre("a@1"));
  EXPECT_THAT(lines(""), SizeIs(0));
  EXPECT_THAT(lines("\n"), ElementsAre("@1"));
  EXPECT_THAT(lines("a\rb\n\0\n"s), ElementsAre("a\rb@1", "\0@2"s));
}

TEST_F(RecordSourceTest, LinesLongerThanOneReadComeWhole) {
  std::string longer(200'000, 'x');
  auto found = lines("a\n" + longer + "\r\nb\n");
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[1], longer + "@2");
  // A line end exactly where a read ends.
  std::string exact((64 << 10) - 1, 'y');
  EXPECT_THAT(lines(exact + "\r\nb"), ElementsAre(exact + "@1", "b@2"));
}

TEST_F(RecordSourceTest, ASeparatorSplitsTheKeyOffAtItsFirstPlace) {
  auto source = open(Format::kLines, "k:v:w\n:v\nnothing\nk::\n", {}, ":");
  auto found = all(*source);
  ASSERT_THAT(found, SizeIs(4));
  EXPECT_EQ(found[0], "k=v:w@1");
  EXPECT_EQ(found[1], "=v@2");
  EXPECT_THAT(found[2], HasSubstr("!line 3: "));
  EXPECT_THAT(found[2], HasSubstr("':'"));
  EXPECT_EQ(found[3], "k=:@4");
  EXPECT_THAT(all(*open(Format::kLines, "a=>b\n", {}, "=>")), ElementsAre("a=b@1"));
}

TEST_F(RecordSourceTest, JsonLinesThatAreNoneNameTheirLineAndTheNextGoesOn) {
  auto found = all(*open(Format::kJson, "{\"a\":1}\n\n  \n{\"a\":\n[1,2]\r\n{\"b\":2}}"));
  ASSERT_THAT(found, SizeIs(4));
  EXPECT_EQ(found[0], "{\"a\":1}@1");
  EXPECT_THAT(found[1], HasSubstr("!line 4: not JSON"));
  EXPECT_EQ(found[2], "[1,2]@5");
  EXPECT_THAT(found[3], HasSubstr("!line 6: not JSON"));
}

TEST_F(RecordSourceTest, AJsonKeyThatIsMissingEmptyNullOrNotPlainNamesItsLine) {
  auto found = all(*open(Format::kJson, "{\"id\":1.0}\n{}\n{\"id\":\"\"}\n{\"id\":null}\n{\"id\":{}}\n7\n", "id"));
  ASSERT_THAT(found, SizeIs(6));
  EXPECT_EQ(found[0], "1.0={\"id\":1.0}@1");
  for (int line = 2; line <= 6; ++line) {
    EXPECT_THAT(found[static_cast<size_t>(line - 1)], HasSubstr("!line " + std::to_string(line) + ": "));
    EXPECT_THAT(found[static_cast<size_t>(line - 1)], HasSubstr("id"));
  }
}

TEST_F(RecordSourceTest, ABadRowIsAtHandForTheRejects) {
  auto source = open(Format::kJson, "{\"a\":\n{}\n");
  EXPECT_FALSE(source->next().ok());
  EXPECT_EQ(source->last().source, "{\"a\":");
  EXPECT_EQ(source->last().line, 1);
  auto next = source->next();
  ASSERT_TRUE(next.ok());
  EXPECT_EQ((*next)->source, "{}");
}

TEST_F(RecordSourceTest, RecordsArePrintedAndReadBackAlike) {
  auto source =
      open(Format::kRecord,
           "{\"key\":null,\"value\":\"/"
           "w==\",\"value_encoding\":\"base64\",\"timestamp_ms\":7,\"headers\":[{\"key\":\"h\",\"value\":null}]}\n"
           "{\"key\":\"k\",\"value\":null}\n[]\n");
  auto first = source->next();
  ASSERT_TRUE(first.ok() && *first);
  EXPECT_EQ((*first)->record.key, std::nullopt);
  EXPECT_EQ((*first)->record.value, "\xff");
  EXPECT_EQ((*first)->record.timestamp_ms, 7);
  ASSERT_THAT((*first)->record.headers, SizeIs(1));
  EXPECT_EQ((*first)->record.headers[0].value, std::nullopt);
  EXPECT_THAT(all(*source), ElementsAre("k=(null)@2", HasSubstr("!line 3: ")));
}

TEST_F(RecordSourceTest, CsvRowsBecomeObjectsOfTextAndRowsKnowTheirLines) {
  EXPECT_THAT(csv("id,name\r\n1,\"a, \"\"b\"\"\"\r\n2,\"two\nlines\"\r\n3,plain\r\n", "id"),
              ElementsAre(R"(1={"id":"1","name":"a, \"b\""}@2)", R"(2={"id":"2","name":"two\nlines"}@3)",
                          R"(3={"id":"3","name":"plain"}@5)"));
  EXPECT_THAT(csv("id\n007\n1.50"), ElementsAre(R"({"id":"007"}@2)", R"({"id":"1.50"}@3)"));
  EXPECT_THAT(csv("\xef\xbb\xbfid,x\n1,\n", "id"), ElementsAre(R"(1={"id":"1","x":""}@2)"));
  EXPECT_THAT(csv("id,x\n"), SizeIs(0));
  EXPECT_THAT(csv(""), SizeIs(0));
}

TEST_F(RecordSourceTest, BlanksInCsvBelongToTheValue) {
  EXPECT_THAT(csv("id,x y\n 1 ,a b \n\" 2\",\t\n"),
              ElementsAre(R"({"id":" 1 ","x y":"a b "}@2)", R"({"id":" 2","x y":"\t"}@3)"));
}

TEST_F(RecordSourceTest, EmptyLinesBetweenCsvRowsAreNoRowsButAreCounted) {
  EXPECT_THAT(csv("id,x\n\n1,a\n\n\n2,b\n"), ElementsAre(R"({"id":"1","x":"a"}@3)", R"({"id":"2","x":"b"}@6)"));
  EXPECT_THAT(csv("id,x\r\n\r\n1,a\r\n"), ElementsAre(R"({"id":"1","x":"a"}@3)"));
}

TEST_F(RecordSourceTest, ACsvRowWithTheWrongNumberOfColumnsNamesItsLineAndTheNextGoesOn) {
  auto found = csv("id,x\n1,a\n2\n3,c,d\n4,\"e\nf\"\n5,g\n", "id");
  ASSERT_THAT(found, SizeIs(5));
  EXPECT_THAT(found[1], HasSubstr("!line 3: has 1 columns"));
  EXPECT_THAT(found[2], HasSubstr("!line 4: has 3 columns"));
  EXPECT_THAT(found[3], HasSubstr("@5"));
  EXPECT_THAT(found[4], HasSubstr("@7"));
}

TEST_F(RecordSourceTest, BrokenCsvNamesTheLineWhereTheRowBegan) {
  auto found = csv("id,x\n1,a\n2,b\"c\n3,d\n");
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0], R"({"id":"1","x":"a"}@2)");
  EXPECT_THAT(found[1], HasSubstr("!line 3: broken CSV"));
  found = csv("id,x\n1,a\n2,\"never closed\n3,d\n");
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_THAT(found[1], HasSubstr("!line 3: broken CSV"));
  EXPECT_THAT(found[1], HasSubstr("quote"));
  EXPECT_THAT(csv("id,\"x\n1,2"), ElementsAre(HasSubstr("!line 1: broken CSV")));
}

TEST_F(RecordSourceTest, ACsvKeyThatIsNoColumnIsSaidOnceWithTheColumnsThereAre) {
  EXPECT_THAT(csv("id,x\n1,a\n2,b\n", "no"), ElementsAre("!line 1: no column no; there are: id, x"));
  auto found = csv("id,x\n,a\n2,b\n", "id");
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_THAT(found[0], HasSubstr("!line 2: field id is missing or empty"));
  EXPECT_THAT(found[1], HasSubstr("2="));
}

TEST_F(RecordSourceTest, AColumnNamedTwiceIsRefused) {
  EXPECT_THAT(csv("id,x,id\n1,a,2\n"), ElementsAre(HasSubstr("!line 1: two columns are named id")));
}

TEST_F(RecordSourceTest, ACsvRowForTheRejectsIsCsvAgain) {
  auto source = open(Format::kCsv, "id,x,y\n1,\"a,\"\"b\"\"\n\"\n");
  EXPECT_FALSE(source->next().ok());
  EXPECT_EQ(source->last().source, "1,\"a,\"\"b\"\"\n\"");
  source = open(Format::kCsv, "id,x,y\n,,\n,\n");
  ASSERT_TRUE(source->next().ok());
  EXPECT_FALSE(source->next().ok());
  EXPECT_EQ(source->last().source, ",");
}

TEST_F(RecordSourceTest, AFileThatCannotBeReadIsNamed) {
  auto refused = [](const std::string& file) {
    auto source = RecordSource::open({.file = file, .key_field = {}, .key_separator = {}});
    EXPECT_FALSE(source.ok()) << file;
    return source.ok() ? Status() : source.status();
  };
  EXPECT_EQ(refused(folder_ + "/none").code(), Errc::kNotFound);
  EXPECT_THAT(std::string(refused(folder_ + "/none").message()), HasSubstr(folder_ + "/none: "));
  EXPECT_THAT(std::string(refused(folder_).message()), HasSubstr("directory"));
  if (::geteuid() == 0) return;  // root reads everything
  std::ofstream(folder_ + "/secret") << "x";
  std::filesystem::permissions(folder_ + "/secret", std::filesystem::perms::none);
  EXPECT_EQ(refused(folder_ + "/secret").code(), Errc::kPermission);
}

TEST_F(RecordSourceTest, SaysHowFarItIs) {
  auto source = open(Format::kLines, "abc\ndef\n");
  EXPECT_EQ(source->bytes_total(), 8u);
  EXPECT_EQ(source->bytes_read(), 0u);
  all(*source);
  EXPECT_EQ(source->bytes_read(), 8u);
}

}  // namespace
}  // namespace trilog::cli
