#include "broker/serve.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "broker/node.h"
#include "broker/process_output.h"
#include "broker/runtime/stderr_log.h"

namespace trilog {
namespace {

Result<BrokerOptions> read_options(const cli::ServeOptions& options) {
  BrokerOptions broker;
  if (!options.config.empty()) {
    if (std::filesystem::is_directory(options.config))
      return Status(Errc::kInvalidArgument, "the configuration file " + options.config + " is a folder");
    std::ifstream file(options.config, std::ios::binary);
    std::ostringstream text;
    if (file) text << file.rdbuf();
    if (!file) return Status(Errc::kNotFound, "cannot read the configuration file " + options.config);
    TRY(read_config(broker, options.config, text.str()));
  }
  TRY(apply_environment_and_sets(broker, options.set));
  TRY(check_options(broker));
  return broker;
}

}  // namespace

int run_serve(const cli::ServeOptions& options) {
  ProcessOutput output(options.json, options.quiet);
  Result<BrokerOptions> broker = read_options(options);
  if (!broker.ok()) return output.fail(kExitUsage, "INVALID_CONFIG", std::string(broker.status().message()));
  if (options.check) {
    output.line(options.json
                    ? cli::JsonObject().add("action", "check").add("name", options.config).add("changed", false).text()
                    : "configuration is good: node " + std::to_string(broker->node_id) + ", data " + broker->data_dir +
                          ", listens on " + broker->listen);
    return 0;
  }
  block_end_signals();
  Logger log = make_stderr_logger();
  if (!broker->insecure.empty()) {
    log.warning("insecure: anyone who reaches ", broker->listen, " can read and write everything");
  }
  int signal = 0;
  auto told_to_end = [&] {
    signal = take_end_signal();
    if (signal == 0) return false;
    let_second_signal_end_us();
    log.info("signal ", signal, ": stopping before it is ready");
    return true;
  };
  Result<std::unique_ptr<Node>> node =
      Node::start({.broker = *broker, .listen = {}, .log = log, .give_up = told_to_end});
  if (!node.ok() && signal != 0) {
    log.info("stopped");
    return kExitDone;
  }
  // What is not found here is a file or folder of the system, not something of Trilog's.
  if (!node.ok() && node.status().code() == Errc::kNotFound)
    return output.fail(kExitRefused, "STORAGE_ERROR", node.status().message());
  if (!node.ok()) return output.fail(node.status());
  log.info("node ", broker->node_id, " serves on ", (*node)->client_address(), ", data ", broker->data_dir);
  if (options.json) {
    output.line(cli::JsonObject()
                    .add("event", "ready")
                    .add("node_id", broker->node_id)
                    .add("address", (*node)->client_address())
                    .add("addresses", (*node)->addresses())
                    .add("pid", ::getpid())
                    .text());
  }
  signal = wait_for_end_signal();
  let_second_signal_end_us();
  log.info("signal ", signal, ": draining");
  Status stopped = (*node)->stop();
  if (!stopped.ok()) {
    log.error("not a clean stop, the next start runs recovery: ", stopped.to_string());
    return kExitRefused;
  }
  log.info("stopped cleanly");
  return 0;
}

}  // namespace trilog
