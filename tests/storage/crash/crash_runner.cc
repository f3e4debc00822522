#include "tests/storage/crash/crash_runner.h"

#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "tests/storage/crash/crash_choices.h"

namespace trilog::crash {
namespace {

struct CaseEntry {
  const char* name;
  std::unique_ptr<CrashCase> (*make)();
  uint32_t weight;
};
constexpr CaseEntry kCases[] = {
    {"log", make_log_case, 14},
    {"marks", make_marks_case, 1},
    {"view", make_view_case, 1},
    {"raft", make_raft_case, 4},
};

// A long program gets so many of its states, so that a run sees many programs; a short one gets nearly all.
constexpr uint64_t kStatesOfLongProgram = 1'200;
constexpr uint64_t kStatesOfShortProgram = 4'000;
constexpr time_t kSecondsPerStateMax = 10;

const CaseEntry& case_by_weight(uint64_t draw) {
  uint64_t sum = 0;
  for (const CaseEntry& entry : kCases) sum += entry.weight;
  draw %= sum;
  for (const CaseEntry& entry : kCases) {
    if (draw < entry.weight) return entry;
    draw -= entry.weight;
  }
  return kCases[0];
}

// Of processor time, so that a busy machine is not taken for a recovery that does not end. SIGPROF then.
void start_patience() {
  itimerval patience{};
  patience.it_value.tv_sec = kSecondsPerStateMax;
  setitimer(ITIMER_PROF, &patience, nullptr);
}

int64_t processor_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// Calls `use` with each state of the recording; `states` stands at the state's position meanwhile.
bool for_each_state(sim::CrashStates& states, const CrashCase& checked, uint64_t seed, const UseFates& use) {
  sim::SeededRandom random(seed);
  while (states.advance()) {
    const sim::DiskOp& op = states.ops()[states.position() - 1];
    bool is_mark = op.kind == sim::DiskOp::Kind::kMark;
    // After a sync, or a mark that demands less, there is no image that was not there before.
    if (!op.changes_file() && !op.changes_directory() && !(is_mark && checked.stricter(op.offset))) continue;
    if (!for_each_choice(states, is_mark, random, use)) return false;
  }
  return true;
}

}  // namespace

CrashRunner::Plan CrashRunner::plan(uint64_t seed) const {
  sim::SeededRandom random(seed * 0x9e3779b97f4a7c15 + 1);
  Plan plan;
  plan.case_name = case_by_weight(random.next()).name;
  if (!options_.only_case.empty()) plan.case_name = options_.only_case;
  plan.exhaustive = random.chance(30);
  plan.steps = plan.exhaustive ? 2 + random.below(7) : 12 + random.below(50);
  return plan;
}

std::optional<std::string> CrashRunner::run() {
  for (uint64_t seed = options_.seed; totals_.states < options_.states; ++seed) {
    if (auto violation = run_program(seed)) return violation;
  }
  return std::nullopt;
}

std::optional<std::string> CrashRunner::run_program(uint64_t seed) {
  Plan planned = plan(seed);
  case_.reset();
  for (const CaseEntry& entry : kCases) {
    if (planned.case_name == entry.name) case_ = entry.make();
  }
  if (case_ == nullptr) return "there is no case '" + planned.case_name + "'";
  case_->count_into(totals_.met);
  case_name_ = planned.case_name;
  program_seed_ = seed;
  states_before_program_ = totals_.states;
  fates_.clear();
  start_patience();
  sim::Recording recording = case_->record(seed, planned.steps);
  ++totals_.programs;
  totals_.operations += recording.ops.size();
  return check_states(seed, planned, recording);
}

std::optional<std::string> CrashRunner::check_states(uint64_t seed, const Plan& plan, const sim::Recording& recording) {
  uint64_t count = 0;
  sim::CrashStates counted(recording);
  for_each_state(counted, *case_, seed, [&](std::span<const sim::Fate>) {
    ++count;
    return true;
  });
  const uint64_t budget = plan.exhaustive ? kStatesOfShortProgram : kStatesOfLongProgram;
  sim::SeededRandom sampling(seed ^ 0x5ca1ab1e);
  std::string violation;
  sim::CrashStates states(recording);
  states_ = &states;
  for_each_state(states, *case_, seed, [&](std::span<const sim::Fate> fates) {
    if (count > budget && sampling.below(count) >= budget) return true;
    if (totals_.states >= options_.states) return false;
    violation = check_one(states, fates, sampling.next());
    return violation.empty();
  });
  std::optional<std::string> report;
  if (!violation.empty()) report = violation + "\n" + where();
  states_ = nullptr;
  return report;
}

std::string CrashRunner::check_one(const sim::CrashStates& states, std::span<const sim::Fate> fates, uint64_t seed) {
  fates_.assign(fates.begin(), fates.end());
  ++totals_.states;
  ++totals_.states_by_case[case_name_];
  totals_.unsynced_max = std::max<uint64_t>(totals_.unsynced_max, fates.size());
  totals_.torn_states += std::any_of(fates.begin(), fates.end(), [](const sim::Fate& fate) {
    return fate.kind == sim::Fate::Kind::kPrefix || fate.kind == sim::Fate::Kind::kPattern;
  });
  start_patience();  // bounded time: a recovery that does not end is a violation too
  int64_t began = processor_ns();
  std::string violation = case_->check(states.image(fates), states.last_mark().value(), seed);
  totals_.longest_ns = std::max(totals_.longest_ns, processor_ns() - began);
  return violation;
}

std::string CrashRunner::where() const {
  std::string text = "case " + case_name_ + ", program seed " + std::to_string(program_seed_);
  std::string again = "again: crash_test --case " + case_name_ + " --seed " + std::to_string(program_seed_) +
                      " --states " + std::to_string(std::max<uint64_t>(1, totals_.states - states_before_program_));
  if (states_ == nullptr) return text + ", while the program ran\n" + again + "\n";
  uint64_t mark = states_->last_mark().value();
  text += ", crash after " + std::to_string(states_->position()) + " of " + std::to_string(states_->size()) +
          " disk operations, in step " + std::to_string(mark) + "\n" + again + "\nprogram:\n" + case_->story(mark) +
          "disk operations:\n";
  for (size_t i = 0; i < states_->position(); ++i) text += "  " + states_->ops()[i].to_string() + "\n";
  return text + "unsynced at the crash:\n" + sim::describe(states_->unsynced(), fates_);
}

}  // namespace trilog::crash
