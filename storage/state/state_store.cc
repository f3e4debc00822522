#include "storage/state/state_store.h"

#include "storage/base/check.h"

namespace trilog {

std::optional<std::string> end_of_prefix(ByteView prefix) {
  std::string end(as_text(prefix));
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (end.empty()) return std::nullopt;
  end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

void StateBatch::remove_prefix(ByteView prefix) {
  std::optional<std::string> end = end_of_prefix(prefix);
  CHECK(end.has_value());
  remove_range(prefix, as_bytes(*end));
}

}  // namespace trilog
