#include "broker/runtime/peer_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace trilog {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kRunsPerWrite = 64;  // what one writev takes in Asio
constexpr std::chrono::seconds kGoodbyeLimit{1};

PeerFrame goodbye_frame(const std::string& why) {
  PeerFrame frame;
  frame.kind = kPeerGoodbye;
  frame.body = Bytes::copy_of(std::string_view(why).substr(0, PeerHello::kWhyBytesMax));
  return frame;
}

}  // namespace

// --- queue -----------------------------------------------------------------------------------------------------------

void PeerOutQueue::append(PeerFrame frame) {
  std::array<std::byte, kPeerPrefixBytes> prefix = encode_peer_prefix(frame);
  bool copied = frame.body.size() <= kCopiedBodyBytesMax;
  size_t size = prefix.size() + (copied ? frame.body.size() : 0);
  if (runs_.empty() || runs_.back().owned.empty() || runs_.back().owned.size() + size > kCopiedRunBytesMax) {
    runs_.emplace_back();
    runs_.back().owned.reserve(size);
  }
  runs_.back().owned.append(prefix);
  if (copied) {
    runs_.back().owned.append(frame.body);
  } else {
    runs_.push_back({std::move(frame.body), {}});
  }
  if (!frame.bulk.empty()) runs_.push_back({{}, std::move(frame.bulk)});
}

std::vector<PeerOutQueue::Run> PeerOutQueue::take(size_t runs_max) {
  auto last = runs_.begin() + static_cast<ptrdiff_t>(std::min(runs_max, runs_.size()));
  std::vector<Run> taken(std::make_move_iterator(runs_.begin()), std::make_move_iterator(last));
  runs_.erase(runs_.begin(), last);
  return taken;
}

// --- connection ------------------------------------------------------------------------------------------------------

PeerConnection::PeerConnection(std::shared_ptr<asio::io_context> loop, asio::ip::tcp::socket socket, PeerHello hello,
                               Owner& owner)
    : loop_(std::move(loop)),
      socket_(std::move(socket)),
      hello_(std::move(hello)),
      owner_(owner),
      born_(std::chrono::steady_clock::now()),
      last_heard_(born_),
      last_sent_(born_) {}

void PeerConnection::start(size_t unread_bytes_max) {
  std::weak_ptr<PeerConnection> weak = weak_from_this();
  auto resume = [weak, loop = std::weak_ptr<asio::io_context>(loop_)] {
    std::shared_ptr<asio::io_context> alive = loop.lock();
    if (!alive) return;
    asio::post(*alive, [weak] {
      if (std::shared_ptr<PeerConnection> self = weak.lock()) self->read();
    });
  };
  unread_ = std::make_shared<PeerUnread>(unread_bytes_max, std::move(resume));
  read();
}

bool PeerConnection::send(PeerFrame frame) { return enqueue(std::move(frame), false); }

bool PeerConnection::enqueue(PeerFrame frame, bool last) {
  size_t size = peer_frame_bytes(frame);
  {
    std::lock_guard lock(mutex_);
    if (deaf_) return false;
    if (!last && queued_bytes_ > 0 && queued_bytes_ + size > kPeerQueueBytesMax) return false;
    queue_.append(std::move(frame));
    queued_bytes_ += size;
    if (last) deaf_ = leaving_ = true;
    if (std::exchange(writing_, true)) return true;
    // Under the lock, so that it comes before close(): the loop has not ended, and no task is left in it.
    asio::post(*loop_, [self = shared_from_this()] { self->write(); });
  }
  return true;
}

void PeerConnection::leave(const std::string& why) {
  if (ended_) return;
  left_ = std::chrono::steady_clock::now();
  (void)enqueue(goodbye_frame(why), true);
}

void PeerConnection::check(PeerTime now) {
  if (paused()) last_heard_ = now;
  if (write_error_) return end_on(write_error_);
  if (left_ < now - kGoodbyeLimit) fail({false, "left"});
}

void PeerConnection::say_idle(PeerTime since) {
  if (last_sent_ > since) return;
  {
    std::lock_guard lock(mutex_);
    if (writing_) return;  // what waits says it better, and if it cannot go out neither can this
  }
  PeerFrame idle;
  idle.kind = kPeerIdle;
  (void)enqueue(std::move(idle), false);
}

void PeerConnection::close() {
  ended_ = true;
  error_code ignored;
  socket_.close(ignored);
  std::lock_guard lock(mutex_);
  deaf_ = true;
  queue_ = PeerOutQueue();
}

void PeerConnection::fail(End end) {
  if (ended_) return;
  close();
  asio::post(*loop_, [self = shared_from_this(), end = std::move(end)] { self->owner_.on_end(*self, end); });
}

void PeerConnection::abandon(const std::string& why) {
  if (ended_) return;
  {
    std::lock_guard lock(mutex_);
    PeerOutQueue last;
    last.append(goodbye_frame(why));
    // In the middle of a frame it would not be understood.
    if (!writing_) {
      for (const PeerOutQueue::Run& run : last.take(kRunsPerWrite)) {
        (void)::send(socket_.native_handle(), run.view().data(), run.view().size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      }
    }
  }
  fail({false, why});
}

void PeerConnection::end_on(const error_code& error) {
  bool gone = error == asio::error::eof || error == asio::error::connection_reset || error == asio::error::broken_pipe;
  fail({gone, error == asio::error::eof ? "closed by the other side" : error.message()});
}

// --- reading ---------------------------------------------------------------------------------------------------------

void PeerConnection::read() {
  if (ended_) return;
  PeerFrameReader::Space space = reader_.space();
  std::array<asio::mutable_buffer, 3> buffers;
  for (size_t i = 0; i < space.size(); ++i) buffers[i] = asio::buffer(space[i].data(), space[i].size());
  socket_.async_read_some(
      buffers, [self = shared_from_this()](const error_code& error, size_t size) { self->on_read(error, size); });
}

void PeerConnection::on_read(const error_code& error, size_t size) {
  if (ended_) return;
  if (error) return end_on(error);
  last_heard_ = std::chrono::steady_clock::now();
  reader_.filled(size);
  std::vector<PeerFrame> frames;
  End end;
  bool ends = false;
  while (!ends) {
    Result<std::optional<PeerFrame>> next = reader_.next();
    if (!next.ok()) {
      // What came before it is sound and is delivered.
      end = {false, "sent damaged bytes: " + std::string(next.status().message())};
      ends = true;
    } else if (!next->has_value()) {
      break;
    } else if ((*next)->kind == kPeerGoodbye) {
      end = {false, "said goodbye: " + std::string(as_text((*next)->body.view().first(
                                           std::min((*next)->body.size(), PeerHello::kWhyBytesMax))))};
      ends = true;
    } else if ((*next)->kind != kPeerIdle) {
      frames.push_back(std::move(**next));
    }
  }
  if (!frames.empty()) owner_.on_frames(*this, std::move(frames));
  if (ended_) return;
  if (ends) return fail(std::move(end));
  if (!unread_->pause_if_full()) read();
}

// --- writing ---------------------------------------------------------------------------------------------------------

void PeerConnection::write() {
  if (ended_) return;
  bool done = false;
  {
    std::lock_guard lock(mutex_);
    sending_ = queue_.take(kRunsPerWrite);
    runs_sent_ = run_bytes_sent_ = 0;
    if (sending_.empty()) {
      writing_ = false;
      done = leaving_;
    }
  }
  if (done) return fail({false, "left"});
  if (!sending_.empty()) write_some();
}

void PeerConnection::write_some() {
  std::vector<asio::const_buffer> buffers;
  buffers.reserve(sending_.size() - runs_sent_);
  for (size_t i = runs_sent_; i < sending_.size(); ++i) {
    ByteView view = sending_[i].view();
    if (i == runs_sent_) view = view.subspan(run_bytes_sent_);
    buffers.emplace_back(view.data(), view.size());
  }
  socket_.async_write_some(
      buffers, [self = shared_from_this()](const error_code& error, size_t size) { self->on_written(error, size); });
}

void PeerConnection::on_written(const error_code& error, size_t size) {
  if (ended_) return;
  if (error) {
    // What the other side said last may still be unread, and knows better why: reading ends it, or the next check().
    write_error_ = error;
    return;
  }
  last_sent_ = std::chrono::steady_clock::now();
  size_t left = size;
  while (runs_sent_ < sending_.size() && left >= sending_[runs_sent_].view().size() - run_bytes_sent_) {
    left -= sending_[runs_sent_].view().size() - run_bytes_sent_;
    sending_[runs_sent_] = {};  // lets go of a bulk as soon as it is out
    ++runs_sent_;
    run_bytes_sent_ = 0;
  }
  run_bytes_sent_ += left;
  {
    std::lock_guard lock(mutex_);
    queued_bytes_ -= size;
  }
  if (runs_sent_ < sending_.size()) return write_some();
  write();
}

}  // namespace trilog
