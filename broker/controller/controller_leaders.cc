// Controller: preferred leaders (rule C14). A node that comes back leads nothing: what it led has gone to the
// survivors. Some seconds after everything is in sync again, each partition goes back to the first replica of its
// assignment, a few at a time, and not while anything is wrong. Only the return of a node sets that off: what an
// operator moved or drained stays as it is until then.
#include <utility>

#include "broker/controller/controller_impl.h"
#include "broker/controller/partition_control.h"

namespace trilog {

namespace {

bool all_in_sync(const MetadataImage& image) {
  std::vector<const TopicImage*> topics;
  for (const auto& [name, topic] : image.topics()) topics.push_back(topic.get());
  return all_in_sync(topics, image.brokers());
}

}  // namespace

// Whatever changes who is in sync is a proposal of this controller, so nothing has to be polled.
void Controller::Impl::look_at_leaders() {
  if (!active || stopped || returned.empty() || giving_back) return;
  if (!all_in_sync(*image())) {
    if (leaders_timer != 0) env.executor().cancel(std::exchange(leaders_timer, 0));
  } else if (leaders_timer == 0) {
    give_leaders_back_after(options.leaders_return_ms);
  }
}

void Controller::Impl::give_leaders_back_after(int64_t ms) {
  leaders_timer = env.executor().schedule_after(ms * 1'000'000, [self_copy = self] {
    Impl* impl = *self_copy;
    if (impl == nullptr) return;
    impl->leaders_timer = 0;
    impl->give_leaders_back();
  });
}

void Controller::Impl::give_leaders_back() {
  giving_back = true;
  submit<size_t>(
      [impl = this](PlannedState& state) -> Step<size_t> {
        return plan_preferred_leaders(state, impl->returned, impl->moved_by_hand, impl->options.leaders_return_at_once);
      },
      [self_copy = self](const api::Answer<size_t>& moved) {
        Impl* impl = *self_copy;
        if (impl == nullptr || !impl->active || impl->stopped) return;
        impl->giving_back = false;
        if (!all_in_sync(*impl->image())) return;  // the change that heals it looks again
        if (moved.ok() && moved.value() == 0) return impl->forget_leaders();
        if (moved.ok()) impl->env.log().info(moved.value(), " partitions are led by their first replica again");
        impl->give_leaders_back_after(impl->options.leaders_return_pause_ms);
      });
}

void Controller::Impl::forget_leaders() {
  returned.clear();
  moved_by_hand.clear();
  giving_back = false;
  if (leaders_timer != 0) env.executor().cancel(std::exchange(leaders_timer, 0));
}

}  // namespace trilog
