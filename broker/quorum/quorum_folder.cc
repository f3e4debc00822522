#include "broker/quorum/quorum_folder.h"

#include <utility>

#include "storage/base/codec.h"
#include "storage/log/log_directory.h"  // frames of small files

namespace trilog {

namespace {

constexpr uint32_t kFileVersion = 1;
constexpr size_t kFileBytesMax = 64u << 10;
constexpr std::string_view kVotersFile = "voters";
constexpr std::string_view kLearnerFile = "learner";

struct LearnerFile {
  bool ready = false;  // false: what was in the folder may not all have gone yet
  DirectoryId identity;
};

Result<std::optional<Bytes>> read_small_file(Env& env, const std::string& path) {
  auto content = env.files().read_file(path, kFileBytesMax);
  if (content.status().code() == Errc::kNotFound) return std::optional<Bytes>();
  if (!content.ok()) return content.status();
  auto payload = unframe_checkpoint(*content, kFileVersion);
  if (!payload.ok()) return payload.status().with_context(path);
  return std::optional(Bytes::copy_of(*payload));
}

Status write_learner_file(Env& env, const std::string& directory, const LearnerFile& file) {
  Bytes payload;
  ByteWriter out(payload);
  out.write<uint8_t>(file.ready ? 1 : 0);
  out.write<uint64_t>(file.identity.high());
  out.write<uint64_t>(file.identity.low());
  return env.files().replace_file(join_path(directory, kLearnerFile), frame_checkpoint(kFileVersion, payload));
}

Status clear_out(Env& env, const std::string& directory, DirectoryId identity) {
  std::string aside = directory + ".damaged-" + identity.to_string().substr(0, 8);
  bool moved = false;
  for (const DirectoryEntry& entry : TRY(env.files().list(directory))) {
    if (entry.name == kLearnerFile) continue;
    if (!std::exchange(moved, true)) TRY(env.files().create_directories(aside));
    TRY(env.files().rename(join_path(directory, entry.name), join_path(aside, entry.name)));
  }
  if (moved) {
    TRY(env.files().sync_directory_now(aside));
    TRY(env.files().sync_directory_now(parent_path(directory)));
    env.log().warning("what was in ", directory, " is kept in ", aside);
  }
  TRY(env.files().sync_directory_now(directory));
  return write_learner_file(env, directory, {true, identity});
}

}  // namespace

Status write_voters_file(Env& env, const std::string& directory, const VoterSet& voters) {
  TRY(env.files().create_directories(directory));
  TRY(env.files().replace_file(join_path(directory, kVotersFile),
                               frame_checkpoint(kFileVersion, encode_voter_set(voters))));
  return env.files().sync_directory_now(parent_path(directory));
}

Result<std::optional<VoterSet>> read_voters_file(Env& env, const std::string& directory) {
  auto payload = TRY(read_small_file(env, join_path(directory, kVotersFile)));
  if (!payload) return std::optional<VoterSet>();
  return std::optional(TRY(decode_voter_set(*payload)));
}

Status remove_voters_file(Env& env, const std::string& directory) {
  std::string path = join_path(directory, kVotersFile);
  return env.files().exists(path) ? env.files().remove_file(path) : ok_status();
}

Result<std::optional<DirectoryId>> read_learner_file(Env& env, const std::string& directory) {
  auto payload = TRY(read_small_file(env, join_path(directory, kLearnerFile)));
  if (!payload) return std::optional<DirectoryId>();
  ByteReader in(*payload);
  LearnerFile file;
  file.ready = in.read<uint8_t>() == 1;
  auto high = in.read<uint64_t>();
  file.identity = DirectoryId(high, in.read<uint64_t>());
  if (!in.ok() || !in.at_end() || file.identity.is_zero()) {
    return Status(Errc::kCorruption, join_path(directory, kLearnerFile) + " does not name a folder");
  }
  if (!file.ready) TRY(clear_out(env, directory, file.identity));
  return std::optional(file.identity);
}

Status note_learner(Env& env, const std::string& directory, DirectoryId identity) {
  return write_learner_file(env, directory, {false, identity});
}

// The note comes first: from then on nothing that was in the folder is believed, wherever a crash comes.
Status begin_as_learner(Env& env, const std::string& directory, DirectoryId identity) {
  TRY(env.files().create_directories(directory));
  TRY(write_learner_file(env, directory, {false, identity}));
  TRY(env.files().sync_directory_now(parent_path(directory)));
  return clear_out(env, directory, identity);
}

}  // namespace trilog
