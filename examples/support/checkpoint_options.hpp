// The arguments of 05_checkpoint.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>

#include "moe/models/file/load_layer.hpp"

namespace example {

using moe::Index;

// In the order of StorageKind.
inline constexpr const char* kStorages[] = {"float", "bf16", "int8", "int4", "int8_channels", "q4_k", "q6_k"};

inline constexpr const char* kCheckpointUsage = R"(05_checkpoint
    on a small model that it makes
05_checkpoint MODEL
    a table of the layers of a model as it is published, a folder or a .gguf file, without reading a weight
05_checkpoint MODEL --layer L [options]
    on one of its layers
05_checkpoint PACKED_FILE [--tokens FILE | --random N] [--sequence N]
    on a layer that --storage and --save have written

--tokens FILE      rows "x" [T, D] of a safetensors file, perhaps with "y" [T, D] and "token_ids" [T]
--random N         N random rows instead (256)
--sequence N       sequences of N rows each (all rows are one): models with a capacity drop tokens by sequence
--storage KIND     float, bf16, int8, int4, int8_channels, q4_k or q6_k: how the experts are kept in memory
--train-router N   N steps of training for the router alone
--save OUT         without --storage: the layer's tensors under the model's own names, trained ones as F32,
                   for the framework it came from; with bf16, int8 or int4: the packed layer for this library,
                   which needs no other file to load it again (PACKED_FILE, moe::models::load_packed)
)";

struct CheckpointOptions {
  std::filesystem::path folder{}, tokens{}, save{};
  bool help = false;
  bool packed = false;  // `folder` is a packed file
  bool table = false;   // of all layers of the folder, and nothing else
  Index layer = -1;
  Index random = 256;  // tokens
  Index sequence = 0;  // rows of each, 0: all in one
  Index steps = 0;     // of training
  moe::models::StorageKind storage = moe::models::StorageKind::float32;
};

inline Index number_from(const std::string& option, const std::string& value, Index least) {
  Index n = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (error == std::errc() && end == value.data() + value.size() && n >= least && n <= INT32_MAX) return n;
  throw std::runtime_error(option + ": give a whole number from " + std::to_string(least) + ", not \"" +
                           value + "\"");
}

/// Throws std::runtime_error that says what to give instead.
inline CheckpointOptions parse_checkpoint_options(int argc, char** argv) {
  CheckpointOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (!option.starts_with("--")) {
      if (!options.folder.empty()) throw std::runtime_error("give one folder, not also \"" + option + "\"");
      options.folder = option;
      continue;
    }
    if (option == "--help") {
      options.help = true;
      return options;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (option == "--layer") {
      options.layer = number_from(option, value, 0);
    } else if (option == "--random") {
      options.random = number_from(option, value, 1);
    } else if (option == "--sequence") {
      options.sequence = number_from(option, value, 1);
    } else if (option == "--train-router") {
      options.steps = number_from(option, value, 1);
    } else if (option == "--storage") {
      const auto* const found = std::find(std::begin(kStorages), std::end(kStorages), value);
      if (found == std::end(kStorages))
        throw std::runtime_error(
            "--storage: give float, bf16, int8, int4, int8_channels, q4_k or q6_k, not \"" + value + "\"");
      options.storage = static_cast<moe::models::StorageKind>(found - kStorages);
    } else if (option == "--tokens" || option == "--save") {
      if (value.empty()) throw std::runtime_error(option + ": give a file");
      (option == "--tokens" ? options.tokens : options.save) = value;
    } else {
      throw std::runtime_error(option +
                               " is unknown; there are --layer, --tokens, --random, --sequence, --storage, "
                               "--train-router, --save and "
                               "--help");
    }
  }
  if (options.folder.empty()) throw std::runtime_error("give a model's folder and --layer L");
  const bool gguf = moe::models::is_gguf(options.folder);
  options.packed = !gguf && std::filesystem::is_regular_file(options.folder);
  if (options.packed) {
    const char* const folders = options.steps > 0                                      ? "--train-router"
                                : !options.save.empty()                                ? "--save"
                                : options.storage != moe::models::StorageKind::float32 ? "--storage"
                                                                                       : nullptr;
    if (folders != nullptr) {
      throw std::runtime_error(std::string(folders) + " is for a model's folder, and " +
                               options.folder.string() +
                               " is a file: a packed layer, which is used as it is. Leave " + folders +
                               " out, or give the folder that has config.json, and --layer L");
    }
  } else if (options.layer < 0 && argc > 2) {
    throw std::runtime_error("say which layer: --layer L, where the first is 0; the folder alone lists them");
  } else if (gguf && !options.save.empty()) {
    throw std::runtime_error(
        "--save is for a layer of a model's folder, whose names and config.json it keeps, and " +
        options.folder.string() + " is a GGUF file");
  } else if (!gguf && !std::filesystem::exists(options.folder / "config.json")) {
    throw std::runtime_error(options.folder.string() +
                             " has no config.json; give the folder of a model as it is published");
  }
  options.table = !options.packed && options.layer < 0;
  if (!options.tokens.empty() && !std::filesystem::exists(options.tokens)) {
    throw std::runtime_error("--tokens: there is no file " + options.tokens.string() +
                             "; give a safetensors file with \"x\" [tokens, width], or --random N");
  }
  if (options.save.has_parent_path() && !std::filesystem::is_directory(options.save.parent_path()))
    throw std::runtime_error("--save: make the folder " + options.save.parent_path().string() + " first");
  return options;
}

}  // namespace example
