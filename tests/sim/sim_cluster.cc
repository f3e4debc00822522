#include "tests/sim/sim_cluster.h"

#include <utility>

#include "broker/data_folder.h"
#include "broker/quorum/metadata_log.h"
#include "storage/base/check.h"

namespace trilog::sim {

namespace {

constexpr const char* kBootIdFile = "/proc/sys/kernel/random/boot_id";

// As the kernel writes it: 36 characters.
std::string boot_id(uint64_t number) {
  std::string digits = std::to_string(number);
  return "00000000-0000-4000-8000-" + std::string(12 - digits.size(), '0') + digits;
}

std::string address_of(int number) { return "localhost:" + std::to_string(9091 + number); }

}  // namespace

SimCluster::SimCluster(World& world, SimClusterOptions options)
    : world_(world),
      options_(std::move(options)),
      network_(world, options_.network),
      cluster_id_(world.random().next() | 1, world.random().next()),
      self_(std::make_shared<SimCluster*>(this)) {
  options_.broker.data_dir = kDataFolder;
  options_.broker.peers.clear();
  for (int number = 1; number <= options_.nodes; ++number) {
    options_.broker.peers.push_back(std::to_string(number) + "@127.0.0.1:" + std::to_string(9190 + number));
    nodes_.push_back(std::make_unique<Node>());
    nodes_.back()->number = number;
    network_.add_node(id(number));
    new_disk(*nodes_.back());
  }
  std::vector<Voter> voters;
  for (auto& each : nodes_) voters.push_back({id(each->number), make_folder(*each)});
  for (auto& each : nodes_) {
    auto env = world_.make_env(*each->disk, "up");
    CHECK(MetadataLog::write_voters(*env, join_path(kDataFolder, "metadata"), cluster_id_, voters).ok());
  }
}

SimCluster::~SimCluster() {
  *self_ = nullptr;
  for (auto& each : nodes_) end_process(*each);
}

void SimCluster::new_disk(Node& node) {
  node.disk = std::make_unique<SimDisk>(world_.scheduler());
  node.disk->put_file(kBootIdFile, as_bytes(boot_id(++boots_)));
  node.shards = 1 + world_.random().below(options_.shards_max);
}

DirectoryId SimCluster::make_folder(Node& node) {
  auto env = world_.make_env(*node.disk, "up");
  Result<FolderIdentity> identity = DataFolder::make(*env, kDataFolder, id(node.number), cluster_id_);
  CHECK(identity.ok());
  return node.directory = identity->directory;
}

// --- processes
// ---------------------------------------------------------------------------------------------------------

void SimCluster::start(int number) {
  Node& starting = node(number);
  if (starting.broker) return;
  starting.life = next_life_++;
  starting.state = State::kStarting;
  Status status = try_start(starting);
  if (status.ok()) return;
  end_process(starting);
  if (on_death_) on_death_(number, status);
}

Status SimCluster::try_start(Node& node) {
  std::vector<SimEnv*> envs;
  std::vector<Env*> shards;
  const uint64_t life = node.life;
  for (size_t i = 0; i < node.shards; ++i) {
    node.envs.push_back(world_.make_env(*node.disk, "node-" + std::to_string(node.number) + "/" + std::to_string(i)));
    envs.push_back(node.envs.back().get());
    shards.push_back(envs.back());
    envs.back()->set_wall_offset_ms(node.wall_offset_ms);
    envs.back()->on_fatal([this, number = node.number, life](const Status& why) { died(number, life, why); });
  }
  // As the real transport, it knows the folder only when it is open; who reads it here takes nothing away from it.
  FolderIdentity identity = TRY(DataFolder::make(*shards[0], kDataFolder, id(node.number), cluster_id_));
  node.transport = network_.join({id(node.number), identity.directory, true}, envs);
  BrokerOptions options = options_.broker;
  options.node_id = node.number;
  node.broker = TRY(Broker::open(std::move(options), std::move(shards), &node.stores, node.transport.get()));
  node.broker->start(address_of(node.number), [this, number = node.number, life](const Status& status) {
    later(number, life, [this, number, life, status] {
      if (!status.ok()) return died(number, life, status);
      if (state(number) == State::kStarting) this->node(number).state = State::kUp;
    });
  });
  return {};
}

void SimCluster::start_all() {
  for (int number = 1; number <= size(); ++number) start(number);
}

void SimCluster::end_process(Node& node) {
  for (auto& env : node.envs) env->stop();
  network_.resume(id(node.number));  // a stopped process that is killed leaves connections that are reset like others
  node.broker.reset();
  node.transport.reset();
  node.envs.clear();
  node.state = State::kDown;
}

void SimCluster::kill(int number) { end_process(node(number)); }

void SimCluster::died(int number, uint64_t life, const Status& why) {
  if (node(number).life != life || !runs(number)) return;
  end_process(node(number));
  if (on_death_) on_death_(number, why);
}

void SimCluster::stop(int number) {
  Node& stopping = node(number);
  if (stopping.state != State::kUp) return;
  stopping.state = State::kStopping;
  stopping.broker->stop([this, number, life = stopping.life](const Status&) {
    later(number, life, [this, number] { end_process(node(number)); });
  });
}

void SimCluster::power_cut(int number, const CrashPolicy& policy) {
  Node& cut = node(number);
  network_.power_off(id(number));
  end_process(cut);
  cut.disk->power_cut(policy);
  cut.disk->put_file(kBootIdFile, as_bytes(boot_id(++boots_)));
  cut.stores.power_cut([this](size_t unsynced) { return world_.random().below(unsynced + 1); });
}

void SimCluster::power_cut_all(const CrashPolicy& policy) {
  for (int number = 1; number <= size(); ++number) network_.power_off(id(number));
  for (int number = 1; number <= size(); ++number) power_cut(number, policy);
}

void SimCluster::pause(int number) {
  if (runs(number)) network_.pause(id(number));
}

void SimCluster::resume(int number) {
  if (runs(number)) network_.resume(id(number));
}

void SimCluster::wipe(int number) {
  Node& wiped = node(number);
  end_process(wiped);
  (void)wiped.stores.destroy(join_path(kDataFolder, "state"));
  new_disk(wiped);
  make_folder(wiped);
}

void SimCluster::set_wall_offset_ms(int number, int64_t offset_ms) {
  node(number).wall_offset_ms = offset_ms;
  for (auto& env : node(number).envs) env->set_wall_offset_ms(offset_ms);
}

void SimCluster::later(int number, uint64_t life, UniqueFunction<void()> task) {
  world_.post([self = self_, number, life, task = std::move(task)]() mutable {
    if (*self == nullptr) return;
    SimCluster& cluster = **self;
    if (cluster.node(number).life == life && cluster.runs(number)) task();
  });
}

bool SimCluster::run_until_serving(int64_t timeout_ns) {
  return world_.run_until(
      [this] {
        for (const auto& each : nodes_) {
          if (each->state != State::kUp) return false;
        }
        return true;
      },
      timeout_ns);
}

}  // namespace trilog::sim
