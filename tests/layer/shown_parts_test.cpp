#include "moe/layer/shown_parts.hpp"

#include <string>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/storage/parameter.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using Names = std::vector<std::string>;

/// n parameters "w", four bytes "blocks", and a number "steps" as state, to which a step's end adds the rows
/// and whose visit for writers halves it afterwards.
struct Part {
  struct Gradients {
    moe::Buffer<double> w;
  };
  explicit Part(Index n) : w(n) {}
  Gradients make_gradients() const { return {moe::Buffer<double>(w.size())}; }
  template <class F>
  void visit_parameters(Gradients* g, F& f) {
    const auto view = [](moe::Buffer<double>& of) {
      return moe::ParameterView<double>{of.data(), 1, of.size(), 1, 1, 1};
    };
    f(moe::Parameter<double>{"w", view(w), g == nullptr ? moe::ParameterView<double>{} : view(g->w)});
  }
  template <class F>
  void visit_storage(Gradients* g, F& f) {
    visit_buffer(f, "w", w, g, &Gradients::w);
  }
  template <class F>
  void visit_packed(F& f) {
    f("blocks", blocks, Index{4});
  }
  template <class F>
  void visit_state(F& f) {
    f("steps", &steps, Index{1});
    steps /= 2;
  }
  template <class F>
  void visit_state(F& f) const {
    f("steps", &steps, Index{1});
  }

  void on_step_end(const moe::RouteStats& stats) { steps += static_cast<double>(stats.tokens); }

  moe::Buffer<double> w;
  std::byte blocks[4] = {};
  double steps = 8;
};

/// A layer of a part, and of another under "second3.".
class Two : public moe::impl::ShownParts<Two> {
  friend moe::impl::ShownParts<Two>;

 public:
  static constexpr bool kTrainable = true;
  struct Gradients {
    Part::Gradients first, second;
  };
  struct LayerGradients {
    int dy = 0, dx = 0;
    Part::Gradients *first = nullptr, *second = nullptr;
    LayerGradients() = default;
    LayerGradients(int dy_, int dx_, Gradients& all)
        : dy(dy_), dx(dx_), first(&all.first), second(&all.second) {}
  };
  Two(Index n, Index m) : first(n), second(m) {}
  Gradients make_gradients() const { return {first.make_gradients(), second.make_gradients()}; }

  Part first, second;

 private:
  template <class Visit>
  void each_part(const LayerGradients& g, Visit&& visit) {
    visit(first, g.first);
    visit(second, g.second, "second", Index{3});
  }
};

/// A layer of a layer.
class Outer : public moe::impl::ShownParts<Outer> {
  friend moe::impl::ShownParts<Outer>;

 public:
  static constexpr bool kTrainable = true;
  using Gradients = Two::Gradients;
  struct LayerGradients {
    Two::Gradients* all = nullptr;
    LayerGradients() = default;
    LayerGradients(int, int, Gradients& g) : all(&g) {}
  };
  Two inner{2, 3};
  using ShownParts::visit_parts;

 private:
  template <class Visit>
  void each_part(const LayerGradients& g, Visit&& visit) {
    visit(inner, g.all, "inner", Index{-1});
  }
};

/// The names that every visit shows, in order.
template <class L>
Names names_of(L& layer, Two::Gradients& gradients) {
  Names all;
  layer.visit_parameters([&](const auto& p) { all.emplace_back(p.name); });
  layer.visit_storage(gradients, [&](const char* name, auto*, double*, Index) { all.emplace_back(name); });
  layer.visit_packed([&](const char* name, auto*, Index) { all.emplace_back(name); });
  layer.visit_state([&](const char* name, auto*, Index) { all.emplace_back(name); });
  return all;
}

}  // namespace

TEST_CASE("all visits show all parts in one order, prefixes before their names", "[layer]") {
  Outer layer;
  auto gradients = layer.inner.make_gradients();
  const Names inner{"w", "second3.w", "w", "second3.w", "blocks", "second3.blocks", "steps", "second3.steps"};
  CHECK(names_of(layer.inner, gradients) == inner);
  const Two& reads = layer.inner;
  CHECK(names_of(reads, gradients) == inner);
  Names outer;
  for (const std::string& name : inner) outer.push_back("inner." + name);
  CHECK(names_of(layer, gradients) == outer);
}

TEST_CASE("a const layer's state is shown by visits that write nothing", "[layer]") {
  Outer layer;
  const Outer& reads = layer;
  Index shown = 0;
  reads.visit_state([&](const char*, const double* steps, Index) { shown += *steps == 8 ? 1 : 0; });
  CHECK(shown == 2);
  CHECK(layer.inner.first.steps == 8);
  layer.visit_state([](const char*, const double*, Index) {});
  CHECK(layer.inner.second.steps == 4);
}

TEST_CASE("every part is told of a step's end", "[layer]") {
  Outer layer;
  moe::RouteStats stats;
  stats.tokens = 3;
  layer.on_step_end(stats);
  CHECK((layer.inner.first.steps == 11 && layer.inner.second.steps == 11));
}

TEST_CASE("gradients go with their part, null where they are frozen, and are zeroed", "[layer]") {
  Outer layer;
  auto gradients = layer.inner.make_gradients();
  gradients.first.w.fill(1), gradients.second.w.fill(2);
  Two::LayerGradients frozen(0, 0, gradients);
  frozen.first = nullptr;
  std::vector<double> seen;
  layer.inner.visit_storage(frozen, [&](const char*, double* values, const double* g, Index n) {
    seen.push_back(g == nullptr ? -1 : g[n - 1]);
    values[0] = 7;
  });
  CHECK(seen == std::vector<double>{-1, 2});
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    CHECK(p.value(0, 0) == 7);
    seen.push_back(p.gradient(0, 1));
  });
  CHECK(seen == std::vector<double>{-1, 2, 1, 2});
  Index null = 0;
  layer.visit_storage(Outer::LayerGradients{},
                      [&](const char*, double*, const double* g, Index) { null += g == nullptr ? 1 : 0; });
  CHECK(null == 2);
  const Outer& reads = layer;
  reads.zero_gradients(gradients);
  CHECK(gradients.first.w[0] == 0);
  CHECK(gradients.second.w[2] == 0);
}

TEST_CASE("gradients of another layer are refused before a part is shown", "[layer]") {
  Outer layer;
  auto other = Two(2, 4).make_gradients();  // of the second part
  Index shown = 0;
  const auto count = [&](auto&&...) { ++shown; };
  const char* const text = "moe: gradients of w: expected 3 entries (ask make_gradients()), got 4";
  CHECK(test::message_of<moe::shape_error>([&] { layer.inner.visit_storage(other, count); }) == text);
  CHECK(test::message_of<moe::shape_error>([&] { layer.visit_storage(other, count); }) == text);
  CHECK_THROWS_AS(layer.visit_parameters(other, count), moe::shape_error);
  CHECK_THROWS_AS(layer.inner.zero_gradients(other), moe::shape_error);
  CHECK_THROWS_AS(layer.visit_parts(Outer::LayerGradients(0, 0, other), count), moe::shape_error);
  CHECK(shown == 0);
}
