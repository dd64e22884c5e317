// The twenty mistakes that loaders of released models have made. Each is made here on purpose, by changing
// what a preset says, and must show against the golden arrays; or is refused.
#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Normalise;
using moe::TokenChoiceOptions;
using moe::models::LayerSpec;
using test::Golden;
using test::Index;
using test::Ran;
using Mutate = std::function<void(LayerSpec&)>;

LayerSpec spec_of(const Golden& golden) {
  return moe::models::preset_of(golden.config).describe(golden.config, golden.layer);
}

/// Largest |y - golden y| over the largest |golden y|, with the preset changed; infinity if anything is NaN.
double error_of(const Golden& golden, const Mutate& mutate) {
  LayerSpec spec = spec_of(golden);
  mutate(spec);
  const moe::models::LayerTensors tensors(golden.model, golden.config, spec);
  const moe::models::AnyLayer layer =
      moe::models::impl::load_any<float>(&tensors, spec, moe::models::impl::load_router(tensors, spec), {});
  const Ran ran(layer, golden.input());
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < ran.y.size(); ++i) {
    const double off = std::abs(static_cast<double>(ran.y[i]) - static_cast<double>(golden.y[i]));
    worst = off <= worst ? worst : off;
    size = std::max(size, std::abs(static_cast<double>(golden.y[i])));
    if (std::isnan(off)) return INFINITY;
  }
  return worst / size;
}

/// The preset is right to float accuracy (golden_test.cpp says how much exactly), the mistake is not.
void shows(const char* folder, const Mutate& mistake, double at_least = 1e-3) {
  INFO(folder);
  const Golden golden(folder);
  CHECK(error_of(golden, [](LayerSpec&) {}) <= 1e-5);
  CHECK(error_of(golden, mistake) >= at_least);
}

/// A router without a checkpoint, of logits x (the identity).
moe::OptionsRouter<float> identity_router(TokenChoiceOptions options) {
  auto router = moe::token_choice_router<float>(options);
  auto set = [](const moe::Parameter<float>& p) {
    for (Index e = 0; e < p.value.rows; ++e) p.value(e, e) = 1;
  };
  router.visit_parameters(nullptr, set);
  return router;
}
struct Routed {
  std::vector<Index> ids;
  std::vector<float> weights;
};
Routed route(moe::OptionsRouter<float>& router, const std::vector<float>& logits,
             const std::vector<double>& bias = {}) {
  auto load = [&](const char*, double* to, Index n) {
    for (Index e = 0; e < n; ++e) to[e] = bias[static_cast<std::size_t>(e)];
  };
  if (!bias.empty()) router.visit_state(load);
  moe::RouterInput<float> in;
  in.x = moe::ConstMatrixView<float>(logits.data(), 1, static_cast<Index>(logits.size()));
  moe::Arena measuring, table_size;
  router.measure(measuring, {1, 1}, 1);
  moe::RouteTable<float>::carve(table_size, 1, router.experts(), router.max_pairs({1, 1}));
  moe::Workspace memory, table_memory;
  moe::Arena arena = memory.arena(measuring.bytes()), table_arena = table_memory.arena(table_size.bytes());
  auto table = moe::RouteTable<float>::carve(table_arena, 1, router.experts(), router.max_pairs({1, 1}));
  moe::SerialExecutor serial;
  router.route(in, table, arena, serial);
  Routed r;
  for (Index p = 0; p < table.pairs(); ++p) {
    r.ids.push_back(table.expert[p]);
    r.weights.push_back(table.weight[p]);
  }
  return r;
}

std::string config_text(const Golden& golden) {
  std::ifstream file(golden.folder / "config.json");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void use_kept_softmax(LayerSpec& s) {
  s.router.score = moe::IdentityScore{};
  s.router.weighting = moe::SoftmaxWeighting{};
}

}  // namespace

TEST_CASE("pitfall 1: softmax over the chosen is not softmax over all", "[models]") {
  for (const char* const folder :
       {"olmoe", "qwen2_moe", "jamba", "nomic_v2", "deepseek_v1", "deepseek_v2_2"}) {
    shows(folder, use_kept_softmax);
  }
}

TEST_CASE("pitfall 2: whether weights are normalised is never a silent default", "[models]") {
  struct Key {
    const char *folder, *key;
  };
  for (const Key& k : {Key{"qwen2_moe", "norm_topk_prob"}, Key{"qwen3_moe", "norm_topk_prob"},
                       Key{"qwen3_next", "norm_topk_prob"}, Key{"olmoe", "norm_topk_prob"},
                       Key{"deepseek_v1", "norm_topk_prob"}, Key{"deepseek_v2", "norm_topk_prob"},
                       Key{"deepseek_v3", "norm_topk_prob"}, Key{"glm4_moe", "norm_topk_prob"},
                       Key{"dots1", "norm_topk_prob"}, Key{"lfm2_moe", "norm_topk_prob"},
                       Key{"kimi_linear", "moe_renormalize"}, Key{"dbrx", "moe_normalize_expert_weights"},
                       Key{"nemotron_h", "norm_topk_prob"}, Key{"deepseek_v3", "routed_scaling_factor"},
                       Key{"longcat_flash", "routed_scaling_factor"}, Key{"gpt_oss", "swiglu_limit"},
                       Key{"phimoe", "router_jitter_noise"}, Key{"gemma4", "rms_norm_eps"}}) {
    INFO(k.folder << " without " << k.key);
    const Golden golden(k.folder);
    std::string text = config_text(golden);
    const std::string quoted = std::string("\"") + k.key + "\"";
    for (std::size_t at = text.find(quoted); at != std::string::npos; at = text.find(quoted)) {
      text.replace(at, quoted.size(), "\"another\"");
      break;
    }
    const auto config = moe::io::Config::from_text(text, "config.json");
    const std::string message = test::message_of<moe::config_error>(
        [&] { moe::models::preset_of(config).describe(config, golden.layer); });
    CHECK(message.find(k.key) != std::string::npos);
  }
}

TEST_CASE("pitfall 3: the correction bias moves choices, never weights", "[models]") {
  // GLM-5.2's regime: scores near 1e-8 and biases near 12. What is left of score + bias - bias is 0.
  TokenChoiceOptions options{
      .width = 4,
      .outputs = 4,
      .k = 2,
      .score = moe::SigmoidScore{},
      .weighting = moe::GatherWeighting({.normalise = Normalise::sum_plus_eps, .eps = 1e-20})};
  options.balance.set(moe::SelectionBias({.outputs = 4}));
  auto router = identity_router(options);
  const Routed r = route(router, {-18, -19, -20, -21}, {12, 12.5, 11, 13});
  CHECK(r.ids == std::vector<Index>{3, 1});
  const double share = std::exp(-2.0) / (1 + std::exp(-2.0));  // of sigmoids in their exponential tail
  CHECK(std::abs(static_cast<double>(r.weights[0]) - share) <= 1e-5);
  // And in a model: without the bias other experts are chosen.
  shows("deepseek_v3", [](LayerSpec& s) {
    moe::models::select_with_bias(s, false);
    s.tensors.pop_back();
  });
}

TEST_CASE("pitfall 4: groups are masked with -inf, and ranked as their model ranks them", "[models]") {
  TokenChoiceOptions options{.width = 8,
                             .outputs = 8,
                             .k = 3,
                             .score = moe::SigmoidScore{},
                             .selection = moe::GroupLimitedSelection(
                                 {.groups = 4, .kept = 2, .score = moe::GroupScore::top_two_sum})};
  options.balance.set(moe::SelectionBias({.outputs = 8}));
  auto router = identity_router(options);
  // With biases of -5 a mask of 0 would beat every open expert.
  const Routed r = route(router, {0, 1, 3, 2, -1, 0, 2, 2.5f}, std::vector<double>(8, -5));
  CHECK(r.ids == std::vector<Index>{2, 7, 3});
  options.selection = moe::GroupLimitedSelection(  // two best of a group of one
      {.groups = 8, .kept = 2, .score = moe::GroupScore::top_two_sum});
  CHECK_THROWS_AS(moe::token_choice_router<float>(options), moe::config_error);
  shows("deepseek_v2", [](LayerSpec& s) { s.router.selection = moe::TopKSelection(1); });
  Index differs = 0;
  for (const char* const folder :
       {"deepseek_v3", "deepseek_v3_2", "deepseek_v3_3", "bailing_v2", "bailing_v2_2"}) {
    differs += error_of(Golden(folder), [](LayerSpec& s) {
                 const auto* const part = s.router.selection.get_if<moe::GroupLimitedSelection>();
                 if (part == nullptr) return;
                 auto limited = part->options();
                 limited.score = moe::GroupScore::highest;
                 s.router.selection = moe::GroupLimitedSelection(limited);
               }) > 1e-3;
  }
  CHECK(differs >= 1);
}

TEST_CASE("pitfall 5: sums of 0 and the small number added to them", "[models]") {
  for (const Normalise n : {Normalise::sum, Normalise::sum_plus_eps, Normalise::max_with_eps}) {
    auto router = identity_router({.width = 3,
                                   .outputs = 3,
                                   .k = 2,
                                   .score = moe::SigmoidScore{},
                                   .weighting = moe::GatherWeighting({.normalise = n, .eps = 1e-20})});
    const Routed r = route(router, {-200, -300, -250});  // sigmoids that underflow
    CHECK(r.weights == std::vector<float>{0, 0});
  }
  const auto rule = [](const char* folder) { return moe::models::weights_of(spec_of(Golden(folder))); };
  CHECK((rule("deepseek_v3").normalise == Normalise::sum_plus_eps && rule("deepseek_v3").eps == 1e-20));
  CHECK((rule("lfm2_moe").normalise == Normalise::sum_plus_eps && rule("lfm2_moe").eps == 1e-6));
  CHECK(rule("minimax_m2").normalise == Normalise::sum);
  CHECK((rule("ernie4_5_moe").normalise == Normalise::max_with_eps && rule("ernie4_5_moe").eps == 1e-12));
  CHECK(rule("mixtral").normalise == Normalise::sum);
}

TEST_CASE("pitfall 6: correction bias and router keep the precision of their tensors", "[models]") {
  const Golden golden("deepseek_v3");
  auto layer = golden.load({.storage = moe::models::StorageKind::int8});
  const auto bias = test::floats(golden.model.at("model.layers.1.mlp.gate.e_score_correction_bias"));
  const auto gate = test::floats(golden.model.at("model.layers.1.mlp.gate.weight"));
  Index beyond_bf16 = 0, seen = 0;
  layer.visit_state([&](const char*, double* values, Index n) {
    for (Index e = 0; e < n; ++e) {
      const float b = bias[static_cast<std::size_t>(e)];
      CHECK(values[e] == static_cast<double>(b));
      beyond_bf16 += (std::bit_cast<std::uint32_t>(b) & 0xFFFFu) != 0;
    }
  });
  CHECK(beyond_bf16 > 0);
  layer.visit_parameters([&](const moe::Parameter<float>& p) {
    if (std::string(p.name) != "gate.weight") return;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        CHECK(p.value(o, i) == gate[static_cast<std::size_t>(o * p.value.cols + i)]);
        ++seen;
      }
    }
  });
  CHECK(seen == static_cast<Index>(gate.size()));
}

TEST_CASE("pitfall 7: logits that are all negative", "[models]") {
  for (const moe::AnyScore& score : {moe::AnyScore(moe::Softmax{}), moe::AnyScore(moe::IdentityScore{})}) {
    auto router = identity_router({.width = 5, .outputs = 5, .k = 2, .score = score});
    CHECK(route(router, {-9, -3, -7, -4, -8}).ids == std::vector<Index>{1, 3});
  }
  // The golden calls have such a token.
  Index folders = 0;
  for (const std::string& name : test::golden_folders()) {
    const Golden golden(name);
    const moe::io::Tensor* const t = golden.expected.find("router_logits");
    if (t == nullptr) continue;
    const auto logits = test::floats(*t);
    for (Index row = 0; row < golden.tokens; ++row) {
      const Index n = t->shape[1];
      const auto first = logits.begin() + row * n;
      if (*std::max_element(first, first + n) < 0) {
        ++folders;
        break;
      }
    }
  }
  CHECK(folders >= 40);
}

TEST_CASE("pitfall 8: Llama 4 weighs the input, once", "[models]") {
  for (const char* const folder : {"llama4", "llama4_2"}) {
    shows(folder, [](LayerSpec& s) { s.router.place = moe::WeightPlace::result; });
  }
}

TEST_CASE("pitfall 9: one expert, normalised: weight 1 exactly", "[models]") {
  TokenChoiceOptions options{
      .width = 4, .outputs = 4, .k = 1, .weighting = moe::GatherWeighting({.normalise = Normalise::sum})};
  auto router = identity_router(options);
  CHECK(route(router, {0.3f, -1, 0.2f, 0.1f}).weights == std::vector<float>{1});
  options.weighting = moe::GatherWeighting({.normalise = Normalise::sum, .only_if_many = true});
  auto other = identity_router(options);
  CHECK(route(other, {0.3f, -1, 0.2f, 0.1f}).weights[0] < 0.5f);
  for (const char* const folder : {"arctic", "swin_moe"}) {
    CHECK(moe::models::weights_of(spec_of(Golden(folder))).only_if_many);
  }
}

TEST_CASE("pitfall 10: gpt-oss interleaves gate and up, and packs the even element low", "[models]") {
  for (const char* const folder : {"gpt_oss", "gpt_oss_2"}) {
    shows(folder, [](LayerSpec& s) {
      for (moe::io::ExpertLayout& layout : s.expert_layouts) {
        layout[moe::io::ExpertMatrix::gate].outputs = moe::io::Outputs::first_half;
        layout[moe::io::ExpertMatrix::up].outputs = moe::io::Outputs::second_half;
      }
    });
    shows(folder, [](LayerSpec& s) {  // the biases too
      for (moe::io::ExpertLayout& layout : s.expert_layouts) {
        layout.bias_of(moe::io::ExpertMatrix::gate).outputs = moe::io::Outputs::odd;
        layout.bias_of(moe::io::ExpertMatrix::up).outputs = moe::io::Outputs::even;
      }
    });
  }
  const std::byte packed[16] = {std::byte{0x21}}, scale{127};  // code 1 is 0.5, code 2 is 1
  float values[2];
  moe::io::Mxfp4Matrix{packed, &scale, 32}.decode(0, 0, 2, values);
  CHECK((values[0] == 0.5f && values[1] == 1.0f));
}

TEST_CASE("pitfall 11: w1 is the gate, w3 goes up, w2 down", "[models]") {
  for (const char* const folder : {"mixtral", "phimoe", "minimax_m2", "lfm2_moe"}) {
    shows(folder, [](LayerSpec& s) {
      std::swap(s.expert_layouts[0][moe::io::ExpertMatrix::gate],
                s.expert_layouts[0][moe::io::ExpertMatrix::up]);
    });
  }
  shows("qwen3_5_moe", [](LayerSpec& s) {  // gate first, then up
    std::swap(s.expert_layouts[0][moe::io::ExpertMatrix::gate],
              s.expert_layouts[0][moe::io::ExpertMatrix::up]);
  });
}

TEST_CASE("pitfall 12: orientation comes from the model, never from a shape that fits both", "[models]") {
  // D = 2F: [E, D, 2F] is square.
  for (const char* const folder : {"gpt_oss_2", "llama4_2", "qwen3_vl_moe_2"}) {
    const Golden golden(folder);
    const LayerSpec spec = spec_of(golden);
    REQUIRE(spec.width == 2 * spec.hidden);
    shows(folder, [](LayerSpec& s) {
      for (moe::io::ExpertLayout& layout : s.expert_layouts) {
        layout[moe::io::ExpertMatrix::gate].transposed = !layout[moe::io::ExpertMatrix::gate].transposed;
        layout[moe::io::ExpertMatrix::up].transposed = !layout[moe::io::ExpertMatrix::up].transposed;
      }
    });
  }
  // Where a shape tells, it is said.
  const std::string message = test::message_of<moe::format_error>([] {
    error_of(Golden("dbrx"),
             [](LayerSpec& s) { s.expert_layouts[0][moe::io::ExpertMatrix::down].transposed = false; });
  });
  CHECK(message.find("experts.mlp.w2") != std::string::npos);
}

TEST_CASE("pitfall 13: a bias of the sum is added once, biases of experts are weighted", "[models]") {
  for (const char* const folder : {"nomic_v2", "jetmoe"}) {
    const Golden golden(folder);
    const auto layer = golden.load();
    const Ran ran(layer, golden.input());
    // Added inside the sum it would be scaled by the weights' sum, which Nomic's is not 1.
    double sum = 0;
    for (Index k = 0; k < golden.k; ++k)
      sum += static_cast<double>(golden.weights[static_cast<std::size_t>(k)]);
    if (std::string(folder) == "nomic_v2") CHECK(std::abs(sum - 1) > 0.05);
    shows(folder, [](LayerSpec& s) {
      s.output_bias = false;
      s.tensors.pop_back();
    });
  }
  shows("gpt_oss", [](LayerSpec& s) {
    for (moe::io::ExpertLayout& layout : s.expert_layouts)
      layout.bias_of(moe::io::ExpertMatrix::down).name.clear();
  });
}

TEST_CASE("pitfall 14: SparseMixer masks in inference too, and its weights do not add up to 1", "[models]") {
  const Golden golden("phimoe");
  double largest = 0;
  for (Index t = 0; t < golden.tokens; ++t) {
    const auto i = static_cast<std::size_t>(2 * t);
    largest = std::max(largest, static_cast<double>(golden.weights[i] + golden.weights[i + 1]));
  }
  CHECK(largest > 1.2);
  shows("phimoe", use_kept_softmax);
  shows("phimoe", [](LayerSpec& s) {  // nothing masked
    s.router.weighting = moe::SparseMixerWeighting({.eps = 1e9});
  });
}

TEST_CASE("pitfall 15: models with a capacity drop tokens in inference", "[models]") {
  for (const char* const folder : {"switch_transformers", "swin_moe_2"}) {
    const Golden golden(folder);
    CHECK(std::count(golden.kept.begin(), golden.kept.end(), 0) > 0);
    shows(folder, [](LayerSpec& s) { s.capacity = moe::Dropless{}; });
    const auto layer = golden.load();
    CHECK(layer.coupling(false) == moe::Coupling::per_segment);
    auto in = golden.input();
    in.segments = {};
    CHECK_THROWS_AS(Ran(layer, in), moe::config_error);  // whose tokens compete must be said
  }
}

TEST_CASE("pitfall 16: layers beyond the model's own are not its layers", "[models]") {
  for (const char* const folder :
       {"deepseek_v3", "glm4_moe", "kimi_k2", "deepseek_v4", "mixtral", "longcat_flash"}) {
    const Golden golden(folder);
    for (const Index layer : {Index{-1}, Index{2}, Index{61}}) {
      CHECK_THROWS_AS(moe::models::load_layer(golden.folder, layer), moe::config_error);
    }
  }
}

TEST_CASE("pitfall 17: widths of shared experts", "[models]") {
  struct Width {
    const char* folder;
    Index hidden, shared;
  };
  // n F of DeepSeek and its kin, a key of its own elsewhere.
  for (const Width& w :
       {Width{"deepseek_v2", 16, 32}, Width{"deepseek_v3", 16, 16}, Width{"dots1", 20, 40},
        Width{"ernie4_5_moe", 20, 40}, Width{"qwen2_moe", 20, 28}, Width{"nemotron_h", 20, 28},
        Width{"granitemoeshared", 20, 16}, Width{"llama4", 20, 20}, Width{"mixtral", 20, 0}}) {
    INFO(w.folder);
    const LayerSpec spec = spec_of(Golden(w.folder));
    CHECK(spec.hidden == w.hidden);
    CHECK(spec.shared_hidden == w.shared);
  }
  CHECK_THROWS_AS(error_of(Golden("deepseek_v2"), [](LayerSpec& s) { s.shared_hidden = s.hidden; }),
                  moe::format_error);
}

TEST_CASE("pitfall 18: routers that are not finite are refused", "[models]") {
  const Golden golden("deepseek_v3");
  const auto folder = std::filesystem::temp_directory_path() / "moe_models_pitfall_18";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(golden.folder / "config.json", folder / "config.json",
                             std::filesystem::copy_options::overwrite_existing);
  for (const char* const part : {"gate.e_score_correction_bias", "gate.weight"}) {
    std::filesystem::copy_file(golden.folder / "model.safetensors", folder / "model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    const moe::io::Tensor& tensor = golden.model.at(std::string("model.layers.1.mlp.") + part);
    // Every bit of the last element set: NaN in F32 and BF16.
    const auto bytes = std::filesystem::file_size(golden.folder / "model.safetensors");
    std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    std::string all(bytes, '\0');
    file.read(all.data(), static_cast<std::streamsize>(bytes));
    const std::string needle(reinterpret_cast<const char*>(tensor.data),
                             static_cast<std::size_t>(tensor.bytes));
    const std::size_t at = all.find(needle);
    REQUIRE(at != std::string::npos);
    file.seekp(static_cast<std::streamoff>(at + needle.size() - 4));
    file.write("\xFF\xFF\xFF\xFF", 4);
    file.close();
    const std::string message =
        test::message_of<moe::numeric_error>([&] { moe::models::load_layer(folder, golden.layer); });
    CHECK(message.find(part) != std::string::npos);
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("pitfall 19: which GELU", "[models]") {
  for (const char* const folder : {"gemma4", "grok1"}) {
    shows(
        folder, [](LayerSpec& s) { s.gate.act = {moe::ActivationKind::gelu_erf}; }, 5e-5);
  }
  for (const char* const folder : {"nomic_v2", "swin_moe"}) {
    shows(
        folder, [](LayerSpec& s) { s.activation = {moe::ActivationKind::gelu_tanh}; }, 5e-5);
  }
}

TEST_CASE("pitfall 20: the order of the sum is fixed, and so are a row's bits", "[models]") {
  // References add in bf16 in whichever order; here a row is the same to the bit alone and in the batch.
  for (const char* const folder : {"mixtral_2", "deepseek_v3", "llama4_2", "phimoe"}) {
    const Golden golden(folder);
    const auto layer = golden.load();
    const Ran whole(layer, golden.input());
    for (Index t = 0; t < golden.tokens; ++t) {
      const moe::LayerInput<float> row(
          moe::ConstMatrixView<float>(golden.x.data() + t * golden.width, 1, golden.width));
      const Ran alone(layer, row);
      CHECK(std::equal(alone.y.begin(), alone.y.end(), whole.y.begin() + t * golden.width));
    }
  }
}
