// Random layers: every option of LayerSpec in a combination that the library accepts.
#pragma once

#include <random>

#include "support/test_layer.hpp"

namespace test {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  int below(int n) { return static_cast<int>(random_() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool one_in(int n) { return below(n) == 0; }
  template <class E>
  E pick(std::initializer_list<E> of) {
    return *(of.begin() + below(static_cast<int>(of.size())));
  }
  std::mt19937_64& engine() { return random_; }

 private:
  std::mt19937_64 random_;
};

inline void draw_token_choice(Draw& draw, LayerSpec& spec) {
  using R = NaiveRouter;
  R& r = spec.naive.router;
  const int nulls = draw.one_in(5) ? draw.between(1, 4) : 0;
  spec.outputs = r.experts + nulls;
  r.score = draw.pick({R::Score::softmax, R::Score::sigmoid, R::Score::relu, R::Score::identity});
  r.k = draw.between(1, spec.outputs);
  if (r.score == R::Score::relu) r.select = R::Select::positive;
  if (nulls > 0) {
    r.score = draw.pick({R::Score::softmax, R::Score::sigmoid});
    r.select = R::Select::top_k;
    r.divide = R::Divide::sum;  // what NullWeighting does
  } else {
    r.weight = draw.one_in(3) && r.select == R::Select::top_k ? R::Weight::kept_softmax : R::Weight::gather;
    // Logits may be negative: a sum of them near 0 says nothing about the library.
    if (r.score != R::Score::identity) {
      r.divide =
          draw.pick({R::Divide::none, R::Divide::sum, R::Divide::sum_plus_eps, R::Divide::max_with_eps});
    }
    r.eps = draw.pick({1e-20, 1e-6, 0.3});
    r.scale = draw.pick({1.0, 2.5, 16.0});
  }
  if (r.select == R::Select::top_k && nulls == 0 && spec.outputs % 2 == 0 && draw.one_in(3)) {
    r.select = R::Select::groups;
    r.groups = spec.outputs % 4 == 0 ? draw.pick({2, 4}) : 2;
    r.kept_groups = draw.between(1, r.groups);
    r.top_two = draw.one_in(2);
    r.k = draw.between(1, spec.outputs / r.groups * r.kept_groups);
  }
  if (draw.one_in(3) && r.select != R::Select::positive) {
    for (int e = 0; e < spec.outputs; ++e) r.selection_bias.push_back(0.25 * draw.between(-4, 4));
  }
  spec.router_bias = draw.one_in(3);
}

/// A block storage of the routed experts, at sizes around its groups of 32 and panels of 32.
inline void draw_block_format(Draw& draw, LayerSpec& spec) {
  spec.naive.format = draw.pick(kBlockFormats);
  spec.width = draw.pick({1, 3, 17, 31, 33, 64, 100});
  spec.hidden = draw.pick({1, 3, 17, 31, 33, 64, 100});
  spec.latent_width = draw.pick({1, 17, 33, 64});
}

/// `block_formats`: in a third of the layers; float layers know them.
inline LayerSpec random_spec(Draw& draw, bool block_formats) {
  using R = NaiveRouter;
  LayerSpec spec;
  NaiveLayer& n = spec.naive;
  spec.seed = draw.engine()();
  spec.width = draw.pick({1, 2, 3, 5, 8, 16, 17, 31, 33});
  spec.hidden = draw.pick({1, 2, 3, 7, 16, 19, 33});
  spec.latent_width = draw.pick({1, 4, 17});
  if (block_formats && draw.one_in(3)) draw_block_format(draw, spec);
  spec.expert_bias = draw.one_in(2);
  n.glu = draw.one_in(2);
  n.act = draw.pick({Act::relu, Act::relu_squared, Act::silu, Act::gelu_erf, Act::gelu_tanh});
  n.ffn = draw.pick({1, 2, 3, 4, 7, 8, 12, 33});
  n.router.experts = n.ffn;
  if (draw.one_in(4)) {
    n.glu = true;
    n.constants = draw.below(3);
    n.copies = draw.below(3);
    n.router.experts += n.constants + n.copies + draw.between(1, 2);
  }
  n.shared = draw.one_in(3) ? draw.between(1, 2) : 0;
  n.shared_gate = n.shared > 0 && draw.one_in(2);
  n.latent = draw.one_in(4);
  n.output_bias = !n.latent && draw.one_in(4);
  n.capacity = draw.pick({NaiveLayer::Capacity::none, NaiveLayer::Capacity::none,
                          NaiveLayer::Capacity::first_choices, NaiveLayer::Capacity::best_scores});
  n.places = draw.between(1, 6);
  spec.outputs = n.router.experts;
  n.router.routing = draw.pick({R::Routing::token_choice, R::Routing::token_choice, R::Routing::token_choice,
                                R::Routing::expert_choice, R::Routing::hash});
  if (n.router.routing == R::Routing::token_choice) draw_token_choice(draw, spec);
  if (n.router.routing == R::Routing::expert_choice) {
    n.router.factor = draw.pick({0.25, 1.0, 1.5, 2.0});
    if (n.router.factor > n.router.experts) n.router.factor = n.router.experts;
  }
  if (n.router.routing == R::Routing::hash) {
    const int hashes = draw.between(1, std::min(3, n.router.experts));
    n.router.hash.assign(static_cast<std::size_t>(hashes),
                         std::vector<int>(static_cast<std::size_t>(spec.vocabulary)));
    for (int v = 0; v < spec.vocabulary; ++v) {
      const int first = draw.below(n.router.experts);
      for (int h = 0; h < hashes; ++h) n.router.hash[h][v] = (first + h) % n.router.experts;
    }
  }
  return spec;
}

/// Rows, padding, masks and segments for it.
template <class Real>
Batch<Real> random_batch(Draw& draw, const LayerSpec& spec, Index tokens) {
  Batch<Real> batch(spec, tokens, draw.engine());
  if (draw.one_in(3) && tokens > 0) {
    batch.valid = std::make_unique<bool[]>(static_cast<std::size_t>(tokens));
    for (Index t = 0; t < tokens; ++t) batch.valid[static_cast<std::size_t>(t)] = !draw.one_in(4);
  }
  const bool scores_rows = spec.naive.router.routing != NaiveRouter::Routing::hash;
  if (draw.one_in(4) && scores_rows && tokens > 0) {
    const Index rows = draw.one_in(2) ? 1 : tokens;
    for (Index r = 0; r < rows; ++r) {
      const int open = draw.below(spec.outputs);  // at least one expert stays
      for (int e = 0; e < spec.outputs; ++e) {
        const bool masked = e != open && draw.one_in(3);
        batch.mask.push_back(masked ? -std::numeric_limits<Real>::infinity()
                                    : static_cast<Real>(draw.between(-2, 2)));
      }
    }
  }
  const bool coupled = spec.naive.capacity != NaiveLayer::Capacity::none ||
                       spec.naive.router.routing == NaiveRouter::Routing::expert_choice;
  if (coupled || draw.one_in(3)) {
    batch.offsets = {0};
    while (batch.offsets.back() < tokens) {
      batch.offsets.push_back(std::min(tokens, batch.offsets.back() + draw.between(0, 9)));
    }
    if (tokens == 0) batch.offsets.push_back(0);
  }
  return batch;
}

}  // namespace test
