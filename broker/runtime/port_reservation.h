// A TCP port that the system picks and that stays ours for as long as this lives: bound, never listened on, so that
// connecting to it is refused until the process that it is for listens there (with SO_REUSEADDR, as servers do).
#pragma once

#include <string>

#include "storage/base/status.h"

namespace trilog {

class PortReservation {
 public:
  // On 127.0.0.1.
  static Result<PortReservation> make();
  PortReservation(PortReservation&& other) noexcept;
  PortReservation& operator=(PortReservation&& other) noexcept;
  ~PortReservation();
  int port() const { return port_; }

 private:
  PortReservation(int fd, int port) : fd_(fd), port_(port) {}
  int fd_ = -1;
  int port_ = 0;
};

}  // namespace trilog
