// A sample of every part of the router lists, with options that leave something to be seen of it: what the
// sweeps over the lists compose their routers of.
#pragma once

#include <type_traits>
#include <vector>

#include "moe/router/balance/activation_locality.hpp"
#include "moe/router/balance/chunk_sparsity.hpp"
#include "moe/router/balance/cluster_variance.hpp"
#include "moe/router/balance/communication_balance.hpp"
#include "moe/router/balance/device_balance.hpp"
#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/group_alignment.hpp"
#include "moe/router/balance/local_balance.hpp"
#include "moe/router/balance/locality.hpp"
#include "moe/router/balance/pool_balance.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/score/group_softmax.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/map/spread.hpp"
#include "moe/router/selection/assignment.hpp"
#include "moe/router/selection/capacity_aware_top_k.hpp"
#include "moe/router/selection/each_group.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/importance_top_k.hpp"
#include "moe/router/selection/plackett_luce.hpp"
#include "moe/router/selection/rectified_top_k.hpp"
#include "moe/router/selection/sinkhorn_top_k.hpp"
#include "moe/router/selection/sparse_mixer.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/threshold.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/selection/top_p.hpp"
#include "moe/router/weighting/gate.hpp"
#include "moe/router/weighting/grin.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"

namespace test {

/// Outputs of the routers that hold them.
inline constexpr moe::Index kSampleOutputs = 8;

template <class Part>
Part sample_part() {
  if constexpr (std::is_same_v<Part, moe::TableSelection>) {
    std::vector<moe::ExpertId> ids;
    for (int h = 0; h < 3; ++h) {
      for (int v = 0; v < 50; ++v) ids.push_back((v + 2 * h) % 8);
    }
    return moe::TableSelection(moe::HashTable::own(ids, 50, kSampleOutputs, 3));
  } else if constexpr (std::is_same_v<Part, moe::GroupLimitedSelection>) {
    return Part({.k = 3, .groups = 4, .kept = 2});
  } else if constexpr (std::is_same_v<Part, moe::TopKSelection>) {
    return Part(3);
  } else if constexpr (std::is_same_v<Part, moe::PlackettLuce>) {
    return Part({.k = 3});
  } else if constexpr (std::is_same_v<Part, moe::SparseMixerSelection>) {
    return Part({.k = 3, .eps = 0.3});
  } else if constexpr (std::is_same_v<Part, moe::TopPSelection>) {
    return Part({.p = 0.6});
  } else if constexpr (std::is_same_v<Part, moe::ThresholdSelection>) {
    return Part({.threshold = 0.15, .least = 2, .inference_k = 3});
  } else if constexpr (std::is_same_v<Part, moe::EachGroupSelection> ||
                       std::is_same_v<Part, moe::GroupSoftmax>) {
    return Part({.groups = 4});
  } else if constexpr (std::is_same_v<Part, moe::RectifiedTopK>) {
    return Part({.k = 2, .capacity_factor = 0.8, .groups = 2});
  } else if constexpr (std::is_same_v<Part, moe::Assignment>) {
    return Part({.tolerance = 1e-9});  // the greatest sum itself
  } else if constexpr (std::is_same_v<Part, moe::SinkhornTopK>) {
    return Part({.k = 2, .regularisation = 0.7, .tolerance = 0, .iterations = 20});
  } else if constexpr (std::is_same_v<Part, moe::CapacityAwareTopK>) {
    return Part({.k = 2, .capacity_factor = 0.8, .devices = 4});
  } else if constexpr (std::is_same_v<Part, moe::ImportanceTopK>) {
    return Part({.k_max = 3, .column = 1});
  } else if constexpr (std::is_same_v<Part, moe::LeadingWeighting>) {
    return Part({.leading = 7});
  } else if constexpr (std::is_same_v<Part, moe::GateWeighting>) {
    return Part({.experts = 7, .scale = 0.6});
  } else if constexpr (std::is_same_v<Part, moe::SparseMixerWeighting> ||
                       std::is_same_v<Part, moe::GrinWeighting>) {
    return Part({.eps = 0.3});
  } else if constexpr (std::is_same_v<Part, moe::SelectionBias>) {
    return Part({.outputs = kSampleOutputs});
  } else if constexpr (std::is_same_v<Part, moe::PoolBalance>) {
    return Part({.outputs = kSampleOutputs, .layers = 2, .coefficient = 0.4});
  } else if constexpr (std::is_same_v<Part, moe::RatioLoss>) {
    return Part({.coefficient = 0.4, .target = 0.3, .output = 2});
  } else if constexpr (std::is_same_v<Part, moe::EntropyLoss>) {
    return Part({.coefficient = 0.4, .order = 2, .fraction = true});
  } else if constexpr (std::is_same_v<Part, moe::LocalBalance> || std::is_same_v<Part, moe::GroupAlignment> ||
                       std::is_same_v<Part, moe::DeviceBalance>) {
    return Part({.coefficient = 0.4, .groups = 4});
  } else if constexpr (std::is_same_v<Part, moe::CommunicationBalance>) {
    return Part({.coefficient = 0.4, .groups = 4, .reached = 2});
  } else if constexpr (std::is_same_v<Part, moe::ActivationLocality>) {
    return Part({.coefficient = 0.4, .steepness = 3});
  } else if constexpr (std::is_same_v<Part, moe::ChunkSparsity>) {
    return Part({.coefficient = 0.4, .length = 2});
  } else if constexpr (std::is_same_v<Part, moe::ClusterVariance>) {
    return Part({.coefficient = 0.4, .clusters = 4, .between = 0.5});
  } else if constexpr (std::is_same_v<Part, moe::LocalityLoss>) {
    return Part({.coefficient = 0.4, .devices = 4, .local_share = 0.6});
  } else if constexpr (std::is_same_v<Part, moe::SoftCap> || std::is_same_v<Part, moe::LogitSpread>) {
    return Part(1.5);
  } else if constexpr (std::is_default_constructible_v<Part>) {
    return Part();
  } else if constexpr (requires(typename Part::Options o) { o.coefficient; }) {
    typename Part::Options options;
    options.coefficient = 0.4;
    return Part(options);
  } else if constexpr (std::is_constructible_v<Part, double>) {
    return Part(0.4);  // a loss
  } else {
    return Part(typename Part::Options{});
  }
}

/// Options of a scorer with what it needs to be built, and something to be seen of it.
template <class Part>
typename Part::Options sample_scorer_options() {
  typename Part::Options options;
  if constexpr (requires { options.hidden; }) options.hidden = 6;
  if constexpr (requires { options.projected; }) options.projected = 6;
  if constexpr (requires { options.routers; }) options.routers = 3;
  if constexpr (requires { options.groups; }) options.groups = 4;
  if constexpr (requires { options.passes; }) options.dropout = 0.4;  // else most passes drop nothing
  if constexpr (requires { options.bonus; }) {  // blocks of two columns; devices of two outputs
    options.width = 2 * kSampleOutputs;
    options.devices = 4;
    options.bonus = 0.3;
  }
  return options;
}

}  // namespace test
