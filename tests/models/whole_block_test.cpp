// Tensors of a block are all read, or the layer is refused; the same layer under the names and in the layouts
// that Transformers 5 holds in memory.
#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "models/fixture.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::io::DType;
using moe::io::Shape;
using test::Golden;
using test::Index;
using test::Ran;

/// A golden folder's tensors with some changed, in memory.
struct Tensors {
  struct One {
    std::string name;
    DType dtype;
    Shape shape;
    std::vector<std::byte> bytes;
  };
  std::vector<One> all;
  moe::Buffer<std::byte> file{};

  explicit Tensors(const Golden& golden) {
    for (const moe::io::Tensor* const t : golden.model.tensors()) {
      all.push_back({t->name, t->dtype, t->shape, {t->data, t->data + t->bytes}});
    }
  }
  void add(const std::string& name, const Shape& shape) {
    all.push_back(
        {name, DType::F32, shape, std::vector<std::byte>(static_cast<std::size_t>(4 * shape.elements()))});
  }
  One take(const std::string& name) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const One& t) { return t.name == name; });
    if (at == all.end()) throw std::runtime_error("no tensor " + name);
    One out = std::move(*at);
    all.erase(at);
    return out;
  }
  void rename(const std::string& from, const std::string& to) {
    for (One& t : all) {
      const std::size_t at = t.name.find(from);
      if (at != std::string::npos) t.name.replace(at, from.size(), to);
    }
  }
  moe::io::Checkpoint checkpoint() {
    moe::io::SafetensorsWriter writer;
    for (const One& t : all) writer.add(t.name, t.dtype, t.shape, t.bytes.data());
    file = writer.bytes();
    return moe::io::Checkpoint(
        moe::io::SafetensorsFile::from_bytes({file.data(), static_cast<std::size_t>(file.size())}, "model"));
  }
};

std::string refused(
    const char* folder, const moe::io::Config& config,
    const std::function<void(Tensors&)>& change = [](Tensors&) {}) {
  const Golden golden(folder);
  Tensors tensors(golden);
  change(tensors);
  const moe::io::Checkpoint checkpoint = tensors.checkpoint();
  return test::message_of<moe::format_error>(
      [&] { moe::models::load_layer(config, checkpoint, golden.layer); });
}
std::string refused(const char* folder, const std::function<void(Tensors&)>& change) {
  return refused(folder, Golden(folder).config, change);
}

void check_same(const char* folder, const std::function<void(Tensors&)>& change) {
  INFO(folder);
  const Golden golden(folder);
  Tensors tensors(golden);
  change(tensors);
  const moe::io::Checkpoint checkpoint = tensors.checkpoint();
  const auto layer = moe::models::load_layer(golden.config, checkpoint, golden.layer);
  CHECK(Ran(layer, golden.input()).y == Ran(golden.load(), golden.input()).y);
}

/// Matrices of experts one by one become [E, 2F, D] and [E, D, F]; without a gate [E, F, D] and [E, D, F]. Of
/// the experts `begin` to `end`, behind `into`.
void fuse(Tensors& tensors, const std::string& block, const std::vector<std::string>& first,
          const std::string& second, const std::string& first_name, const std::string& into = "experts.",
          Index begin = 0, Index end = 1000) {
  std::vector<std::byte> up, down;
  Shape one, other;
  DType dtype{};
  Index experts = 0;
  const auto has = [&](const std::string& name) {
    return std::any_of(tensors.all.begin(), tensors.all.end(), [&](const auto& t) { return t.name == name; });
  };
  for (; begin + experts < end; ++experts) {
    const std::string expert = block + "experts." + std::to_string(begin + experts) + ".";
    if (!has(expert + second + ".weight")) break;
    for (const std::string& name : first) {
      const auto t = tensors.take(expert + name + ".weight");
      up.insert(up.end(), t.bytes.begin(), t.bytes.end());
      one = t.shape;
      dtype = t.dtype;
    }
    const auto t = tensors.take(expert + second + ".weight");
    down.insert(down.end(), t.bytes.begin(), t.bytes.end());
    other = t.shape;
  }
  const Index parts = static_cast<Index>(first.size());
  tensors.all.push_back({block + into + first_name, dtype, Shape(experts, parts * one[0], one[1]), up});
  tensors.all.push_back({block + into + "down_proj", dtype, Shape(experts, other[0], other[1]), down});
}

/// Two tensors of [.., a, b] as one of [.., 2 a, b].
void join(Tensors& tensors, const std::string& first, const std::string& second, const std::string& name) {
  auto one = tensors.take(first);
  const auto two = tensors.take(second);
  const Index experts = one.shape.rank == 3 ? one.shape[0] : 1;
  const std::size_t piece = one.bytes.size() / static_cast<std::size_t>(experts);
  std::vector<std::byte> both;
  for (Index e = 0; e < experts; ++e) {
    const auto at = static_cast<std::ptrdiff_t>(piece) * e, end = at + static_cast<std::ptrdiff_t>(piece);
    both.insert(both.end(), one.bytes.begin() + at, one.bytes.begin() + end);
    both.insert(both.end(), two.bytes.begin() + at, two.bytes.begin() + end);
  }
  one.shape.extent[one.shape.rank - 2] *= 2;
  tensors.all.push_back({name, one.dtype, one.shape, both});
}

/// [E, a, b] as [E, b, a], [a, b] as [b, a].
void turn(Tensors& tensors, const std::string& name) {
  auto t = tensors.take(name);
  const bool one = t.shape.rank == 2;
  const Index width = moe::io::dtype_bits(t.dtype) / 8, e = one ? 1 : t.shape[0], a = t.shape[one ? 0 : 1],
              b = t.shape[one ? 1 : 2];
  auto turned = t;
  turned.shape = one ? Shape(b, a) : Shape(e, b, a);
  for (Index m = 0; m < e; ++m) {
    for (Index i = 0; i < a; ++i) {
      for (Index j = 0; j < b; ++j) {
        std::memcpy(turned.bytes.data() + ((m * b + j) * a + i) * width,
                    t.bytes.data() + ((m * a + i) * b + j) * width, static_cast<std::size_t>(width));
      }
    }
  }
  tensors.all.push_back(turned);
}

}  // namespace

TEST_CASE("a shared expert that the config does not announce is not dropped without a word", "[models]") {
  const std::string message =
      refused("deepseek_v3", test::edited("deepseek_v3", "\"n_shared_experts\"", "\"shared_experts_count\""));
  CHECK(
      message ==
      "moe: model: expected every tensor of layer 1 under \"model.layers.1.mlp.\" to be one that the preset "
      "deepseek_v3 reads with this config.json, got 3 that it does not: "
      "\"model.layers.1.mlp.shared_experts.down_proj.weight\", "
      "\"model.layers.1.mlp.shared_experts.gate_proj.weight\", "
      "\"model.layers.1.mlp.shared_experts.up_proj.weight\"; compare config.json with the release's: a key "
      "may "
      "be missing, have another name or say false");
  for (const char* const folder : {"deepseek_v1", "deepseek_v2", "glm4_moe", "dots1", "deepseek_v4"}) {
    CHECK(refused(folder, test::edited(folder, "\"n_shared_experts\"", "\"shared_experts_count\""))
              .find("shared_experts.") != std::string::npos);
  }
  CHECK(refused("afmoe", test::edited("afmoe", "\"num_shared_experts\"", "\"another\""))
            .find("shared_experts.") != std::string::npos);
}

TEST_CASE("tensors of a block that nothing reads are an error that names them", "[models]") {
  struct Case {
    const char *folder, *tensor;
  };
  for (const Case& c : {Case{"aria", "language_model.model.layers.0.mlp.shared_experts.up_proj.bias"},
                        Case{"deepseek_v2", "model.layers.1.mlp.shared_experts.down_proj.bias"},
                        Case{"deepseek_v4", "layers.1.ffn.shared_experts.w1.bias"},
                        Case{"mixtral", "model.layers.0.block_sparse_moe.gate.bias"},
                        Case{"mixtral", "model.layers.0.block_sparse_moe.experts.7.w1.weight"},
                        Case{"qwen3_moe", "model.layers.0.mlp.shared_expert.up_proj.weight"},
                        Case{"granitemoe", "model.layers.0.shared_mlp.input_linear.weight"},
                        Case{"gemma4", "model.language_model.layers.0.router.bias"},
                        Case{"nemotron_h", "model.layers.1.mixer.fc1_latent_proj.weight"},
                        Case{"longcat_flash", "model.layers.0.mlp.experts.10.up_proj.weight"},
                        Case{"gpt_oss", "model.layers.0.mlp.experts.gate_up_proj"},
                        Case{"ernie4_5_vl_moe", "model.layers.1.mlp.experts.14.up_proj.weight"},
                        Case{"step3p7", "model.layers.2.moe.gate.bias"},
                        Case{"step3p7", "model.layers.2.share_expert.up_proj.bias"},
                        Case{"hy_v3", "model.layers.1.mlp.shared_mlp.up_proj.bias"},
                        Case{"axk1", "model.layers.1.mlp.post_attention.weight"},
                        Case{"cohere2_moe_3", "model.layers.0.mlp.shared_expert_gate.weight"}}) {
    INFO(c.tensor);
    std::string name = c.tensor;
    if (name.starts_with("model.layers.1.mixer")) name = "backbone" + name.substr(5);
    const std::string message = refused(c.folder, [&](Tensors& tensors) { tensors.add(name, Shape(2, 2)); });
    CHECK(message.find("got 1 that it does not: \"" + name + "\"") != std::string::npos);
  }
}

TEST_CASE("tensors beside a block, and those that the model's own code leaves out, are no error",
          "[models]") {
  const auto with = [](const char* name) { return [name](Tensors& t) { t.add(name, Shape(2, 2)); }; };
  check_same("mixtral", with("model.layers.0.self_attn.q_proj.weight"));
  check_same("granitemoe", with("model.layers.0.self_attn.q_proj.weight"));
  check_same("gemma4", with("model.language_model.layers.0.mlp.extra.weight"));
  check_same("longcat_flash", with("model.layers.0.mlp.experts.7.up_proj.weight"));  // of an identity expert
  check_same("step3p7", with("model.layers.2.self_attn.q_proj.weight"));
  check_same("swin_moe", with("layers.2.blocks.1.mlp._moe_layer._num_global_experts"));
  check_same("deepseek_v3_2", with("model.layers.1.mlp.experts.0.up_proj.input_scale"));
}

TEST_CASE("every tensor that a preset names belongs to a parameter or a state", "[models]") {
  for (const std::string& name : test::golden_folders()) {
    if (name == "nllb_moe_2" || name == "nllb_moe_3" || name.starts_with("save_pretrained")) continue;
    const Golden golden(name);
    const auto layer = golden.load();
    std::vector<std::string> have;
    layer.visit_parameters([&](const moe::Parameter<const float>& p) { have.emplace_back(p.name); });
    layer.visit_state([&](const char* state, const double*, Index) { have.emplace_back(state); });
    for (const auto& tensor : layer.spec().tensors) {
      INFO(name << ": " << tensor.ours);
      CHECK(std::find(have.begin(), have.end(), tensor.ours) != have.end());
    }
  }
}

TEST_CASE("the names and fused tensors of Transformers 5", "[models]") {
  struct Case {
    const char *folder, *block, *gate, *up, *down;
    std::vector<std::pair<std::string, std::string>> renamed;
  };
  const std::vector<std::pair<std::string, std::string>> mlp{{".block_sparse_moe.", ".mlp."}};
  const Case cases[] = {
      {"qwen3_moe", "model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"qwen2_moe", "model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"deepseek_v3", "model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"afmoe", "model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"hunyuan_v1_moe", "model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"ernie4_5_moe",
       "model.layers.2.mlp.",
       "gate_proj",
       "up_proj",
       "down_proj",
       {{".moe_statics.", ".gate.moe_statics."}}},
      {"bailing_hybrid",
       "model.layers.1.mlp.",
       "gate_proj",
       "up_proj",
       "down_proj",
       {{".expert_bias", ".e_score_correction_bias"}}},
      {"glm4_moe_lite", "model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"glm4v_moe", "model.language_model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"solar_open", "model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"mimo_v2_flash", "model.layers.1.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"mellum", "model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"cohere2_moe", "model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"hy_v3",
       "model.layers.1.mlp.",
       "gate_proj",
       "up_proj",
       "down_proj",
       {{".router.gate.", ".gate."},
        {".expert_bias", ".e_score_correction_bias"},
        {"shared_mlp", "shared_experts"}}},
      {"exaone_moe",
       "model.layers.1.mlp.",
       "gate_proj",
       "up_proj",
       "down_proj",
       {{".e_score_correction_bias", ".gate.e_score_correction_bias"}}},
      {"qwen3_omni_moe",
       "thinker.model.layers.0.mlp.",
       "gate_proj",
       "up_proj",
       "down_proj",
       {{"thinker.model.", "thinker.model.language_model."}}},
      {"qwen3_omni_moe_2", "talker.model.layers.0.mlp.", "gate_proj", "up_proj", "down_proj", {}},
      {"jamba", "model.layers.1.feed_forward.", "gate_proj", "up_proj", "down_proj", {}},
      {"lfm2_moe", "model.layers.1.feed_forward.", "w1", "w3", "w2", {}},
      {"mixtral", "model.layers.0.block_sparse_moe.", "w1", "w3", "w2", mlp},
      {"minimax", "model.layers.0.block_sparse_moe.", "w1", "w3", "w2", mlp},
      {"minimax_m2", "model.layers.0.block_sparse_moe.", "w1", "w3", "w2", mlp},
      {"kimi_linear", "model.layers.1.block_sparse_moe.", "w1", "w3", "w2", mlp},
      {"phimoe",
       "model.layers.0.block_sparse_moe.",
       "w1",
       "w3",
       "w2",
       {{".gate.weight", ".router.weight"}, {".block_sparse_moe.", ".mlp."}}},
  };
  for (const Case& c : cases) {
    check_same(c.folder, [&](Tensors& t) {
      fuse(t, c.block, {c.gate, c.up}, c.down, "gate_up_proj");
      for (const auto& [from, to] : c.renamed) t.rename(from, to);
    });
  }
  check_same("nemotron_h", [](Tensors& t) {
    fuse(t, "backbone.layers.1.mixer.", {"up_proj"}, "down_proj", "up_proj");
    t.rename("backbone.", "model.");
  });
  check_same("granitemoehybrid", [](Tensors& t) {
    t.rename("block_sparse_moe.input_linear.weight", "block_sparse_moe.experts.gate_up_proj");
    t.rename("block_sparse_moe.output_linear.weight", "block_sparse_moe.experts.down_proj");
    t.rename("router.layer.weight", "router.weight");
  });
  check_same("axk1", [](Tensors& t) {  // the norm of the sum, which the caller has
    fuse(t, "model.layers.1.mlp.", {"gate_proj", "up_proj"}, "down_proj", "gate_up_proj");
    t.add("model.layers.1.mlp.post_mlp_layernorm.weight", Shape(32));
  });
  check_same("minimax_m3", [](Tensors& t) {
    const std::string block = "language_model.model.layers.1.block_sparse_moe.",
                      shared = block + "shared_experts.";
    fuse(t, block, {"w1", "w3"}, "w2", "gate_up_proj");
    join(t, shared + "gate_proj.weight", shared + "up_proj.weight", shared + "gate_up_proj.weight");
    t.rename(".e_score", ".gate.e_score");
    t.rename(block, "model.language_model.layers.1.mlp.");
  });
  check_same("step3p7_2", [](Tensors& t) {
    const std::string layer = "model.layers.2.", block = "model.language_model.layers.2.mlp.";
    join(t, layer + "moe.gate_proj.weight", layer + "moe.up_proj.weight", block + "experts.gate_up_proj");
    t.rename(layer + "moe.down_proj.weight", block + "experts.down_proj");
    t.rename(layer + "moe.gate.weight", block + "gate.weight");
    t.rename(layer + "moe.router_bias", block + "gate.e_score_correction_bias");
    t.rename(layer + "share_expert.", block + "shared_experts.");
  });
  for (const bool vision : {false, true}) {
    check_same(vision ? "ernie4_5_vl_moe_2" : "ernie4_5_vl_moe", [&](Tensors& t) {
      const std::string block = "model.layers.1.mlp.";
      const Index experts = vision ? 6 : 7;
      for (const bool second : {false, true}) {
        const std::string part = second ? "vision_moe." : "text_moe.";
        fuse(t, block, {"gate_proj", "up_proj"}, "down_proj", "gate_up_proj", part + "experts.",
             second ? experts : 0, second ? 2 * experts : experts);
        const std::string gate = second ? "gate.weight_1" : "gate.weight";
        turn(t, block + gate);
        auto router = t.take(block + gate);
        router.name = block + part + "gate.weight";
        t.all.push_back(router);
      }
      const auto both = t.take(block + "moe_statics.e_score_correction_bias");
      const auto half = static_cast<std::ptrdiff_t>(both.bytes.size() / 2);
      for (const bool second : {false, true}) {
        t.all.push_back(
            {block + (second ? "vision_moe." : "text_moe.") + "gate.moe_statics.e_score_correction_bias",
             both.dtype,
             Shape(1, experts),
             {both.bytes.begin() + (second ? half : 0), both.bytes.end() - (second ? 0 : half)}});
      }
      t.rename("model.layers.", "model.language_model.layers.");
    });
  }
  check_same("aria", [](Tensors& t) {
    t.rename("experts.fc1.weight", "experts.gate_up_proj");
    t.rename("experts.fc2.weight", "experts.down_proj");
  });
}

TEST_CASE("LongCat's fused experts, with gate and up of the identity experts behind them", "[models]") {
  for (const auto& [folder, behind] : {std::pair("longcat_flash", 3), std::pair("longcat_flash_2", 2)}) {
    const Index identities = behind;
    check_same(folder, [&](Tensors& t) {
      const std::string block = "model.layers.0.mlp.";
      fuse(t, block, {"gate_proj", "up_proj"}, "down_proj", "gate_up_proj");
      auto first = t.take(block + "experts.gate_up_proj");
      const std::size_t each = first.bytes.size() / static_cast<std::size_t>(first.shape[0]);
      first.bytes.resize(first.bytes.size() + each * static_cast<std::size_t>(identities), std::byte{0x3F});
      first.shape.extent[0] += identities;
      t.all.push_back(first);
    });
  }
  const std::string message =
      refused("longcat_flash", [](Tensors& t) {  // without those of the identity experts
        fuse(t, "model.layers.0.mlp.", {"gate_proj", "up_proj"}, "down_proj", "gate_up_proj");
      });
  CHECK(message.find("gate_up_proj\": expected shape [10, 40, 32] for 10 experts") != std::string::npos);
}

TEST_CASE("Qwen3-VL's experts are told apart by both shapes, also where one is square", "[models]") {
  for (const char* const folder : {"qwen3_vl_moe", "qwen3_vl_moe_2"}) {  // D = 2F in the second
    check_same(folder, [](Tensors& t) {
      const std::string experts = "model.language_model.layers.0.mlp.experts.";
      turn(t, experts + "gate_up_proj");
      turn(t, experts + "down_proj");
    });
  }
}

TEST_CASE("integers are no weights unless a format says so", "[models]") {
  const std::string message = refused("mixtral", [](Tensors& t) {
    for (auto& tensor : t.all) {
      if (tensor.name.find("experts.3.w2") != std::string::npos) tensor.dtype = DType::I16;
    }
  });
  CHECK(
      message.find("experts.3.w2.weight\": expected F32, F16, BF16 or F64, numbers by themselves, got I16") !=
      std::string::npos);
}

TEST_CASE("words of GPTQ or AWQ are named, also where the config is silent", "[models]") {
  const std::string message =
      refused("qwen3_moe", [](Tensors& t) { t.rename("_proj.weight", "_proj.qweight"); });
  CHECK(
      message.find("experts.0.gate_proj.qweight\": expected a quantization_config of \"gptq\" or \"awq\"") !=
      std::string::npos);
}

TEST_CASE("a table of experts by token id that names one twice is refused", "[models]") {
  const std::string message = refused("deepseek_v4_2", [](Tensors& t) {
    for (auto& tensor : t.all) {
      if (tensor.name.find("tid2eid") != std::string::npos)
        std::fill_n(tensor.bytes.begin() + 32, 16, std::byte{});
    }
  });
  CHECK(message.find(
            "tid2eid\": expected different experts for a token id, got expert 0 twice for token id 2") !=
        std::string::npos);
}

TEST_CASE("a tensor of an unknown dtype elsewhere in the file is no error", "[models]") {
  const Golden golden("mixtral");
  Tensors tensors(golden);
  tensors.add("lm_head.weight", Shape(2));
  static_cast<void>(tensors.checkpoint());
  std::string text(reinterpret_cast<const char*>(tensors.file.data()),
                   static_cast<std::size_t>(tensors.file.size()));
  const std::size_t at = text.find("\"F32\"", text.find("lm_head.weight"));
  REQUIRE(at != std::string::npos);
  text.replace(at, 5, "\"F99\"");
  const moe::io::Checkpoint checkpoint(moe::io::SafetensorsFile::from_bytes(
      {reinterpret_cast<const std::byte*>(text.data()), text.size()}, "model"));
  const auto layer = moe::models::load_layer(golden.config, checkpoint, golden.layer);
  CHECK(Ran(layer, golden.input()).y == Ran(golden.load(), golden.input()).y);
}
