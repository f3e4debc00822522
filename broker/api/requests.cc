#include "broker/api/requests.h"

#include "storage/base/check.h"

namespace trilog::api {

std::string_view durability_name(Durability durability) {
  switch (durability) {
    case Durability::kSynced: return "synced";
    case Durability::kReplicated: return "replicated";
  }
  UNREACHABLE("Durability");
}

}  // namespace trilog::api
