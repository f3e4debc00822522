// The yardstick under every produce figure: the same bytes with nothing around them. One process sends record batches
// over loopback TCP; another reads each into a buffer, computes its CRC-32C, writes it to a file with pwrite and
// acknowledges it: at once, or with --sync after an fdatasync on a thread of its own that covers all that was written
// meanwhile. No broker that receives, checks and keeps the same bytes on this machine can be faster.
//
// With --replicas N the first receiver leads: it passes on what it has written, straight from its file, to N - 1
// processes that write it to files of their own and answer (with --sync after a sync of theirs), and acknowledges what
// all of them have. No broker that keeps N copies can be faster.
//
// Without --sync each replica still begins a sync as soon as --unsynced-mb came since the last one, as brokers do that
// bound what a power cut could take from them.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <memory>

#include "bench/limit_support.h"
#include "bench/loopback.h"
#include "storage/record/record_batch.h"

namespace trilog::bench {
namespace {

// Tells `socket` how many bytes every replica has. Running totals of eight bytes, so one may stand for several batches.
class Answers {
 public:
  Answers(int socket, size_t replicas) : socket_(socket), reached_(replicas) {}
  void reached(size_t replica, uint64_t bytes) {
    std::lock_guard lock(mutex_);  // also around the write: totals reach the sender in their order
    reached_[replica] = std::max(reached_[replica], bytes);
    const uint64_t all = *std::min_element(reached_.begin(), reached_.end());
    if (all > answered_) write_fully(socket_, &all, sizeof all);
    answered_ = std::max(answered_, all);
  }

 private:
  const int socket_;
  std::mutex mutex_;
  std::vector<uint64_t> reached_;
  uint64_t answered_ = 0;
};

// One replica's file. `on_kept` hears how many bytes are as safe as the options ask.
class Copy {
 public:
  Copy(const LimitOptions& options, ScratchFile& file, std::function<void(uint64_t)> on_kept)
      : options_(options), file_(file), on_kept_(std::move(on_kept)) {
    file_.clear();
    sync_ = std::make_unique<GroupSync>(file.fd(), [this](uint64_t bytes) {
      if (options_.sync) on_kept_(bytes);
    });
  }
  void append(ByteView bytes) {
    write_at(file_.fd(), bytes, written_);
    written_ += bytes.size();
  }
  void keep() {
    if (options_.sync) return sync_->written(written_);
    if (written_ - sync_begun_ >= options_.unsynced_bytes) {
      sync_begun_ = written_;
      sync_->written(written_);
    }
    on_kept_(written_);
  }
  uint64_t written() const { return written_; }

 private:
  const LimitOptions& options_;
  ScratchFile& file_;
  const std::function<void(uint64_t)> on_kept_;
  uint64_t written_ = 0;
  uint64_t sync_begun_ = 0;
  std::unique_ptr<GroupSync> sync_;
};

// The leader's side of one follower: a thread that sends what the file has, one that hears how far the follower is.
class FollowerLink {
 public:
  FollowerLink(int socket, int file, uint64_t total, std::function<void(uint64_t)> on_kept)
      : socket_(socket), file_(file), total_(total), on_kept_(std::move(on_kept)) {
    sender_ = std::thread([this] { send(); });
    hearer_ = std::thread([this] { hear(); });
  }
  ~FollowerLink() {
    sender_.join();
    hearer_.join();
  }
  void written(uint64_t bytes) {
    {
      std::lock_guard lock(mutex_);
      written_ = bytes;
    }
    changed_.notify_one();
  }

 private:
  void send() {
    off_t sent = 0;
    while (static_cast<uint64_t>(sent) < total_) {
      uint64_t upto;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return written_ > static_cast<uint64_t>(sent); });
        upto = written_;
      }
      while (static_cast<uint64_t>(sent) < upto) {
        if (sendfile(socket_, file_, &sent, upto - static_cast<uint64_t>(sent)) <= 0 && errno != EINTR) die("sendfile");
      }
    }
  }
  void hear() {
    for (uint64_t bytes = 0; bytes < total_;) {
      read_fully(socket_, &bytes, sizeof bytes);
      on_kept_(bytes);
    }
  }

  const int socket_;
  const int file_;
  const uint64_t total_;
  const std::function<void(uint64_t)> on_kept_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t written_ = 0;
  std::thread sender_;
  std::thread hearer_;
};

// A round begins with a total of nothing, which tells the other side that all is ready.
void say_ready(int socket) {
  const uint64_t nothing = 0;
  write_fully(socket, &nothing, sizeof nothing);
}
void wait_until_ready(int socket) {
  uint64_t nothing = 1;
  read_fully(socket, &nothing, sizeof nothing);
  if (nothing != 0) die("ready");
}

// Small batches are read several at a time, as many as the socket has.
void lead_round(int socket, const std::vector<int>& followers, const LimitOptions& options, ScratchFile& file,
                Bytes& buffer, uint64_t total) {
  Answers answers(socket, 1 + followers.size());
  Copy copy(options, file, [&](uint64_t bytes) { answers.reached(0, bytes); });
  std::vector<std::unique_ptr<FollowerLink>> links;
  for (size_t i = 0; i < followers.size(); ++i) {
    wait_until_ready(followers[i]);
    links.push_back(std::make_unique<FollowerLink>(followers[i], file.fd(), total,
                                                   [&answers, i](uint64_t bytes) { answers.reached(i + 1, bytes); }));
  }
  say_ready(socket);
  size_t filled = 0;
  while (copy.written() < total) {
    filled += read_some(socket, buffer.data() + filled, buffer.size() - filled);
    ByteView whole = buffer.view().first(filled);
    const uint64_t before = copy.written();
    for (Result<RecordBatch> batch = RecordBatch::parse(whole); batch.ok(); batch = RecordBatch::parse(whole)) {
      if (!batch->crc_matches()) die("checksum");
      copy.append(batch->bytes());
      whole = whole.subspan(batch->size());
    }
    if (!whole.empty()) std::memmove(buffer.data(), whole.data(), whole.size());
    filled = whole.size();
    if (copy.written() == before) continue;
    for (const auto& link : links) link->written(copy.written());
    copy.keep();
  }
}

void follow_round(int socket, const LimitOptions& options, ScratchFile& file, Bytes& buffer, uint64_t total) {
  Copy copy(options, file, [&](uint64_t bytes) { write_fully(socket, &bytes, sizeof bytes); });
  say_ready(socket);
  while (copy.written() < total) {
    copy.append(buffer.view().first(read_some(socket, buffer.data(), buffer.size())));
    copy.keep();
  }
}

Figure send_round(int socket, const LimitOptions& options, const Bytes& batch, uint64_t batches) {
  Figure figure;
  std::deque<double> sent_at;
  uint64_t sent = 0;
  uint64_t acknowledged = 0;
  wait_until_ready(socket);
  const double begin = now_seconds();
  while (acknowledged < batches) {
    while (sent < batches && sent - acknowledged < static_cast<uint64_t>(options.window)) {
      sent_at.push_back(now_seconds());
      write_fully(socket, batch.data(), batch.size());
      ++sent;
    }
    uint64_t bytes = 0;
    read_fully(socket, &bytes, sizeof bytes);
    const double now = now_seconds();
    for (; acknowledged < bytes / batch.size(); ++acknowledged) {
      figure.latencies_us.push_back((now - sent_at.front()) * 1e6);
      sent_at.pop_front();
    }
  }
  figure.seconds = now_seconds() - begin;
  figure.operations = batches;
  figure.bytes = batches * batch.size();
  return figure;
}

// Runs `work` in a process that ends with this one.
template <typename Work>
pid_t in_process(Work work) {
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  work();
  std::exit(0);
}

int run(int argc, char** argv) {
  const LimitOptions options = parse_options(argc, argv, "copy_limit");
  const Bytes batch = make_limit_batch(options);
  const uint64_t batches = std::max<uint64_t>(1, options.total_bytes / batch.size());
  const uint64_t total = batches * batch.size();
  const Listener for_sender = listen_on_loopback();
  const Listener for_followers = listen_on_loopback();

  std::vector<pid_t> receivers;
  receivers.push_back(in_process([&] {
    std::vector<int> followers;
    while (followers.size() + 1 < static_cast<size_t>(options.replicas))
      followers.push_back(accept_from(for_followers));
    const int socket = accept_from(for_sender);
    ScratchFile file(options.directory);
    Bytes buffer(std::max<size_t>(batch.size(), 256 << 10));
    for (int round = 0; round < options.rounds; ++round) {
      lead_round(socket, followers, options, file, buffer, total);
    }
  }));
  for (int follower = 1; follower < options.replicas; ++follower) {
    receivers.push_back(in_process([&] {
      const int socket = connect_to(for_followers);
      ScratchFile file(options.directory);
      Bytes buffer(1 << 20);
      for (int round = 0; round < options.rounds; ++round) follow_round(socket, options, file, buffer, total);
    }));
  }

  const int to_leader = connect_to(for_sender);
  for (int round = 0; round < options.rounds; ++round) {
    Figure figure = send_round(to_leader, options, batch, batches);
    char name[64];
    std::snprintf(name, sizeof name, "copy %zu KiB, window %d%s", options.batch_bytes >> 10, options.window,
                  options.replicas > 1 ? (", " + std::to_string(options.replicas) + " replicas").c_str() : "");
    figure.name = name;
    print(options, std::move(figure));
  }
  int result = 0;
  for (const pid_t receiver : receivers) {
    int status = 0;
    waitpid(receiver, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) result = 1;
  }
  return result;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
