// Layers of merged experts are trained, saved and described as other layers are.
#include <string>
#include <utility>

#include "layer/soft/plain_merging.hpp"
#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/layer/describe.hpp"
#include "moe/layer/soft/smear.hpp"
#include "moe/layer/soft/twin_merging.hpp"
#include "moe/train/adamw.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using test::Values;

namespace {

template <class L>
void check_saved(const L& layer, L fresh, const moe::LayerInput<double>& in) {
  moe::ArchiveWriter writer;
  writer.add_layer("block", layer);
  moe::Archive::from_bytes(writer.bytes()).load_layer("block", fresh);
  CHECK(test::same_bits(test::run_layer(layer, in), test::run_layer(fresh, in)));
}

}  // namespace

TEST_CASE("an optimiser trains mixer and experts; what was trained is saved", "[layer]") {
  const auto make = [](double dropout) {
    return moe::smear<double, moe::Silu>(
        {.width = 6, .hidden = 8, .experts = 3, .bias = true, .dropout = dropout});
  };
  auto layer = make(0);
  test::draw_parameters(layer, 1);
  const Values x = test::random_rows(12, 6, 2), target = test::random_rows(12, 6, 3);
  moe::LayerInput<double> in(test::view(x, 6));
  in.segments = moe::Segments::uniform(4);
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer trained(layer, gradients);
  moe::AdamW<double> optimiser({.decay = 0});
  moe::Workspace workspace;
  double first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    auto tape = layer.make_tape();
    const Values y = test::train_layer(layer, in, tape);
    Values dy(y.size());
    last = 0;
    for (std::size_t i = 0; i < y.size(); ++i) dy[i] = y[i] - target[i], last += dy[i] * dy[i] / 2;
    if (step == 0) first = last;
    layer.backward(tape, decltype(layer)::LayerGradients(test::view(std::as_const(dy), 6), {}, gradients),
                   workspace);
    optimiser.step(trained, 0.02);
  }
  CHECK(last < first / 4);
  check_saved(layer, make(0), in);
  CHECK(moe::describe(layer).find("segment_mixer") != std::string::npos);
}

TEST_CASE("twins are saved with their task vectors, and their optimiser steps the mixer alone", "[layer]") {
  using Bank = moe::Glu<moe::Silu, double>;
  Bank shared({1, 5, 7, true});
  shared.initialise(1);
  auto layer = moe::twin_merging(moe::TwinExperts<Bank>(shared, 3, 2));
  test::draw_parameters(layer, 4);
  const Values x = test::random_rows(6, 5, 5), dy = test::random_rows(6, 5, 6);
  moe::LayerInput<double> in(test::view(x, 5));
  in.segments = moe::Segments::uniform(3);
  check_saved(layer, moe::twin_merging(moe::TwinExperts<Bank>(shared, 3, 2)), in);

  auto before = test::layer_parameters(layer);
  auto gradients = layer.make_gradients();
  moe::AdamW<double> optimiser({.decay = 0.5});
  auto tape = layer.make_tape();
  test::train_layer(layer, in, tape);
  moe::Workspace workspace;
  layer.backward(tape, decltype(layer)::LayerGradients(test::view(dy, 5), {}, gradients), workspace,
                 test::serial());
  optimiser.step(moe::TrainedLayer(layer, gradients), 0.1);
  Index stepped = 0;
  for (auto& [name, values] : test::layer_parameters(layer)) {
    const bool mixer = name.find("gate.") == 0;
    CHECK(test::same_bits(values, before[name]) != mixer);
    stepped += mixer;
  }
  CHECK(stepped == 2);
  CHECK(moe::describe(layer).find("twin_experts") != std::string::npos);
}
