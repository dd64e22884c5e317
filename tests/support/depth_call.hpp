// Calls of depth layers in tests.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/visits.hpp"

namespace test {

using moe::Index;

/// Rows [T, D] with their results, in segments that end at `ends`.
struct DepthCall {
  std::vector<double> x, y, dy, dx;
  std::vector<Index> ends;
  moe::DrawCounter draws{5};
  moe::LayerInput<double> in;
  moe::LayerOutput<double> out;
  Index tokens, width;

  DepthCall(Index rows, Index columns, std::vector<Index> segments, std::uint64_t seed = 3)
      : ends(std::move(segments)), tokens(rows), width(columns) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    x.resize(static_cast<std::size_t>(rows * columns));
    for (double& v : x) v = normal(random);
    for (std::size_t i = 0; i < x.size(); ++i) dy.push_back(normal(random));
    y.assign(x.size(), 7);
    dx.assign(x.size(), 7);
    in = moe::LayerInput<double>(view(x));
    in.segments = moe::Segments(std::span<const Index>(ends));
    in.draws = &draws;
    out = moe::LayerOutput<double>(moe::MatrixView<double>(y.data(), rows, columns));
  }
  DepthCall(const DepthCall&) = delete;
  DepthCall& operator=(const DepthCall&) = delete;

  moe::ConstMatrixView<double> view(const std::vector<double>& rows) const {
    return {rows.data(), tokens, width};
  }
  std::vector<double> row(const std::vector<double>& rows, Index t) const {
    return {rows.begin() + t * width, rows.begin() + (t + 1) * width};
  }

  template <class L>
  void forward(const L& layer) {
    moe::Workspace workspace;
    layer.forward(in, out, workspace, serial());
  }
  template <class L>
  typename L::Tape train(const L& layer) {
    moe::Workspace workspace;
    auto tape = layer.make_tape();
    layer.forward_train(in, out, tape, workspace, serial());
    return tape;
  }
  template <class L>
  typename L::Gradients backward(const L& layer, const typename L::Tape& tape, double scale = 1) {
    moe::Workspace workspace;
    auto gradients = layer.make_gradients();
    typename L::LayerGradients back(view(dy), moe::MatrixView<double>(dx.data(), tokens, width), gradients);
    back.auxiliary_scale = scale;
    layer.backward(tape, back, workspace, serial());
    return gradients;
  }
};

/// Standard normal parameters over the root of their inputs.
template <class L>
void draw_all_parameters(L& layer, std::uint64_t seed = 11, double size = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const ParameterVisit<double> draw = [&](const moe::Parameter<double>& p) {
    const double scale = size / std::sqrt(static_cast<double>(p.value.cols));
    for (Index i = 0; i < p.value.size(); ++i) {
      p.value(i / p.value.cols, i % p.value.cols) = scale * normal(random);
    }
  };
  layer.visit_parameters(draw);
}

}  // namespace test
