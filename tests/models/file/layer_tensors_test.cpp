#include "moe/models/file/layer_tensors.hpp"

#include <string>

#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::io::Encoding;
using moe::models::LayerTensors;
using moe::models::Quantisation;
using test::Golden;

Quantisation quantisation(const std::string& section) {
  return Quantisation::from(
      moe::io::Config::from_text("{\"quantization_config\": " + section + "}", "config.json"));
}
std::string compressed(const std::string& format, const std::string& weights) {
  return R"({"quant_method": "compressed-tensors", "format": ")" + format +
         R"(", "config_groups": {"group_0": {"weights": )" + weights + "}}}";
}

}  // namespace

TEST_CASE("quantisations that are read", "[models]") {
  CHECK(Quantisation::from(moe::io::Config::from_text("{}", "config.json")).encoding == Encoding::plain);
  CHECK(quantisation(R"({"quant_method": "mxfp4"})").encoding == Encoding::mxfp4);
  const Quantisation fp8 = quantisation(R"({"quant_method": "fp8", "weight_block_size": [128, 64]})");
  CHECK((fp8.encoding == Encoding::scaled && fp8.scale_rows == 128 && fp8.scale_cols == 64));
  const Quantisation int4 = quantisation(compressed(
      "pack-quantized", R"({"num_bits": 4, "symmetric": true, "strategy": "group", "group_size": 16})"));
  CHECK((int4.encoding == Encoding::int4 && int4.group == 16));
  const Quantisation channel = quantisation(compressed("float-quantized", R"({"strategy": "channel"})"));
  CHECK((channel.encoding == Encoding::scaled && channel.scale_rows == 1 && channel.scale_cols == 0));
  const Quantisation tensor = quantisation(compressed("float-quantized", R"({"strategy": "tensor"})"));
  CHECK((tensor.encoding == Encoding::scaled && tensor.scale_rows == 0 && tensor.scale_cols == 0));
  const Quantisation block =
      quantisation(compressed("float-quantized", R"({"strategy": "block", "block_structure": [32, 8]})"));
  CHECK((block.scale_rows == 32 && block.scale_cols == 8));
  CHECK(quantisation(compressed("mxfp4-pack-quantized", "{}")).encoding == Encoding::mxfp4);
  const Quantisation nvfp4 = quantisation(compressed("nvfp4-pack-quantized", "{}"));
  CHECK((nvfp4.encoding == Encoding::nvfp4 && nvfp4.divides));
  const Quantisation modelopt = quantisation(R"({"quant_method": "modelopt", "quant_algo": "NVFP4"})");
  CHECK((modelopt.encoding == Encoding::nvfp4 && !modelopt.divides));
  const Quantisation bytes = quantisation(
      compressed("int-quantized", R"({"num_bits": 8, "symmetric": true, "strategy": "channel"})"));
  CHECK((bytes.encoding == Encoding::scaled && bytes.scale_rows == 1));
  const Quantisation gptq = quantisation(R"({"quant_method": "gptq", "bits": 4, "group_size": 128})");
  CHECK((gptq.encoding == Encoding::gptq && gptq.group == 128 && gptq.zero_offset == 1));
  const Quantisation second = quantisation(
      R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "checkpoint_format": "gptq_v2"})");
  CHECK((second.group == 0 && second.zero_offset == 0));
  const Quantisation awq = quantisation(R"({"quant_method": "awq", "bits": 4, "group_size": 64})");
  CHECK((awq.encoding == Encoding::awq && awq.group == 64 && awq.zero_offset == 0));
}

TEST_CASE("several groups of a config are read where they say the same", "[models]") {
  const auto groups = [](const std::string& a, const std::string& b) {
    return R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"experts": {"weights": )" +
           a + R"(}, "rest": {"weights": )" + b + "}}}";
  };
  const std::string four = R"({"num_bits": 4, "symmetric": true, "strategy": "group", "group_size": 16})";
  CHECK(quantisation(groups(four, four)).group == 16);
  const std::string other = R"({"num_bits": 4, "symmetric": true, "strategy": "group", "group_size": 32})";
  const std::string message = test::message_of<moe::config_error>([&] { quantisation(groups(four, other)); });
  CHECK(message.find("config_groups.rest.weights.group_size: expected the value of ") != std::string::npos);
}

TEST_CASE("quantisations that cannot be read are refused by name", "[models]") {
  const auto refused = [](const std::string& section) {
    return test::message_of<moe::config_error>([&] { quantisation(section); });
  };
  CHECK(refused(R"({"quant_method": "bitsandbytes"})").find("\"bitsandbytes\"") != std::string::npos);
  CHECK(refused(R"({"quant_method": "awq", "bits": 8, "group_size": 64})").find("bits: expected 4, got 8") !=
        std::string::npos);
  CHECK(refused(R"({"quant_method": "gptq", "bits": 4, "group_size": 64, "checkpoint_format": "marlin"})")
            .find("checkpoint_format") != std::string::npos);
  CHECK(refused("{}").find("quant_method: expected this key") != std::string::npos);
  CHECK(refused(R"({"quant_method": "fp8", "weight_block_size": [128]})").find("weight_block_size") !=
        std::string::npos);
  CHECK(refused(compressed("pack-quantized",
                           R"({"num_bits": 8, "symmetric": true, "strategy": "group", "group_size": 16})"))
            .find("num_bits") != std::string::npos);
  CHECK(refused(compressed("int-quantized", R"({"num_bits": 4, "symmetric": true, "strategy": "channel"})"))
            .find("num_bits: expected symmetric weights of 8 bits") != std::string::npos);
  CHECK(refused(compressed("dense", R"({"strategy": "group"})")).find("\"dense\"") != std::string::npos);
}

TEST_CASE("layouts are those of the tensors that are there", "[models]") {
  const auto resolved = [](const char* folder) {
    const Golden golden(folder);
    const LayerTensors tensors(golden.model, golden.config, test::describe(golden.config, golden.layer));
    return std::pair(tensors.prefix(), tensors.experts());
  };
  using moe::io::ExpertMatrix;
  const auto [prefix, fused] = resolved("qwen3_5_moe");
  CHECK(prefix == "model.language_model.layers.0.mlp.");
  CHECK(fused[ExpertMatrix::gate].name == prefix + "experts.gate_up_proj");
  CHECK(resolved("qwen3_5_moe_2").second[ExpertMatrix::gate].name ==
        prefix + "experts.{expert}.gate_proj.weight");
  const auto fp8 = resolved("deepseek_v3_2").second[ExpertMatrix::down];
  CHECK((fp8.encoding == Encoding::scaled && fp8.scale_rows == 16));
  CHECK(fp8.scales == "model.layers.1.mlp.experts.{expert}.down_proj.weight_scale_inv");
  const auto int4 = resolved("kimi_k2_2").second[ExpertMatrix::up];
  CHECK((int4.encoding == Encoding::int4 && int4.group == 32));
  CHECK(int4.name == "model.layers.1.mlp.experts.{expert}.up_proj.weight_packed");
  const auto v4 = resolved("deepseek_v4").second[ExpertMatrix::gate];
  CHECK((v4.encoding == Encoding::mxfp4 && v4.scales == "layers.1.ffn.experts.{expert}.w1.scale"));
  CHECK(resolved("gpt_oss").second[ExpertMatrix::gate].encoding == Encoding::mxfp4);
  CHECK(resolved("gpt_oss_2").second[ExpertMatrix::gate].transposed);
}

TEST_CASE("tensors whose encoding the config does not announce are refused", "[models]") {
  for (const char* const folder : {"deepseek_v3_2", "kimi_k2_2"}) {
    const Golden golden(folder);
    const auto silent = test::edited(folder, "\"quantization_config\"", "\"another\"");
    const std::string message = test::message_of<moe::format_error>(
        [&] { LayerTensors(golden.model, silent, test::describe(silent, golden.layer)); });
    CHECK(message.find("quantization_config") != std::string::npos);
  }
}

TEST_CASE("a checkpoint of another model names what is missing", "[models]") {
  const Golden mixtral("mixtral"), olmoe("olmoe");
  const std::string message = test::message_of<moe::format_error>(
      [&] { LayerTensors(mixtral.model, olmoe.config, test::describe(olmoe.config, 0)); });
  CHECK(message.find("model.layers.0.mlp.gate.weight") != std::string::npos);
}
