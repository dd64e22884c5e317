#include "moe/train/trained_layer.hpp"

#include <map>
#include <string>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/train/adamw.hpp"
#include "moe/train/gradients.hpp"
#include "support/catch.hpp"
#include "train/small_layer.hpp"

namespace {

using namespace test;

/// Steps first + 1 .. last towards y = |x|; returns the last squared error before a step.
double train(SmallLayer& layer, moe::AdamW<double>& optimiser, int first, int last) {
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer trained(layer, gradients);
  double error = 0;
  for (int step = first + 1; step <= last; ++step) {
    Rows x(32, layer.width());
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = std::cos(static_cast<double>(step * 1009 + i));
    Rows y(x.rows(), x.cols());
    moe::LayerOutput<double> out(y);
    moe::Workspace workspace;
    layer.forward(x, out, workspace);
    const Rows dy = (y - x.cwiseAbs()) / 32;
    error = dy.squaredNorm();
    add_gradients(layer, x, dy, gradients);
    moe::clip_by_global_norm(trained, 1);
    optimiser.step(trained, 0.02);
  }
  return error;
}

}  // namespace

TEST_CASE("a layer shows its ranges and parameters under a prefix", "[train]") {
  SmallLayer layer = small_layer();
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer plain(layer, gradients), named(layer, gradients, "blocks.3");
  static_assert(moe::TrainedModel<decltype(plain)&>);
  std::map<std::string, Index> ranges;
  plain.visit_storage([&](const char* name, double*, double*, Index n) { ranges[name] = n; });
  named.visit_storage([&](const std::string& name, double*, double* g, Index n) {
    CHECK(name.starts_with("blocks.3."));
    CHECK((g != nullptr && ranges.at(name.substr(9)) == n));
  });
  std::string last;
  named.visit_parameters([&](const moe::Parameter<double>& p) { last = p.name; });
  CHECK(last == "blocks.3.output.bias");
}

TEST_CASE("a part that backward froze is frozen for the optimiser, decay and all", "[train]") {
  SmallLayer layer = small_layer();
  auto gradients = layer.make_gradients();
  const Rows x = Rows::Random(20, 10), dy = Rows::Random(20, 10);
  Rows y(20, 10);
  SmallLayer::LayerGradients back(dy, {}, gradients);
  back.experts = nullptr;
  const moe::TrainedLayer trained(layer, back);
  const moe::TrainedLayer all(layer, gradients);
  std::map<std::string, std::vector<double>> before;
  all.visit_storage([&](const char* name, double* w, double*, Index n) { before[name].assign(w, w + n); });

  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  SmallLayer::Tape tape;
  layer.forward_train(x, out, tape, workspace);
  layer.backward(tape, back, workspace);
  moe::AdamW<double> optimiser({.decay = 0.5});
  optimiser.step(trained, 0.1);
  Index frozen = 0;
  trained.visit_storage([&](const std::string& name, double* w, double* g, Index n) {
    const bool of_experts = name.starts_with("experts.");
    CHECK((g == nullptr) == of_experts);
    CHECK((std::vector<double>(w, w + n) == before.at(name)) == of_experts);
    frozen += of_experts;
  });
  CHECK(frozen == 4);  // two matrices and their biases
}

TEST_CASE("router and experts learn by turns, each frozen to the bit while the other steps", "[train]") {
  SmallLayer layer = small_layer();
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer all(layer, gradients);
  const auto values = [&](bool of_experts) {
    std::vector<double> v;
    all.visit_storage([&](const std::string& name, double* w, double*, Index n) {
      if (name.starts_with("experts.") == of_experts) v.insert(v.end(), w, w + n);
    });
    return v;
  };
  SmallLayer::LayerGradients router, experts;
  router.router = &gradients.router;
  router.frame = &gradients.frame;
  experts.experts = &gradients.experts;
  moe::AdamW<double> optimiser({.decay = 0.5});
  moe::Workspace workspace;
  SmallLayer::Tape tape;
  Rows y(20, 10);
  moe::LayerOutput<double> out(y);
  for (int step = 0; step < 6; ++step) {
    const bool experts_learn = step % 2 == 1;
    SmallLayer::LayerGradients& back = experts_learn ? experts : router;
    const Rows x = Rows::Random(20, 10), dy = Rows::Random(20, 10);
    layer.forward_train(x, out, tape, workspace);
    back.dy = dy;
    layer.backward(tape, back, workspace);
    const auto learning = values(experts_learn), frozen = values(!experts_learn);
    optimiser.step(moe::TrainedLayer(layer, back), 0.1);
    CHECK(values(!experts_learn) == frozen);
    CHECK(values(experts_learn) != learning);
  }
}

TEST_CASE("a layer trains, and goes on with the same bits from an archive", "[train][smoke]") {
  const moe::AdamW<double> fresh({.beta2 = 0.99});
  SmallLayer layer = small_layer(), copy = small_layer(7);
  moe::AdamW<double> optimiser = fresh, other = fresh;
  const double error = train(layer, optimiser, 0, 1);
  train(layer, optimiser, 1, 20);
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer trained(layer, gradients), trained_copy(copy, gradients);
  moe::ArchiveWriter writer;
  auto state = optimiser.state(trained), state_of_copy = other.state(trained_copy);
  writer.add_layer("layer", layer);
  writer.add_layer("optimiser", state);
  CHECK(train(layer, optimiser, 20, 60) < error / 2);

  const moe::Archive archive = moe::Archive::from_bytes(writer.bytes());
  CHECK(archive.contains("optimiser.experts.4.up_proj.weight.mean_square"));
  archive.load_layer("layer", copy);
  archive.load_layer("optimiser", state_of_copy);
  train(copy, other, 20, 60);
  CHECK(flat_values(trained_copy) == flat_values(trained));

  // What pads the panels is still 0, so more parameters than logical ones were nowhere changed.
  double logical = 0, packed = 0;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) logical += p.value(o, i) != 0;
    }
  });
  for (const double w : flat_values(trained)) packed += w != 0;
  CHECK(packed == logical);
}

TEST_CASE("gradients of a layer of another size are refused before anything is written", "[train]") {
  SmallLayer layer = small_layer();
  moe::Glu<moe::Silu, double> bank({.experts = 5, .width = 10, .hidden = 70, .bias = true});
  auto gradients = layer.make_gradients();
  gradients.experts = bank.make_gradients();
  const moe::TrainedLayer trained(layer, gradients);
  std::vector<double> before;
  layer.visit_parameters([&](const moe::Parameter<double>& p) { before.push_back(p.value(0, 0)); });
  moe::AdamW<double> optimiser;
  CHECK_THROWS_AS(optimiser.step(trained, 0.1), moe::shape_error);
  CHECK_THROWS_AS(moe::clip_by_global_norm(trained, 1), moe::shape_error);
  CHECK_THROWS_AS(moe::scale_gradients(trained, 2), moe::shape_error);
  std::size_t i = 0;
  layer.visit_parameters([&](const moe::Parameter<double>& p) { CHECK(p.value(0, 0) == before[i++]); });
}
