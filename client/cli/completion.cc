#include "client/cli/completion.h"

#include <algorithm>

#include "storage/base/check.h"

namespace trilog::cli {
namespace {

std::string words(const CompletionEntry& entry) {
  std::string text;
  for (const auto& [name, about] : entry.commands) text += (text.empty() ? "" : " ") + name;
  for (const auto& [name, about] : entry.options) text += (text.empty() ? "" : " ") + name;
  return text;
}

bool takes_topic(const std::string& path) {
  return path == "produce" || path == "consume" || path == "topic show" || path == "topic alter" ||
         path == "topic delete" || path == "topic trim";
}

// One case per command: its words, and topic names where a topic is wanted.
std::string bash_cases(const std::vector<CompletionEntry>& entries) {
  std::string text;
  for (const CompletionEntry& entry : entries) {
    text += "    \"" + entry.path + "\") words=\"" + words(entry) + "\"";
    if (takes_topic(entry.path))
      text += "; [[ $current == -* ]] || words+=\" $(trilog topic list -q --timeout 500ms 2>/dev/null)\"";
    text += " ;;\n";
  }
  return text;
}

std::string bash_script(const std::vector<CompletionEntry>& entries) {
  return "# trilog completion for bash: source <(trilog completion bash)\n"
         "_trilog() {\n"
         "  local current=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" words=\"\" i\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    case \"${COMP_WORDS[i]}\" in -*) ;; *) case \"$path\" in\n"
         "      \"\"|topic|group|partition|cluster|node|bench) path=\"${path:+$path }${COMP_WORDS[i]}\" ;;\n"
         "    esac ;; esac\n"
         "  done\n"
         "  case \"$path\" in\n" +
         bash_cases(entries) +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "}\n"
         "complete -o default -F _trilog trilog\n";
}

std::string zsh_script(const std::vector<CompletionEntry>& entries) {
  return "#compdef trilog\n# trilog completion for zsh: source <(trilog completion zsh)\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         bash_script(entries).substr(bash_script(entries).find('\n') + 1);
}

std::string fish_quoted(const std::string& text) {
  std::string quoted = "'";
  for (char c : text) quoted += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return quoted + "'";
}

// Several commands have subcommands of the same name, so each word of the path is asked for; and where a subcommand is
// still to come, that none is there yet.
std::string fish_condition(const CompletionEntry& entry) {
  if (entry.path.empty()) return "__fish_use_subcommand";
  std::string condition;
  for (size_t begin = 0; begin <= entry.path.size();) {
    size_t end = std::min(entry.path.find(' ', begin), entry.path.size());
    condition +=
        (begin == 0 ? "" : "; and ") + ("__fish_seen_subcommand_from " + entry.path.substr(begin, end - begin));
    begin = end + 1;
  }
  if (entry.commands.empty()) return condition;
  condition += "; and not __fish_seen_subcommand_from";
  for (const auto& [name, about] : entry.commands) condition += " " + name;
  return condition;
}

std::string fish_script(const std::vector<CompletionEntry>& entries) {
  std::string text = "# trilog completion for fish: trilog completion fish | source\n";
  for (const CompletionEntry& entry : entries) {
    std::string condition = fish_condition(entry);
    for (const auto& [name, about] : entry.commands) {
      text += "complete -c trilog -f -n " + fish_quoted(condition) + " -a " + name + " -d " + fish_quoted(about) + "\n";
    }
    for (const auto& [name, about] : entry.options) {
      text += "complete -c trilog -n " + fish_quoted(condition) + " -l " + name.substr(2) + " -d " +
              fish_quoted(about) + "\n";
    }
    if (takes_topic(entry.path)) {
      text += "complete -c trilog -f -n " + fish_quoted(condition) +
              " -a '(trilog topic list -q --timeout 500ms 2>/dev/null)'\n";
    }
  }
  return text;
}

}  // namespace

std::string completion_script(const std::string& shell, const std::vector<CompletionEntry>& entries) {
  if (shell == "bash") return bash_script(entries);
  if (shell == "zsh") return zsh_script(entries);
  if (shell == "fish") return fish_script(entries);
  UNREACHABLE("shell");
}

}  // namespace trilog::cli
