// Golden folders (tests/golden): a layer loaded from one, its call, and what must come out.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "moe/io/checkpoint.hpp"
#include "moe/models/file/load_layer.hpp"

MOE_NAMESPACE_BEGIN
namespace models::impl {
// Each compiled in one test file: load_layer_test.cpp and load_layer_storage_test.cpp.
extern template AnyLayer load_any<float>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                         const LoadProgress&);
extern template AnyLayer load_any<BFloat16>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                            const LoadProgress&);
extern template AnyLayer load_any<Int8Groups<>>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                                const LoadProgress&);
extern template AnyLayer load_any<Int4Groups<>>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                                const LoadProgress&);
extern template AnyLayer load_any<Int8Channels>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                                const LoadProgress&);
extern template AnyLayer load_any<Q4K>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                       const LoadProgress&);
extern template AnyLayer load_any<Q6K>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                       const LoadProgress&);
}  // namespace models::impl
MOE_NAMESPACE_END

namespace test {

using moe::Index;
namespace io = moe::io;
namespace models = moe::models;

inline std::filesystem::path golden_root() {
  return MOE_TEST_GOLDEN;
}

inline std::vector<std::string> golden_folders() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_root())) {
    if (std::filesystem::exists(entry.path() / "model.safetensors")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The layer whose tensors a golden folder holds.
inline Index layer_of(const io::Checkpoint& model) {
  for (const char* const key : {"blocks.", "block.", "layers."}) {
    for (const io::Tensor* const t : model.tensors()) {
      const std::size_t at = t->name.find(key);
      if (at != std::string::npos) return std::atoi(t->name.c_str() + at + std::string(key).size());
    }
  }
  return -1;
}

inline std::vector<float> floats(const io::Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.shape.elements()));
  io::decode_floats(t.dtype, t.data, 0, t.shape.elements(), values.data());
  return values;
}
inline std::vector<Index> integers(const io::Tensor& t) {
  std::vector<Index> values(static_cast<std::size_t>(t.shape.elements()));
  io::read_integers(t, values.data(), t.shape.elements());
  return values;
}

/// A folder's files, its call, and the arrays that the model's own code gave.
struct Golden {
  std::filesystem::path folder;
  io::Config config;
  io::Checkpoint model, expected;
  Index layer, tokens, width, k;
  std::vector<float> x, router_x, y, dy, weights, carry;
  std::vector<Index> ids, kept, segments;
  std::vector<moe::TokenId> token_id;

  explicit Golden(const std::string& name)
      : folder(golden_root() / name),
        config(io::Config::from_file(folder / "config.json")),
        model(folder),
        expected(folder / "expected.safetensors"),
        layer(layer_of(model)),
        tokens(expected.at("x").shape[0]),
        width(expected.at("x").shape[1]),
        k(expected.at("ids").shape[1]),
        x(floats(expected.at("x"))),
        y(floats(expected.at("y"))),
        dy(floats(expected.at("dy"))),
        weights(floats(expected.at("weights"))),
        ids(integers(expected.at("ids"))) {
    if (const io::Tensor* const t = expected.find("expert_x")) {
      router_x = x;
      x = floats(*t);
    }
    kept.assign(ids.size(), 1);
    if (const io::Tensor* const t = expected.find("kept")) kept = integers(*t);
    segments = {0, tokens};
    if (const io::Tensor* const t = expected.find("segments")) segments = integers(*t);
    if (const io::Tensor* const t = expected.find("token_ids")) {
      for (const Index id : integers(*t)) token_id.push_back(static_cast<moe::TokenId>(id));
    }
    if (const io::Tensor* const t = expected.find("carry")) carry = floats(*t);
  }

  models::AnyLayer load(const models::LoadOptions& options = {}) const {
    return models::load_layer(folder, layer, options);
  }

  Index carry_width() const { return static_cast<Index>(carry.size()) / tokens; }
  moe::LayerInput<float> input() const {
    moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), tokens, width));
    if (!router_x.empty()) in.router_x = moe::ConstMatrixView<float>(router_x.data(), tokens, width);
    in.segments = moe::Segments(std::span<const Index>(segments));
    in.token_id = token_id;
    if (!carry.empty()) in.carry = {carry.data(), tokens, carry_width()};
    in.mode = moe::Mode::inference;
    return in;
  }
};

/// A golden folder's config with every first text replaced by the second, everywhere; each must be there.
using Edits = std::vector<std::pair<std::string, std::string>>;
inline io::Config edited(const std::string& name, const Edits& edits) {
  const io::MappedFile file(golden_root() / name / "config.json");
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  for (const auto& [from, to] : edits) {
    std::size_t at = text.find(from);
    if (at == std::string::npos) throw std::runtime_error(name + " has no " + from);
    for (; at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  }
  return io::Config::from_text(text, "config.json");
}
inline io::Config edited(const std::string& name, const std::string& from, const std::string& to) {
  return edited(name, Edits{{from, to}});
}
inline models::LayerSpec describe(const io::Config& config, Index layer) {
  return models::describe_layer(config, layer);
}

/// One call of a layer, with its tape.
struct Ran {
  std::vector<float> y;
  models::AnyLayer::Tape tape;

  Ran(const models::AnyLayer& layer, const moe::LayerInput<float>& in)
      : y(static_cast<std::size_t>(in.x.rows * in.x.cols)), tape(layer.make_tape()) {
    moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), in.x.rows, in.x.cols));
    moe::Workspace workspace;
    layer.forward_train(in, out, tape, workspace);
  }
  /// Weight of expert e for token t, or NaN if it was not chosen.
  float weight(Index t, Index e) const {
    const moe::RouteTable<float>& routes = tape.routes();
    for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
      if (Index{routes.expert[p]} == e) return routes.weight[p];
    }
    return std::numeric_limits<float>::quiet_NaN();
  }
};

}  // namespace test
