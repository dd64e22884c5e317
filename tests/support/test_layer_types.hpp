// The instantiations behind test_layer.hpp.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

#include "moe/expert/bank/any.hpp"
#include "moe/layer/frame/any.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/any.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/place_limit.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/balance/sequence_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/runtime/any_parts.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/storage/list.hpp"
#include "support/any_router.hpp"
#include "support/block_banks.hpp"
#include "support/test_layer.hpp"

namespace test {

template <class Real>
using TokenRouter = moe::AnyTokenChoice<
    Real, moe::Balancing<moe::LoadBalance, moe::ZLoss, moe::SequenceBalance, moe::SelectionBias>>;
template <class Real>
using RowRouter =
    AnyRouter<TokenRouter<Real>, moe::HashRouter<Real>, moe::NoisyTopK<Real>, moe::GShardRouter<Real>>;
template <class Storage>
using StoredBank = moe::OneBank<Ungated<Storage>, Gated<Storage>, GatedAndCheap<Storage>>;
template <class... Storage>
using StoredBanks = moe::OneBank<StoredBank<Storage>...>;
/// The storages that compute in Real.
template <class Real>
using StoragesOf = std::conditional_t<std::is_same_v<Real, float>, moe::Storages, moe::TypeList<Real>>;
template <class Real>
using Experts = moe::FromList<StoredBanks, StoragesOf<Real>>;

/// Shared experts are of the bank's kind, in dense weights: with FFN experts without a gate, an Mlp.
template <class Real>
using SharedBank = moe::OneBank<Ungated<Real>, Gated<Real>>;

template <class Real, class Router, class Capacity>
class LayerHolder final : public TestLayer<Real> {
  using Layer =
      moe::MoeLayer<Router, Experts<Real>, Capacity, moe::AnyShared<SharedBank<Real>>, moe::AnyFrame<Real>>;

 public:
  template <class... Parts>
  explicit LayerHolder(Parts&&... parts)
      : layer_(std::forward<Parts>(parts)...), gradients_(layer_.make_gradients()) {}
  LayerHolder(Layer layer, typename Layer::Gradients gradients, typename Layer::Tape tape)
      : layer_(std::move(layer)), gradients_(std::move(gradients)), tape_(std::move(tape)) {}

  moe::Coupling coupling(bool training) const override { return Layer::coupling(training); }
  Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const override {
    return layer_.workspace_bytes(shape, mode, concurrency);
  }
  void forward(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, moe::Workspace& ws,
               AnyExecutor executor) const override {
    moe::DrawCounter draws(kSeed);
    layer_.forward(drawing(in, draws), out, ws, executor);
  }
  void forward_train(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, moe::Workspace& ws,
                     AnyExecutor executor) override {
    moe::DrawCounter draws(kSeed);
    layer_.forward_train(drawing(in, draws), out, tape_, ws, executor);
  }
  void backward(ConstMatrixView<Real> dy, MatrixView<Real> dx, double auxiliary_scale, moe::Workspace& ws,
                AnyExecutor executor) override {
    layer_.zero_gradients(gradients_);
    typename Layer::LayerGradients out(dy, dx, gradients_);
    out.auxiliary_scale = auxiliary_scale;
    layer_.backward(tape_, out, ws, executor);
  }
  bool backward_with(const TestLayer<Real>& tape_of, TestLayer<Real>& gradients_of, ConstMatrixView<Real> dy,
                     MatrixView<Real> dx, moe::Workspace& ws) const override {
    const auto* const taped = dynamic_cast<const LayerHolder*>(&tape_of);
    auto* const trained = dynamic_cast<LayerHolder*>(&gradients_of);
    if (taped == nullptr || trained == nullptr) return false;
    moe::SerialExecutor serial;
    typename Layer::LayerGradients out(dy, dx, trained->gradients_);
    layer_.backward(taped->tape_, out, ws, AnyExecutor(serial));
    return true;
  }
  std::unique_ptr<TestLayer<Real>> taken() override {
    return std::make_unique<LayerHolder>(std::move(layer_), std::move(gradients_), std::move(tape_));
  }
  void lose(typename TestLayer<Real>::Part part) override {
    const auto move_out = [](auto& from) { auto gone = std::move(from); };
    if (part == TestLayer<Real>::Part::router) move_out(layer_.router());
    if (part == TestLayer<Real>::Part::experts) move_out(layer_.experts());
    if (part == TestLayer<Real>::Part::shared) move_out(layer_.shared());
    if (part == TestLayer<Real>::Part::frame) move_out(layer_.frame());
  }
  void visit(const typename TestLayer<Real>::Visit& visit) override {
    layer_.visit_parameters(gradients_,
                            [&](const moe::Parameter<Real>& p) { visit(p.name, p.value, p.gradient); });
  }
  void visit_rounded(const typename TestLayer<Real>::VisitRounded& visit) const override {
    layer_.experts().visit(
        [&](const auto& stored) { stored.visit([&](const auto& bank) { visit_matrices(bank, visit); }); });
  }
  void visit_state(const std::function<void(const std::string&, double*, Index)>& visit) override {
    layer_.visit_state([&](const char* name, double* values, Index n) { visit(name, values, n); });
  }
  const moe::RouteTable<Real>& routes() const override { return tape_.routes(); }
  const moe::DispatchPlan<Real>& plan() const override { return tape_.plan(); }

  using typename TestLayer<Real>::Held;
  std::type_index type() const override { return typeid(Layer); }
  Held make_tape() const override { return std::make_shared<Tape>(); }
  Held make_gradients() const override { return std::make_shared<Gradients>(layer_.make_gradients()); }
  void train(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, void* tape, moe::Workspace& ws,
             AnyExecutor executor) const override {
    layer_.forward_train(in, out, *static_cast<Tape*>(tape), ws, executor);
  }
  Index pairs(const void* tape) const override { return static_cast<const Tape*>(tape)->routes().pairs(); }
  void back(const void* tape, const typename TestLayer<Real>::Back& rows, void* gradients, moe::Workspace& ws,
            AnyExecutor executor) const override {
    typename Layer::LayerGradients out(rows.dy, rows.dx);
    if (gradients != nullptr) out = {rows.dy, rows.dx, *static_cast<Gradients*>(gradients)};
    out.router_dx = rows.router_dx;
    out.auxiliary_scale = rows.auxiliary_scale;
    out.dlogit = rows.dlogit;
    out.advantage = rows.advantage;
    out.frozen_pair = rows.frozen_pair;
    layer_.backward(*static_cast<const Tape*>(tape), out, ws, executor);
  }
  void visit_gradients(void* gradients, const typename TestLayer<Real>::Visit& visit) override {
    layer_.visit_parameters(*static_cast<Gradients*>(gradients),
                            [&](const moe::Parameter<Real>& p) { visit(p.name, p.value, p.gradient); });
  }
  void visit_ranges(void* gradients, const typename TestLayer<Real>::VisitRange& visit) override {
    layer_.visit_storage(
        *static_cast<Gradients*>(gradients),
        [&](const char* name, Real* values, Real* gradient, Index n) { visit(name, values, gradient, n); });
  }
  void visit_packed(const typename TestLayer<Real>::VisitPacked& visit) override {
    layer_.visit_packed([&](const char* name, std::byte* data, Index n) { visit(name, data, n); });
  }
  void move_tape(void* tape) const override { Tape gone(std::move(*static_cast<Tape*>(tape))); }
  void move_gradients(void* gradients) const override {
    Gradients gone(std::move(*static_cast<Gradients*>(gradients)));
  }
  const ErasedBank<Real>& bank() const override { return bank_; }

 private:
  static constexpr std::uint64_t kSeed = 3;
  /// Every call draws the same.
  static moe::LayerInput<Real> drawing(const moe::LayerInput<Real>& in, moe::DrawCounter& draws) {
    moe::LayerInput<Real> own(in.x);
    moe::InputColumns<Real>::each([&](const char*, auto column, moe::ColumnSize) {
      own.*column = moe::impl::borrowed(in.*column);  // copies of converted ones would allocate
    });
    own.router_x = in.router_x;
    own.segments = in.segments.borrow();
    own.options = in.options;
    own.mode = in.mode;
    own.draws = &draws;
    return own;
  }
  using Tape = typename Layer::Tape;
  using Gradients = typename Layer::Gradients;

  Layer layer_;
  BankRef<Experts<Real>> bank_{layer_.experts()};
  Gradients gradients_;
  Tape tape_;
};

inline moe::AnyActivation activation_of(Act act) {
  switch (act) {
    case Act::relu:
      return moe::AnyActivation{moe::ActivationKind::relu};
    case Act::relu_squared:
      return moe::AnyActivation{moe::ActivationKind::relu_squared};
    case Act::silu:
      return moe::AnyActivation{moe::ActivationKind::silu};
    case Act::gelu_erf:
      return moe::AnyActivation{moe::ActivationKind::gelu_erf};
    case Act::gelu_tanh:
      break;
  }
  return moe::AnyActivation{moe::ActivationKind::gelu_tanh};
}

template <class Real>
TokenRouter<Real> token_router(const LayerSpec& spec) {
  const NaiveRouter& r = spec.naive.router;
  using R = NaiveRouter;
  moe::LinearScorer<Real> scorer({spec.width, spec.outputs, spec.router_bias, spec.jitter});
  moe::AnyScore score = moe::Softmax{};
  if (r.score == R::Score::sigmoid) score = moe::SigmoidScore{};
  if (r.score == R::Score::relu) score = moe::ReluScore{};
  if (r.score == R::Score::identity) score = moe::IdentityScore{};
  moe::AnySelection select = moe::TopKSelection(r.k);
  if (r.select == R::Select::positive) select = moe::PositiveSelection{};
  if (r.select == R::Select::groups) {
    select = moe::GroupLimitedSelection(
        {r.k, r.groups, r.kept_groups, r.top_two ? moe::GroupScore::top_two_sum : moe::GroupScore::highest});
  }
  moe::GatherWeighting::Options gather{.normalise = moe::Normalise::none, .eps = r.eps, .scale = r.scale};
  if (r.divide == R::Divide::sum) gather.normalise = moe::Normalise::sum;
  if (r.divide == R::Divide::sum_plus_eps) gather.normalise = moe::Normalise::sum_plus_eps;
  if (r.divide == R::Divide::max_with_eps) gather.normalise = moe::Normalise::max_with_eps;
  moe::AnyWeighting weighting = moe::GatherWeighting(gather);
  if (r.weight == R::Weight::kept_softmax) weighting = moe::SoftmaxWeighting{};
  if (spec.outputs > spec.experts())
    weighting = moe::LeadingWeighting({.leading = spec.experts(), .elide_rest = true});
  moe::SelectionBias bias({.outputs = spec.outputs, .null_experts = spec.outputs - spec.experts()});
  if (!r.selection_bias.empty()) bias.set_bias(r.selection_bias);
  return {std::move(scorer),
          score,
          std::move(select),
          std::move(weighting),
          moe::Balancing<moe::LoadBalance, moe::ZLoss, moe::SequenceBalance, moe::SelectionBias>(
              moe::LoadBalance({.coefficient = spec.load_balance}), moe::ZLoss(spec.z_loss),
              moe::SequenceBalance(spec.sequence_balance), std::move(bias)),
          spec.non_finite};
}

template <class Storage>
StoredBank<Storage> experts_stored_as(const LayerSpec& spec) {
  using Real = typename moe::StorageTraits<Storage>::Real;
  const NaiveLayer& n = spec.naive;
  const Index width = n.latent ? spec.latent_width : spec.width;
  const moe::TwoLayerOptions options{n.ffn, width, spec.hidden, spec.expert_bias};
  const int cheap = spec.experts() - n.ffn;
  if (cheap > 0) {
    return GatedAndCheap<Storage>(
        rounded_random(Gated<Storage>(options, activation_of(n.act)), spec.seed),
        moe::ZeroComputation<Real>({width, cheap - n.constants - n.copies, n.copies, n.constants}));
  }
  if (n.glu) return rounded_random(Gated<Storage>(options, activation_of(n.act)), spec.seed);
  return rounded_random(Ungated<Storage>(options, activation_of(n.act)), spec.seed);
}

/// Formats are numbered as the list of storages is.
template <class Real>
Experts<Real> experts_of(const LayerSpec& spec) {
  std::optional<Experts<Real>> found;
  int format = 0;
  moe::for_each_type(StoragesOf<Real>{}, [&]<class Storage>(std::type_identity<Storage>) {
    if (format++ == static_cast<int>(spec.naive.format)) found = experts_stored_as<Storage>(spec);
  });
  return *std::move(found);
}

template <class Real>
moe::AnyShared<SharedBank<Real>> shared_of(const LayerSpec& spec) {
  const NaiveLayer& n = spec.naive;
  if (n.shared == 0) return {};
  const moe::TwoLayerOptions options{n.shared, spec.width, spec.hidden, spec.expert_bias};
  SharedBank<Real> bank = Ungated<Real>(options, activation_of(n.act));
  if (n.glu) bank = Gated<Real>(options, activation_of(n.act));
  return moe::SharedExperts<SharedBank<Real>>(std::move(bank), n.shared_gate);
}

template <class Real>
moe::AnyFrame<Real> frame_of(const LayerSpec& spec) {
  if (spec.naive.row_scale != 1) return moe::ScaledFrame<Real>(spec.width, spec.naive.row_scale);
  if (spec.naive.latent) return moe::LatentFrame<Real>(spec.width, spec.latent_width);
  if (spec.naive.output_bias) return moe::OutputBias<Real>(spec.width);
  return moe::IdentityFrame{};
}

inline moe::AnyCapacity capacity_of(const NaiveLayer& n) {
  using Capacity = NaiveLayer::Capacity;
  if (n.capacity == Capacity::shares) {
    return moe::HeterogeneousCapacity({.ffn = n.ffn, .tau = n.tau, .factor = n.factor});
  }
  return moe::FixedCapacity({.tokens_per_expert = n.places,
                             .order = n.capacity == Capacity::first_choices
                                          ? moe::CapacityOrder::first_choices_first
                                          : moe::CapacityOrder::best_score_first});
}

template <class Real, class Router>
std::unique_ptr<TestLayer<Real>> with_router(const LayerSpec& spec, Router router) {
  if (spec.naive.capacity == NaiveLayer::Capacity::none) {
    return std::make_unique<LayerHolder<Real, Router, moe::Dropless>>(
        std::move(router), experts_of<Real>(spec), moe::Dropless{}, shared_of<Real>(spec),
        frame_of<Real>(spec));
  }
  return std::make_unique<LayerHolder<Real, Router, moe::AnyCapacity>>(
      std::move(router), experts_of<Real>(spec), capacity_of(spec.naive), shared_of<Real>(spec),
      frame_of<Real>(spec));
}

template <class Real>
RowRouter<Real> hash_router(const LayerSpec& spec) {
  std::vector<moe::ExpertId> ids;
  for (const std::vector<int>& row : spec.naive.router.hash) ids.insert(ids.end(), row.begin(), row.end());
  return moe::HashRouter<Real>(moe::HashTable::own(ids, spec.vocabulary, spec.experts(),
                                                   static_cast<Index>(spec.naive.router.hash.size())));
}

template <class Real>
RowRouter<Real> row_router(const LayerSpec& spec) {
  const Index experts = spec.experts();
  if (spec.named == Named::noisy) {
    return moe::noisy_top_k<Real>({.width = spec.width, .experts = experts, .k = spec.naive.router.k});
  }
  if (spec.named == Named::gshard) return moe::gshard_router<Real>({.width = spec.width, .experts = experts});
  if (spec.naive.router.routing == NaiveRouter::Routing::hash) return hash_router<Real>(spec);
  return token_router<Real>(spec);
}

template <class Real>
std::unique_ptr<TestLayer<Real>> make_layer(const LayerSpec& spec) {
  using Routing = NaiveRouter::Routing;
  std::unique_ptr<TestLayer<Real>> layer;
  if (spec.naive.router.routing == Routing::expert_choice) {
    layer = with_router<Real>(spec, moe::expert_choice<Real>({.width = spec.width,
                                                              .experts = spec.experts(),
                                                              .capacity_factor = spec.naive.router.factor,
                                                              .non_finite = spec.non_finite}));
  } else {
    layer = with_router<Real>(spec, row_router<Real>(spec));
  }
  std::mt19937_64 random(spec.seed);
  std::normal_distribution<double> normal;
  layer->visit([&](const std::string&, moe::ParameterView<Real> value, moe::ParameterView<Real>) {
    const double scale = 1 / std::sqrt(static_cast<double>(value.cols));
    for (Index o = 0; o < value.rows; ++o) {
      for (Index i = 0; i < value.cols; ++i) value(o, i) = static_cast<Real>(scale * normal(random));
    }
  });
  return layer;
}

}  // namespace test
