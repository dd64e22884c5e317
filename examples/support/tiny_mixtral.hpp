// A model folder as releases have it, small enough to be made in a moment: config.json, shards and their
// index.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "moe/io/safetensors/writer.hpp"

namespace example {

/// Two MoE blocks of Mixtral in bfloat16, with random weights.
inline void make_tiny_mixtral(const std::filesystem::path& folder) {
  constexpr moe::Index kWidth = 64, kHidden = 96, kExperts = 8;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json")
      << "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 2, \"hidden_size\": " << kWidth
      << ", \"intermediate_size\": " << kHidden << ", \"num_local_experts\": " << kExperts
      << ", \"num_experts_per_tok\": 2, \"hidden_act\": \"silu\"}\n";
  moe::io::SafetensorsWriter writer;
  writer.add_metadata("format", "pt");
  std::mt19937_64 random(7);
  const auto add = [&](const std::string& name, moe::Index out, moe::Index in) {
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(in)));
    std::vector<float> matrix(static_cast<std::size_t>(out * in));
    for (float& w : matrix) w = normal(random);
    writer.add_floats(name + ".weight", moe::io::DType::BF16, moe::io::Shape(out, in), matrix.data());
  };
  for (int layer = 0; layer < 2; ++layer) {
    const std::string block = "model.layers." + std::to_string(layer) + ".block_sparse_moe.";
    add(block + "gate", kExperts, kWidth);
    for (moe::Index e = 0; e < kExperts; ++e) {
      const std::string expert = block + "experts." + std::to_string(e) + ".";
      add(expert + "w1", kHidden, kWidth);
      add(expert + "w3", kHidden, kWidth);
      add(expert + "w2", kWidth, kHidden);
    }
  }
  writer.save_sharded(folder, 256 << 10);
}

}  // namespace example
