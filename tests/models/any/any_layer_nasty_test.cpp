// AnyLayer called with every argument wrong in every way, over layers of several models.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/fixture.hpp"
#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "support/catch.hpp"
#include "support/guarded_memory.hpp"
#include "support/nasty_calls.hpp"
#include "support/same_bits.hpp"

namespace {

using namespace test;
using models::AnyLayer;
using View = moe::MatrixView<float>;

/// A golden layer after a plain call.
struct Model {
  std::string name;
  Golden golden;
  AnyLayer layer;
  Ran ran;
  AnyLayer::Gradients gradients;

  explicit Model(const std::string& folder)
      : name(folder),
        golden(folder),
        layer(golden.load()),
        ran(layer, golden.input()),
        gradients(layer.make_gradients()) {}
};

/// Rows of a call between guard cells, and what the call is given.
struct Rows {
  GuardedMemory memory;
  Index tokens, width;
  moe::LayerInput<float> in;
  View y, dy, dx;

  explicit Rows(const Golden& golden) : tokens(golden.tokens), width(golden.width), in(golden.input()) {
    in.x = memory.rows<float>("x", tokens, width, golden.x);
    y = memory.rows<float>("y", tokens, width, {7});
    dy = memory.rows<float>("dy", tokens, width, golden.dy);
    dx = memory.rows<float>("dx", tokens, width, {8});
  }
  View other(Index rows, Index cols) { return memory.rows<float>("another matrix", rows, cols, {0}); }
};

std::vector<float> numbers(Model& model) {
  std::vector<float> all;
  model.layer.visit_storage(model.gradients,
                            [&](const char*, auto*, float* g, Index n) { all.insert(all.end(), g, g + n); });
  return all;
}

void sweep(Model& own, std::vector<std::unique_ptr<Model>>& all, NastyCalls& calls) {
  const AnyLayer& layer = own.layer;
  moe::Workspace workspace;
  const auto run = [&](const std::string& what, const Ends& want, const std::function<void(Rows&)>& call) {
    Rows rows(own.golden);
    rows.memory.remember();
    const std::vector<float> before = numbers(own);
    const Outcome got = outcome_of([&] { call(rows); });
    if (got.ending == answer) {
      rows.memory.take_back(rows.y);
      rows.memory.take_back(rows.dx);
    }
    const bool wrote = got.ending != answer && !same_bits(before, numbers(own));
    calls.check(own.name + ", " + what, want, got, rows.memory.changed() + (wrote ? " gradients" : ""));
  };
  const auto forward = [&](const std::string& what, const Ends& want,
                           const std::function<void(Rows&)>& change) {
    for (const bool train : {false, true}) {
      run(what, want, [&](Rows& r) {
        change(r);
        r.memory.remember();
        moe::LayerOutput<float> out(r.y);
        if (train) {
          AnyLayer::Tape tape = layer.make_tape();
          layer.forward_train(r.in, out, tape, workspace);
        } else {
          layer.forward(r.in, out, workspace);
        }
      });
    }
  };
  forward("plain", {answer}, [](Rows&) {});
  for (const Index d : {-1, 1}) {
    forward("x with other rows", {shape}, [=](Rows& r) { r.in.x = r.other(r.tokens + d, r.width); });
    forward("x with other columns", {shape, "x"}, [=](Rows& r) { r.in.x = r.other(r.tokens, r.width + d); });
    forward("y with other rows", {shape, "y"}, [=](Rows& r) { r.y = r.other(r.tokens + d, r.width); });
    forward("y with other columns", {shape, "y"}, [=](Rows& r) { r.y = r.other(r.tokens, r.width + d); });
    forward("router_x with other rows", {shape, "router_x"},
            [=](Rows& r) { r.in.router_x = r.other(r.tokens + d, r.width); });
  }
  forward("y is x", {shape, "y"}, [](Rows& r) { r.in.x = r.y; });
  forward("K of -1", {config, "experts per token"}, [](Rows& r) { r.in.options.experts_per_token = -1; });
  forward("K of 10^6", {config, "experts per token"},
          [](Rows& r) { r.in.options.experts_per_token = 1000000; });

  const auto back = [&](const std::string& what, const Ends& want, const AnyLayer::Tape& tape,
                        AnyLayer::Gradients* gradients, const std::function<void(Rows&)>& change) {
    run("backward: " + what, want, [&](Rows& r) {
      change(r);
      r.memory.remember();
      layer.backward(tape, {.dy = r.dy, .dx = r.dx, .gradients = gradients}, workspace);
    });
  };
  const auto nothing = [](Rows&) {};
  back("plain", {answer}, own.ran.tape, &own.gradients, nothing);
  back("an empty tape", {state, "tape"}, layer.make_tape(), &own.gradients, nothing);
  for (const Index d : {-1, 1}) {
    back("dy with other rows", {shape | state}, own.ran.tape, &own.gradients,
         [=](Rows& r) { r.dy = r.other(r.tokens + d, r.width); });
    back("dy with other columns", {shape, "dy"}, own.ran.tape, &own.gradients,
         [=](Rows& r) { r.dy = r.other(r.tokens, r.width + d); });
    back("dx with other rows", {shape, "dx"}, own.ran.tape, &own.gradients,
         [=](Rows& r) { r.dx = r.other(r.tokens + d, r.width); });
    back("dx with other columns", {shape, "dx"}, own.ran.tape, &own.gradients,
         [=](Rows& r) { r.dx = r.other(r.tokens, r.width + d); });
  }
  back("dx is dy", {shape, "dx"}, own.ran.tape, &own.gradients, [](Rows& r) { r.dx = r.dy; });

  moe::ArchiveWriter writer;
  writer.add_layer("layer", own.layer);
  const moe::Archive archive = moe::Archive::from_bytes(writer.bytes());
  for (const auto& other : all) {
    const bool self = other.get() == &own;
    back("the tape of " + other->name, {self ? answer : state, "tape"}, other->ran.tape, &own.gradients,
         nothing);
    back("gradients of " + other->name, {self ? answer : shape, "gradients"}, own.ran.tape, &other->gradients,
         nothing);
    run("loading into " + other->name, {self ? answer : format, "archive"},
        [&](Rows&) { archive.load_layer("layer", other->layer); });
    run("visit_storage, gradients of " + other->name, {self ? answer : shape, "gradients"},
        [&](Rows&) { own.layer.visit_storage(other->gradients, [](const char*, auto*, float*, Index) {}); });
  }

  // What was moved from.
  AnyLayer::Tape tape = layer.make_tape();
  const AnyLayer::Tape kept_tape = std::move(tape);
  back("a tape moved from", {state, "tape"}, tape, &own.gradients, nothing);
  AnyLayer::Gradients gradients = layer.make_gradients();
  AnyLayer::Gradients kept_gradients = std::move(gradients);
  back("gradients moved from", {shape | state, "gradients"}, own.ran.tape, &gradients, nothing);
  AnyLayer gone = own.golden.load();
  const AnyLayer kept = std::move(gone);
  const auto refused = [&](const std::string& what, const std::function<void(Rows&)>& call) {
    run("moved from, " + what, {state, "layer"}, call);
  };
  refused("forward", [&](Rows& r) {
    moe::LayerOutput<float> out(r.y);
    gone.forward(r.in, out, workspace);
  });
  refused("backward", [&](Rows& r) { gone.backward(own.ran.tape, {.dy = r.dy}, workspace); });
  refused("workspace_bytes", [&](Rows&) { static_cast<void>(gone.workspace_bytes(3)); });
  refused("make_tape", [&](Rows&) { static_cast<void>(gone.make_tape()); });
  refused("make_gradients", [&](Rows&) { static_cast<void>(gone.make_gradients()); });
  refused("visit_parameters", [&](Rows&) { gone.visit_parameters([](const auto&) {}); });
  run("moved to, forward", {answer}, [&](Rows& r) {
    moe::LayerOutput<float> out(r.y);
    kept.forward(r.in, out, workspace);
  });
}

}  // namespace

TEST_CASE("nasty calls of erased layers end in documented exceptions or right answers", "[models]") {
  NastyCalls calls;
  std::vector<std::unique_ptr<Model>> all;
  for (const char* const folder :
       {"mixtral", "deepseek_v3", "switch_transformers", "qwen2_moe", "longcat_flash", "nemotron_h_2"}) {
    all.push_back(std::make_unique<Model>(folder));
  }
  for (const auto& own : all) sweep(*own, all, calls);
  CHECK(calls.count() >= 400);
}
