#include "moe/archive/reader.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moe/archive/writer.hpp"
#include "moe/expert/bank/quantise.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Archive;
using moe::ArchiveWriter;
using moe::Buffer;
using moe::Index;

/// As much of a layer as an archive asks for. W [3, 2] is stored in groups of `group` outputs, v [2, 1]
/// densely.
template <class Real>
struct SmallLayer {
  Index group;
  std::vector<Real> w, v;
  std::vector<double> state;
  const char* second_name = "experts.0.v";

  explicit SmallLayer(Index group_of_w = 1, Real first = 0)
      : group(group_of_w), w(static_cast<std::size_t>((3 + group - 1) / group * group * 2)), v(2), state(3) {
    for (Index o = 0; o < 3; ++o) {
      for (Index i = 0; i < 2; ++i) view()(o, i) = first + static_cast<Real>(2 * o + i);
    }
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = -first - static_cast<Real>(i);
    for (std::size_t i = 0; i < state.size(); ++i)
      state[i] = static_cast<double>(first) / 3 + static_cast<double>(i);
  }

  moe::ParameterView<Real> view() { return {w.data(), 3, 2, group, 2 * group, group}; }

  template <class F>
  void visit_parameters(F&& f) {
    f(moe::Parameter<Real>{"gate.weight", view(), {}});
    f(moe::Parameter<Real>{second_name, {v.data(), 2, 1}, {}});
  }
  template <class F>
  void visit_state(F&& f) {
    f("bias", state.data(), static_cast<Index>(state.size()));
  }
};

/// Shows every parameter twice.
struct Twice {
  SmallLayer<float>& layer;
  template <class F>
  void visit_parameters(F&& f) {
    layer.visit_parameters(f);
    layer.visit_parameters(f);
  }
  template <class F>
  void visit_state(F&& f) {
    layer.visit_state(f);
  }
};

template <class Real>
Archive saved(const char* prefix, SmallLayer<Real>& layer) {
  ArchiveWriter writer;
  writer.add_layer(prefix, layer);
  return Archive::from_bytes(writer.bytes());
}

template <class Layer>
std::string reason(const Archive& archive, const char* prefix, Layer& layer) {
  try {
    archive.load_layer(prefix, layer);
  } catch (const moe::format_error& error) {
    return error.what();
  }
  return "";
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("archive: a layer comes back bit for bit, whatever its packing", "[weights][smoke]", float,
                   double) {
  SmallLayer<TestType> from(1, TestType(0.1));
  from.v = {std::numeric_limits<TestType>::quiet_NaN(), -TestType(0)};
  std::vector<std::byte> bytes;
  for (const Index group : {1, 2, 3}) {
    SmallLayer<TestType> packed(group);
    saved("block", from).load_layer("block", packed);
    CHECK(same_bits(packed.v, from.v));
    CHECK(same_bits(packed.state, from.state));
    for (Index o = 0; o < 3; ++o) {
      for (Index i = 0; i < 2; ++i) CHECK(packed.view()(o, i) == from.view()(o, i));
    }
    ArchiveWriter again;
    again.add_layer("block", packed);
    const std::vector<std::byte> now(again.bytes().begin(), again.bytes().end());
    if (bytes.empty()) bytes = now;
    CHECK(now == bytes);
  }
}

TEST_CASE("archive: what does not fit a layer is named and loads nothing", "[weights][smoke]") {
  SmallLayer<float> from(1, 7.0f);
  SmallLayer<float> to(2, 1.0f);
  const SmallLayer<float> before = to;
  std::string what;

  SECTION("missing") {
    to.second_name = "experts.0.other";
    what = reason(saved("a", from), "a", to);
    CHECK(what.find("expected an entry a.experts.0.other, got none") != std::string::npos);
  }
  SECTION("missing: another prefix") {
    what = reason(saved("a", from), "b", to);
    CHECK(what.find("b.gate.weight") != std::string::npos);
  }
  SECTION("shape") {
    from.v.push_back(0);
    ArchiveWriter writer;
    writer.add_matrix("gate.weight", moe::ConstMatrixView<float>(from.w.data(), 3, 2));
    writer.add_matrix("experts.0.v", moe::ConstMatrixView<float>(from.v.data(), 1, 2));
    writer.add_matrix("bias", moe::ConstMatrixView<double>(from.state.data(), 1, 3));
    what = reason(Archive::from_bytes(writer.bytes()), "", to);
    CHECK(what.find("experts.0.v: expected f32 of 2 x 1, got f32 of 1 x 2") != std::string::npos);
  }
  SECTION("type") {
    SmallLayer<double> wide(1, 7.0);
    what = reason(saved("", wide), "", to);
    CHECK(what.find("gate.weight: expected f32 of 3 x 2, got f64 of 3 x 2") != std::string::npos);
  }
  SECTION("size of the state") {
    from.state.pop_back();
    what = reason(saved("a", from), "a", to);
    CHECK(what.find("a.bias: expected f64 of 1 x 3, got f64 of 1 x 2") != std::string::npos);
  }
  SECTION("state that is not finite") {
    from.state.back() = std::numeric_limits<double>::infinity();
    what = reason(saved("a", from), "a", to);
    CHECK(what.find("a.bias: expected finite router state") != std::string::npos);
  }
  SECTION("more than the layer has") {
    const float more[] = {1.0f};
    ArchiveWriter writer;
    writer.add_layer("a", from);
    writer.add_matrix("a.more", moe::ConstMatrixView<float>(more, 1, 1));
    what = reason(Archive::from_bytes(writer.bytes()), "a", to);
    CHECK(what.find("a.more, which it does not have") != std::string::npos);
  }
  SECTION("more than the layer has, without a prefix") {
    const float more[] = {1.0f};
    ArchiveWriter writer;
    writer.add_layer("", from);
    writer.add_matrix("more", moe::ConstMatrixView<float>(more, 1, 1));
    what = reason(Archive::from_bytes(writer.bytes()), "", to);
    CHECK(what.find("more, which it does not have") != std::string::npos);
  }
  CHECK(same_bits(to.w, before.w));
  CHECK(same_bits(to.v, before.v));
  CHECK(same_bits(to.state, before.state));
}

TEST_CASE("archive: layers and matrices share an archive under their names", "[weights]") {
  SmallLayer<float> first(1, 1.0f), second(1, 2.0f), third(1, 3.0f);
  const float table[] = {1, 2, 3, 4, 5, 6};
  ArchiveWriter writer;
  writer.add_layer("block1", first);
  writer.add_layer("block10", second);  // begins like block1, but is not under "block1."
  writer.add_layer("block1x", third);
  writer.add_matrix("embedding", moe::ConstMatrixView<float>(table, 2, 2, 3));
  const Archive archive = Archive::from_bytes(writer.bytes());
  CHECK(archive.entries() == 10);
  SmallLayer<float> loaded(1);
  archive.load_layer("block10", loaded);
  CHECK(same_bits(loaded.w, second.w));
  archive.load_layer("block1", loaded);
  CHECK(same_bits(loaded.w, first.w));
  float matrix[6] = {};
  archive.load_matrix("embedding", moe::MatrixView<float>(matrix, 2, 2, 3));
  CHECK(std::vector<float>(matrix, matrix + 6) == std::vector<float>{1, 2, 0, 4, 5, 0});
  CHECK_THROWS_AS(archive.load_matrix("embedding", moe::MatrixView<float>(matrix, 1, 2)), moe::format_error);
  CHECK_THROWS_AS(archive.load_matrix("embeddin", moe::MatrixView<float>(matrix, 2, 2)), moe::format_error);
  double wide[4] = {};
  CHECK_THROWS_AS(archive.load_matrix("embedding", moe::MatrixView<double>(wide, 2, 2)), moe::format_error);
}

TEST_CASE("archive: a layer with two parameters of one name is refused", "[weights]") {
  SmallLayer<float> twice(1);
  twice.second_name = "gate.weight";
  ArchiveWriter writer;
  writer.add_layer("", twice);
  CHECK_THROWS_AS(writer.bytes(), moe::format_error);
  SmallLayer<float> once(1);
  Twice both{once};
  CHECK_THROWS_AS(saved("", once).load_layer("", both), moe::config_error);
}

TEST_CASE("archive: files", "[weights]") {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("moe_archive_test" + std::to_string(std::random_device()()));
  SmallLayer<float> layer(1, 5.0f), loaded(2);
  ArchiveWriter writer;
  writer.add_layer("layer", layer);
  writer.save(path.string().c_str());
  Archive::from_file(path.string().c_str()).load_layer("layer", loaded);
  CHECK(loaded.view()(2, 1) == layer.view()(2, 1));

  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK_THROWS_AS(Archive::from_file(path.string().c_str()), moe::format_error);
  std::filesystem::resize_file(path, 0);
  CHECK_THROWS_AS(Archive::from_file(path.string().c_str()), moe::format_error);
  std::filesystem::remove(path);
  CHECK_THROWS_AS(Archive::from_file(path.string().c_str()), moe::file_error);
  CHECK_THROWS_AS(Archive::from_file(std::filesystem::temp_directory_path().string().c_str()),
                  moe::file_error);
}

TEST_CASE("archive: parameters and selection bias of a real layer come back, and with them its output",
          "[weights]") {
  const auto make = [](std::uint64_t seed) {
    auto router = moe::deepseek_v3<float>({.width = 20, .experts = 4, .k = 2, .groups = 2, .kept_groups = 1});
    router.scorer().initialise(seed);
    moe::Glu<moe::Silu, float> bank({.experts = 4, .width = 20, .hidden = 9});
    bank.initialise(seed);
    return moe::MoeLayer(std::move(router), std::move(bank));
  };
  auto trained = make(1), fresh = make(2);
  moe::RouteStats stats;
  stats.load.assign(4, 1);
  stats.load[2] = 9;
  stats.tokens = 6;
  trained.on_step_end(stats);

  ArchiveWriter writer;
  writer.add_layer("model.layers.0.mlp", trained);
  const Archive archive = Archive::from_bytes(writer.bytes());
  CHECK(archive.entries() == 1 + 4 * 3 + 1);
  CHECK(archive.contains("model.layers.0.mlp.experts.3.down_proj.weight"));
  archive.load_layer("model.layers.0.mlp", fresh);

  constexpr Index kTokens = 7;
  std::vector<float> x(kTokens * 20), y(x.size()), y_loaded(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) / 6.0f - 1.0f;
  moe::Workspace workspace;
  const auto forward = [&](const auto& layer, std::vector<float>& to) {
    const moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, 20));
    moe::LayerOutput<float> out(moe::MatrixView<float>(to.data(), kTokens, 20));
    layer.forward(in, out, workspace);
  };
  forward(trained, y);
  forward(fresh, y_loaded);
  CHECK(same_bits(y, y_loaded));
  CHECK(y != std::vector<float>(y.size()));
  ArchiveWriter again;
  again.add_layer("model.layers.0.mlp", fresh);
  CHECK(std::vector<std::byte>(again.bytes().begin(), again.bytes().end()) ==
        std::vector<std::byte>(writer.bytes().begin(), writer.bytes().end()));
}

TEST_CASE("archive: weights of a block storage come back as they lie in memory, and only into their storage",
          "[weights]") {
  using Bank = moe::Glu<moe::Silu, moe::Int4Groups<>>;
  const auto make = [](unsigned seed) {
    auto router = moe::softmax_top_k<float>({.width = 33, .experts = 3, .k = 2});
    router.scorer().initialise(seed);
    Bank experts({3, 33, 20, true}), shared({1, 33, 17});
    experts.initialise(seed);
    shared.initialise(seed + 1);
    return moe::MoeLayer<moe::SoftmaxTopK<float>, Bank, moe::Dropless, moe::SharedExperts<Bank>>(
        std::move(router), std::move(experts), {}, moe::SharedExperts<Bank>(std::move(shared)));
  };
  auto saved = make(1), loaded = make(2);
  std::vector<float> x(5 * 33), y(x.size()), z(x.size());
  std::mt19937 random(3);
  for (float& v : x) v = static_cast<float>(random() % 1000) / 500 - 1;
  const auto forward = [&](auto& layer, std::vector<float>& to) {
    moe::Workspace workspace;
    moe::LayerOutput<float> out(moe::MatrixView<float>(to.data(), 5, 33));
    layer.forward(moe::ConstMatrixView<float>(x.data(), 5, 33), out, workspace);
  };
  ArchiveWriter writer;
  writer.add_layer("block", saved);
  const Archive archive = Archive::from_bytes(writer.bytes());
  CHECK(archive.contains("block.experts.gate_up.int4_groups_bfloat16"));
  CHECK(archive.contains("block.shared_experts.down.int4_groups_bfloat16"));
  archive.load_layer("block", loaded);
  forward(saved, y);
  forward(loaded, z);
  CHECK(std::memcmp(y.data(), z.data(), y.size() * sizeof(float)) == 0);
  auto wider = moe::quantise<moe::Int8Groups<>>(saved.experts());
  moe::MoeLayer<moe::SoftmaxTopK<float>&, moe::Glu<moe::Silu, moe::Int8Groups<>>> other(saved.router(),
                                                                                        wider);
  CHECK_THROWS_AS(archive.load_layer("block", other), moe::format_error);
}
