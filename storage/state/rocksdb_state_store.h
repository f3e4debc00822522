// StateStore on RocksDB. For wiring only: everybody else takes a StateStoreProvider.
#pragma once

#include <memory>

#include "storage/base/logging.h"
#include "storage/state/state_store.h"

namespace trilog {

// Stores made for little: a write buffer of 1 MiB, one background thread for all stores of the process, no statistics,
// no log files of its own (warnings and errors go to `log`). The write-ahead log is recovered to a point in time, with
// its files tracked in the manifest, so that a missing one is found (rule S13).
std::unique_ptr<StateStoreProvider> make_rocksdb_state_store_provider(Logger log);

}  // namespace trilog
