// Defaults compiled into every sanitizer binary, so that nobody needs to set environment variables.
// gRPC and RocksDB come uninstrumented from the distribution: their internal synchronisation is invisible to TSan.
extern "C" const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:second_deadlock_stack=1:halt_on_error=1";
}
extern "C" const char* __tsan_default_suppressions() {
  return "race:^grpc::\nrace:grpc_core::\nrace:libgrpc\nrace:libgpr\nrace:libprotobuf\nrace:libabsl\n"
         "race:^rocksdb::\nrace:librocksdb\n";
}
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1:halt_on_error=1"; }
