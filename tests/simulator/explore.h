// simulator --explore: everything that can happen to one partition within bounds, breadth-first, with the controller's
// own functions (tests/broker/controller/exploration_model.h).
#pragma once

namespace trilog::simulator {

// Three nodes, three records, three leader epochs and two crashes of any kind; and an acknowledged record with three
// crashes, one of them with a silent loss. Prints how many states there were, and the first violation with its path.
// The exit code: 0 if there is none, else 1. Bounds: about 15 million states, 3 GiB of memory.
int explore();

}  // namespace trilog::simulator
