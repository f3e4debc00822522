#include "client/cli/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace trilog::cli {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

TEST(Json, ObjectsKeepTheOrderOfAdding) {
  JsonObject inner;
  inner.add("b", int64_t{2}).add("a", true);
  std::vector<JsonObject> list;
  list.push_back(JsonObject());
  JsonObject object;
  object.add("z", "text").add("y", 1.5).add_null("x").add("w", std::vector<int32_t>{3, 1});
  object.add("inner", std::move(inner)).add("list", std::move(list));
  object.add("some", std::optional<int64_t>(7)).add("none", std::optional<int64_t>());
  EXPECT_EQ(object.text(),
            R"({"z":"text","y":1.5,"x":null,"w":[3,1],"inner":{"b":2,"a":true},"list":[{}],"some":7,"none":null})");
}

TEST(Json, EverythingThatNeedsItIsEscapedAndALineStaysALine) {
  JsonObject object;
  object.add("quote\"d", "a\"b\\c\nd\re\tf\x01\x7f/ü€😀"s + "\0end"s);
  EXPECT_EQ(object.text(), "{\"quote\\\"d\":\"a\\\"b\\\\c\\nd\\re\\tf\\u0001\x7f/ü€😀\\u0000end\"}");
  EXPECT_TRUE(check_json(object.text()).ok());
}

TEST(Json, StrayBytesAreReplacedAndNeverBreakTheOutput) {
  JsonObject object;
  object.add("k\xff", "a\xff\xfe");
  EXPECT_TRUE(is_utf8(object.text()));
  EXPECT_TRUE(check_json(object.text()).ok());
}

TEST(Json, BigNumbersStayNumbers) {
  JsonObject object;
  object.add("max", INT64_MAX).add("min", INT64_MIN);
  EXPECT_EQ(object.text(), R"({"max":9223372036854775807,"min":-9223372036854775808})");
}

TEST(Json, KnowsUtf8FromOtherBytes) {
  for (const std::string& good : {""s, "abc"s, "ü"s, "€"s, "😀"s, "\0"s, "\xef\xbf\xbf"s, "\xf4\x8f\xbf\xbf"s})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xc3(", "\xe2\x28\xa1"})
    EXPECT_FALSE(is_utf8(bad)) << testing::PrintToString(bad);
}

// The vectors of RFC 4648.
TEST(Json, Base64GoesBothWays) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    EXPECT_EQ(encode_base64(plain), encoded);
    EXPECT_EQ(decode_base64(encoded), plain);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (size_t length = 0; length <= all.size(); ++length)
    EXPECT_EQ(decode_base64(encode_base64(all.substr(0, length))), all.substr(0, length));
  for (const char* bad : {"Z", "Zg=a", "Zm 9", "Zm9-", "ü", "Zm9vY"})
    EXPECT_EQ(decode_base64(bad), std::nullopt) << bad;
}

TEST(Json, WhatIsNoJsonIsRefusedWithTheColumn) {
  for (const char* good : {"1", "null", "\"a\"", "[]", "{\"a\":[1,2,{}]}", " {} ", "1e5"})
    EXPECT_TRUE(check_json(good).ok()) << good;
  for (const char* bad : {"", "{", "{\"a\":}", "{'a':1}", "{\"a\":1} x", "nul", "[1,]", "01", "\"\xff\"", "\"a\nb\""}) {
    Status status = check_json(bad);
    ASSERT_FALSE(status.ok()) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("not JSON"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("column"));
    EXPECT_TRUE(is_utf8(status.message())) << status.message();
  }
}

TEST(Json, AFieldIsGivenAsItWasWritten) {
  auto field = [](const char* text) { return json_field(text, "id"); };
  const std::pair<const char*, const char*> fields[] = {
      {R"({"id":"abc"})", "abc"},
      {R"({"id":1.50})", "1.50"},
      {R"({"id":17,"a":{"id":"inner"}})", "17"},
      {R"({"a":[{"id":1}],"id":-3})", "-3"},
      {R"({"id":true})", "true"},
      {R"({"id":"\u00fc"})", "ü"},
      {R"({"id":1e300})", "1e300"},
      {R"({"id":123456789012345678901234567890})", "123456789012345678901234567890"},
      {R"({"id":-7})", "-7"},
      {R"({"id":18446744073709551615})", "18446744073709551615"}};
  for (const auto& [text, expected] : fields) {
    auto found = field(text);
    ASSERT_TRUE(found.ok()) << text << ": " << found.status().message();
    EXPECT_EQ(*found, expected) << text;
  }
  for (const char* nothing : {R"({"a":{"id":1}})", R"({"id":null})", R"({"id":""})", "{}"}) {
    auto found = field(nothing);
    ASSERT_TRUE(found.ok()) << nothing;
    EXPECT_EQ(*found, std::nullopt) << nothing;
  }
  for (const char* bad : {R"({"id":{}})", R"({"id":[1]})", R"([{"id":1}])", "17", R"({"id":1)", R"("id")"})
    EXPECT_FALSE(field(bad).ok()) << bad;
}

TEST(Json, ReadsBackWhatConsumePrints) {
  auto record = parse_json_record(
      R"({"topic":"t","partition":3,"offset":9,"timestamp_ms":5,"key":"k","value":"/w==","value_encoding":"base64","headers":[{"key":"a","value":"1"},{"key":"a","value":null},{"key":"b","value":"AA==","value_encoding":"base64"}]})");
  ASSERT_TRUE(record.ok()) << record.status().message();
  EXPECT_EQ(record->key, "k");
  EXPECT_EQ(record->value, "\xff");
  EXPECT_EQ(record->timestamp_ms, 5);
  ASSERT_EQ(record->headers.size(), 3u);
  EXPECT_EQ(record->headers[1].second, std::nullopt);
  EXPECT_EQ(record->headers[2].second, "\0"s);
  auto bare = parse_json_record(R"({"key":null,"value":""})");
  ASSERT_TRUE(bare.ok());
  EXPECT_EQ(bare->key, std::nullopt);
  EXPECT_EQ(bare->value, "");
}

TEST(Json, ARecordThatIsNoneIsRefused) {
  for (const char* bad :
       {"", "[]", "17", "{\"key\":1}", "{\"value\":{}}", R"({"value":"*","value_encoding":"base64"})",
        R"({"value":"a","value_encoding":"hex"})", R"({"timestamp_ms":"5"})", R"({"timestamp_ms":1.5})",
        R"({"headers":{}})", R"({"headers":[1]})", R"({"headers":[{"value":"1"}]})", R"({"headers":[{"key":1}]})"}) {
    auto record = parse_json_record(bad);
    ASSERT_FALSE(record.ok()) << bad;
    EXPECT_FALSE(record.status().message().empty());
  }
}

}  // namespace
}  // namespace trilog::cli
