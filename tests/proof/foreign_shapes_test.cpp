// Tapes and gradients of other layers, and layers that were moved from, whole or a part: refused by name
// before anything is written. Over every listed frame, capacity, bank and storage, and those in other shapes.
#include <algorithm>
#include <optional>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"
#include "support/same_bits.hpp"

namespace {

using namespace test;

constexpr Index kTokens = 5;
constexpr float kUntouched = 8;

/// The listed parts, and of those that differ in what they keep other shapes.
std::vector<LayerCase> shapes() {
  std::vector<LayerCase> all = layer_cases();
  for (const LayerCase& listed : layer_cases()) {
    if (listed.part != "frame identity" && listed.part != "frame latent" &&
        listed.part != "bank zero_computation" && listed.part != "storage 2") {
      continue;
    }
    const auto add = [&](const char* change, const std::function<void(LayerSpec&, NaiveLayer&)>& f) {
      LayerCase c = listed;
      c.part += change;
      f(c.spec, c.spec.naive);
      all.push_back(std::move(c));
    };
    add(", wider", [](LayerSpec& s, NaiveLayer&) { s.width += 32; });
    add(", a longer hidden row", [](LayerSpec& s, NaiveLayer&) { s.hidden += 32; });
    add(", more experts",
        [](LayerSpec& s, NaiveLayer& n) { s.outputs += 6, n.router.experts += 6, n.ffn += 6; });
    add(", no biases", [](LayerSpec& s, NaiveLayer&) { s.expert_bias = false; });
    add(", a router with biases", [](LayerSpec& s, NaiveLayer&) { s.router_bias = true; });
    add(", another latent width", [](LayerSpec& s, NaiveLayer&) { s.latent_width += 4; });
    add(", two shared", [](LayerSpec&, NaiveLayer& n) { n.shared = 2; });
    add(", two gated shared", [](LayerSpec&, NaiveLayer& n) { n.shared = 2, n.shared_gate = true; });
  }
  return all;
}

/// A layer with a call on its tape, and zero gradients.
struct Trained {
  explicit Trained(const LayerCase& c) : name(c.part), layer(make_layer<float>(c.spec)) {
    std::mt19937_64 random(c.spec.seed);
    batch.emplace(c.spec, kTokens, random);
    segments = {0, kTokens};
    batch->offsets = segments;
    dx.assign(batch->x.size(), kUntouched);
    layer->visit([&](const std::string& parameter, moe::ParameterView<float> v, moe::ParameterView<float>) {
      shape += parameter + " " + std::to_string(v.rows) + " x " + std::to_string(v.cols) + "\n";
    });
    forward_train();
  }
  void forward() const {
    moe::SerialExecutor serial;
    moe::Workspace workspace;
    moe::LayerOutput<float> out(batch->y_view());
    layer->forward(batch->input(), out, workspace, AnyExecutor(serial));
  }
  void forward_train() {
    moe::SerialExecutor serial;
    moe::Workspace workspace;
    moe::LayerOutput<float> out(batch->y_view());
    layer->forward_train(batch->input(), out, workspace, AnyExecutor(serial));
  }
  bool backward(const Trained& tape_of, const Trained& gradients_of) const {
    moe::Workspace workspace;
    return layer->backward_with(*tape_of.layer, *gradients_of.layer, batch->x_view(),
                                {dx.data(), kTokens, batch->width}, workspace);
  }
  bool untouched() const {
    bool all = std::all_of(dx.begin(), dx.end(), [](float v) { return v == kUntouched; });
    layer->visit([&](const std::string&, moe::ParameterView<float>, moe::ParameterView<float> g) {
      for (Index i = 0; i < g.size(); ++i) all = all && g(i / g.cols, i % g.cols) == 0;
    });
    return all;
  }

  std::string name, shape;
  std::unique_ptr<TestLayer<float>> layer;
  mutable std::optional<Batch<float>> batch;
  std::vector<Index> segments;
  mutable std::vector<float> dx;
};

const std::vector<Trained>& trained() {
  static const std::vector<Trained> all = [] {
    std::vector<Trained> made;
    for (const LayerCase& c : shapes()) made.emplace_back(c);
    return made;
  }();
  return all;
}

}  // namespace

TEST_CASE("the tape of another layer is refused", "[proof][smoke]") {
  Index tried = 0;
  std::string accepted;
  for (const Trained& a : trained()) {
    for (const Trained& b : trained()) {
      if (&a == &b) continue;
      bool same_type = true;
      const std::string message = message_of<moe::state_error>([&] { same_type = b.backward(a, b); });
      if (!same_type) continue;
      ++tried;
      if (message.find("moe: tape: expected") != 0 || !b.untouched()) {
        accepted += a.name + " -> " + b.name + ": " + message + "\n";
      }
    }
  }
  CHECK(accepted == "");
  CHECK(tried > 2000);
}

TEST_CASE("gradients of another layer are refused", "[proof][smoke]") {
  Index tried = 0;
  std::string accepted;
  for (const Trained& a : trained()) {
    for (const Trained& b : trained()) {
      if (a.shape == b.shape) continue;  // they may be those of another layer, added up
      bool same_type = true;
      const std::string message = message_of<moe::shape_error>([&] { same_type = b.backward(b, a); });
      if (!same_type) continue;
      ++tried;
      if (message.find("moe: gradients") != 0 || !a.untouched() || !b.untouched()) {
        accepted += a.name + " -> " + b.name + ": " + message + "\n";
      }
    }
  }
  CHECK(accepted == "");
  CHECK(tried > 2000);
}

TEST_CASE("a layer that was moved from is refused, and works where it was moved to", "[proof][smoke]") {
  for (const LayerCase& c : layer_cases()) {
    INFO(c.part);
    Trained was(c);
    was.forward();
    const std::vector<float> y = was.batch->y;
    REQUIRE(was.backward(was, was));
    const std::vector<float> dx = was.dx;

    Trained is(c);
    is.layer = was.layer->taken();
    is.forward();
    CHECK(same_bits(is.batch->y, y));
    REQUIRE(is.backward(is, is));
    CHECK(same_bits(is.dx, dx));

    const std::string gone = "moe: layer: expected one with its parts, got one that was moved from";
    CHECK(message_of<moe::state_error>([&] { was.forward(); }) == gone);
    CHECK(message_of<moe::state_error>([&] { was.forward_train(); }) == gone);
    CHECK(message_of<moe::state_error>([&] { was.backward(was, was); }) == gone);
    CHECK(message_of<moe::state_error>([&] { is.backward(was, is); }) ==
          "moe: tape: expected a tape of a finished forward_train, got an empty one");
    CHECK(was.layer->routes().tokens == 0);
    CHECK(same_bits(was.batch->y, y));
    moe::Workspace workspace;
    CHECK(message_of<moe::state_error>(
              [&] { was.layer->workspace_bytes({.tokens = 3}, moe::Mode::training, 1); }) == gone);
    was.layer->visit([](const std::string&, moe::ParameterView<float> v, moe::ParameterView<float>) {
      CHECK(v.size() == 0);
    });
  }
}

TEST_CASE("a layer that lost a part to a move is refused, or needs nothing of it", "[proof][smoke]") {
  using Part = TestLayer<float>::Part;
  int refused[4] = {};
  for (const LayerCase& c : layer_cases()) {
    for (const Part part : {Part::router, Part::experts, Part::shared, Part::frame}) {
      INFO(c.part << ", part " << static_cast<int>(part));
      Trained layer(c);
      layer.forward();
      const std::vector<float> y = layer.batch->y;
      layer.layer->lose(part);
      std::fill(layer.batch->y.begin(), layer.batch->y.end(), kUntouched);
      const std::string message = message_of<moe::state_error>([&] { layer.forward(); });
      if (message == "nothing thrown") {
        CHECK(same_bits(layer.batch->y, y));
        continue;
      }
      ++refused[static_cast<int>(part)];
      CHECK(message.find("moe: ") == 0);
      CHECK(message_of<moe::state_error>([&] { layer.backward(layer, layer); }).find("moe: ") == 0);
      for (const std::vector<float>* written : {&layer.dx, &layer.batch->y}) {
        CHECK(std::all_of(written->begin(), written->end(), [](float v) { return v == kUntouched; }));
      }
    }
  }
  const int layers = static_cast<int>(layer_cases().size());
  CHECK(refused[static_cast<int>(Part::router)] == layers);
  CHECK(refused[static_cast<int>(Part::experts)] == layers);
  CHECK(refused[static_cast<int>(Part::shared)] == 1);
  CHECK(refused[static_cast<int>(Part::frame)] == 2);
}
