// PeerConnection: one TCP connection between two brokers after their hellos. Writes what is queued with gathering
// writes, reads frames to where they stay. Everything runs on the transport's thread except send().
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "broker/runtime/peer_delivery.h"
#include "broker/runtime/peer_wire.h"

namespace trilog {

using PeerTime = std::chrono::steady_clock::time_point;

// Frames on their way out as runs of bytes. Small ones are copied together, so that many are one run; bulks and large
// bodies are not copied.
class PeerOutQueue {
 public:
  void append(PeerFrame frame);
  struct Run {
    Bytes owned;
    SharedBytes shared;
    ByteView view() const { return owned.empty() ? shared.view() : owned.view(); }
  };
  // At most `runs_max`, from the front.
  std::vector<Run> take(size_t runs_max);
  bool empty() const { return runs_.empty(); }

  static constexpr size_t kCopiedBodyBytesMax = size_t{4} << 10;
  static constexpr size_t kCopiedRunBytesMax = size_t{64} << 10;

 private:
  std::deque<Run> runs_;
};

class PeerConnection : public std::enable_shared_from_this<PeerConnection> {
 public:
  // How a connection ended.
  struct End {
    bool gone = false;  // the other side was reset or closed without a goodbye: its process is gone
    std::string why;
  };
  class Owner {
   public:
    virtual ~Owner() = default;
    // Frames that came with one read, in order; not empty.
    virtual void on_frames(PeerConnection& connection, std::vector<PeerFrame> frames) = 0;
    // Once, never inside start() or close().
    virtual void on_end(PeerConnection& connection, const End& end) = 0;
  };

  // `hello`: theirs. The owner must live until the loop has run dry.
  PeerConnection(std::shared_ptr<boost::asio::io_context> loop, boost::asio::ip::tcp::socket socket, PeerHello hello,
                 Owner& owner);

  // Any thread. False: closed, or more than kPeerQueueBytesMax would wait (one frame alone always fits).
  bool send(PeerFrame frame);

  void start(size_t unread_bytes_max);
  // Nothing is heard or told any more.
  void close();
  // Sends what is queued and then a goodbye, closes, and tells the owner.
  void leave(const std::string& why);
  // Now and then: gives up what cannot be written any more.
  void check(PeerTime now);
  // Says that this side is there, unless something was sent since `since`.
  void say_idle(PeerTime since);
  // Ends it like a broken one.
  void fail(End end);
  // The same at once, with a goodbye if that can go out without waiting: should the other side hear again, it knows
  // that this process lives.
  void abandon(const std::string& why);

  const PeerHello& hello() const { return hello_; }
  BrokerId peer() const { return hello_.identity.broker; }
  PeerChannel channel() const { return hello_.channel; }
  bool left() const { return left_ != PeerTime::max(); }
  PeerTime born() const { return born_; }
  PeerTime last_heard() const { return last_heard_; }
  void set_last_heard(PeerTime time) { last_heard_ = time; }
  // Stopped reading until its shards have taken more: then silence means nothing.
  bool paused() const { return unread_->paused(); }
  const std::shared_ptr<PeerUnread>& unread() const { return unread_; }

 private:
  bool enqueue(PeerFrame frame, bool last);
  void read();
  void on_read(const boost::system::error_code& error, size_t size);
  void write();
  void write_some();
  void on_written(const boost::system::error_code& error, size_t size);
  void end_on(const boost::system::error_code& error);

  std::shared_ptr<boost::asio::io_context> loop_;  // before the socket, which needs it to the end
  boost::asio::ip::tcp::socket socket_;
  const PeerHello hello_;
  Owner& owner_;
  const PeerTime born_;
  PeerTime last_heard_;
  PeerTime last_sent_;
  bool ended_ = false;
  boost::system::error_code write_error_;
  PeerTime left_ = PeerTime::max();  // when it said goodbye
  PeerFrameReader reader_;
  std::shared_ptr<PeerUnread> unread_;

  std::vector<PeerOutQueue::Run> sending_;
  size_t runs_sent_ = 0;
  size_t run_bytes_sent_ = 0;  // of sending_[runs_sent_]

  std::mutex mutex_;  // of what follows
  PeerOutQueue queue_;
  size_t queued_bytes_ = 0;  // with what is being sent
  bool writing_ = false;
  bool deaf_ = false;     // takes no more frames
  bool leaving_ = false;  // closes when the queue is empty
};

}  // namespace trilog
