// A layer for every frame, capacity, bank and storage of the lists: what the sweeps of tests/proof run over.
// Routers have their own table (support/router_cases.hpp).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moe/core/type_list.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/plan/capacity/list.hpp"
#include "moe/storage/list.hpp"
#include "support/test_layer.hpp"

namespace test {

struct LayerCase {
  std::string part;  // "frame latent": family and name
  LayerSpec spec;
  bool stored() const { return spec.naive.format != Format::dense; }
};

/// Whether a case is for Real.
template <class Real>
bool runs_in(const LayerCase& c) {
  return !c.stored() || sizeof(Real) == sizeof(float);
}

/// The parts of a layer by family and name, from the lists.
inline std::vector<std::string> listed_parts() {
  std::vector<std::string> parts;
  const auto add = [&](const char* family, const auto& list) {
    moe::for_each_type(list, [&]<class Part>(std::type_identity<Part>) {
      parts.push_back(std::string(family) + " " + Part::kName);
    });
  };
  add("frame", moe::Frames<float>{});
  add("capacity", moe::Capacities{});
  add("bank", moe::FeedForwardBanks<float>{});
  add("bank", moe::TypeList<moe::ZeroComputation<float>>{});
  for (std::size_t i = 0; i < moe::Storages::kSize; ++i) parts.push_back("storage " + std::to_string(i));
  return parts;
}

/// Odd sizes around the vectors; tokens choose 2 of 6 experts. Storages are numbered as in their list, as
/// Format is.
inline std::vector<LayerCase> layer_cases() {
  using Capacity = NaiveLayer::Capacity;
  std::vector<LayerCase> cases;
  const auto add = [&](std::string part, const std::function<void(LayerSpec&, NaiveLayer&)>& change) {
    LayerSpec spec;
    spec.width = 13;
    spec.hidden = 11;
    spec.latent_width = 5;
    spec.expert_bias = true;
    spec.naive.ffn = spec.naive.router.experts = spec.outputs = 6;
    spec.naive.router.k = 2;
    spec.naive.router.divide = NaiveRouter::Divide::sum;
    spec.seed = cases.size() + 301;
    change(spec, spec.naive);
    cases.push_back({std::move(part), spec});
  };
  add("frame identity", [](LayerSpec&, NaiveLayer&) {});
  add("frame scaled", [](LayerSpec&, NaiveLayer& n) { n.row_scale = 2.5; });
  add("frame output_bias", [](LayerSpec&, NaiveLayer& n) { n.output_bias = true; });
  add("frame latent", [](LayerSpec&, NaiveLayer& n) { n.latent = true; });
  add("capacity dropless", [](LayerSpec&, NaiveLayer& n) { n.shared = 1; });
  add("capacity fixed",
      [](LayerSpec&, NaiveLayer& n) { n.capacity = Capacity::first_choices, n.places = 2; });
  add("capacity fixed", [](LayerSpec&, NaiveLayer& n) { n.capacity = Capacity::best_scores, n.places = 2; });
  add("capacity heterogeneous", [](LayerSpec&, NaiveLayer& n) { n.capacity = Capacity::shares, n.ffn = 4; });
  add("bank glu", [](LayerSpec&, NaiveLayer& n) { n.act = Act::gelu_tanh; });
  add("bank mlp", [](LayerSpec&, NaiveLayer& n) { n.glu = false, n.act = Act::gelu_erf; });
  add("bank zero_computation", [](LayerSpec&, NaiveLayer& n) { n.ffn = 3, n.constants = n.copies = 1; });
  std::vector<Format> formats = {Format::dense};
  formats.insert(formats.end(), kBlockFormats.begin(), kBlockFormats.end());
  for (const Format format : formats) {
    for (const bool glu : {true, false}) {
      add("storage " + std::to_string(static_cast<int>(format)), [&](LayerSpec& s, NaiveLayer& n) {
        n.format = format, n.glu = glu;
        s.width = glu ? 41 : 65, s.hidden = glu ? 65 : 35;  // whole groups of 32 and a part of one
      });
    }
  }
  return cases;
}

}  // namespace test
