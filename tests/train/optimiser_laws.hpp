// What every optimiser must do, whatever its rule.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/core/check.hpp"
#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "train/plain_model.hpp"

namespace test {

/// Steps first + 1 .. last, each with gradients and a rate of its own.
template <class Optimiser, class Model, class X = moe::SerialExecutor>
void run_steps(Optimiser& optimiser, Model& model, int first, int last, X&& executor = X{}) {
  for (int step = first + 1; step <= last; ++step) {
    model.draw_gradients(static_cast<std::uint64_t>(step));
    optimiser.step(model, 0.1 / step, executor);
  }
}

/// Contract C3.
template <class Optimiser>
void check_threads(const Optimiser& fresh) {
  PlainModel serial = plain_model<typename Optimiser::Real>();
  Optimiser optimiser = fresh;
  run_steps(optimiser, serial, 0, 3);
  for (const Index threads : {2, 3, 5}) {
    moe::PoolExecutor pool(threads);
    PlainModel model = plain_model<typename Optimiser::Real>();
    Optimiser other = fresh;
    run_steps(other, model, 0, 3, pool);
    CHECK(same_values(model, serial));
  }
}

template <class Optimiser>
void check_gradients_are_used_up(Optimiser optimiser) {
  PlainModel model = plain_model<typename Optimiser::Real>();
  run_steps(optimiser, model, 0, 1);
  for (const auto& range : model.ranges) {
    CHECK(range.gradients == std::vector<typename Optimiser::Real>(range.gradients.size(), 0));
  }
}

/// Saved after 3 steps, loaded beside a copy of the model, on for 3 steps: the bits of a run without a stop.
template <class Optimiser>
void check_resumption(const Optimiser& fresh) {
  PlainModel model = plain_model<typename Optimiser::Real>();
  model.ranges[1].frozen = true;
  Optimiser optimiser = fresh;
  run_steps(optimiser, model, 0, 3);
  moe::ArchiveWriter writer;
  auto saved = optimiser.state(model);
  writer.add_layer("optimiser", saved);
  PlainModel copy = model;
  run_steps(optimiser, model, 3, 6);

  const moe::Archive archive = moe::Archive::from_bytes(writer.bytes());
  Optimiser other = fresh;
  auto loaded = other.state(copy);
  archive.load_layer("optimiser", loaded);
  run_steps(other, copy, 3, 6);
  CHECK(same_values(copy, model));
}

/// A range that is frozen at first goes the way that it goes with an optimiser that begins later.
template <class Optimiser>
void check_freezing(const Optimiser& fresh) {
  PlainModel model = plain_model<typename Optimiser::Real>(), other = model;
  Optimiser optimiser = fresh, late = fresh;
  for (auto& range : model.ranges) range.frozen = true;
  optimiser.step(model, 0.1);
  CHECK(same_values(model, other));
  model.ranges[1].frozen = model.ranges[2].frozen = false;
  run_steps(optimiser, model, 0, 3);
  CHECK(model.ranges[0].values == other.ranges[0].values);
  model.ranges[0].frozen = false;
  run_steps(optimiser, model, 3, 6);
  run_steps(late, other, 3, 6);
  CHECK(model.ranges[0].values == other.ranges[0].values);
  CHECK(model.ranges[1].values != other.ranges[1].values);
}

/// Bad calls, each refused before anything is written.
template <class Optimiser>
void check_refusals(const Optimiser& fresh) {
  using Real = typename Optimiser::Real;
  using Model = PlainModel<Real>;
  Model model = plain_model<Real>();
  Optimiser optimiser = fresh;
  run_steps(optimiser, model, 0, 2);
  model.draw_gradients(9);
  const Model before = model;
  for (const double rate :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK_THAT(message_of<moe::config_error>([&] { optimiser.step(model, rate); }),
               Catch::Contains("learning rate: expected a finite value >= 0, got "));
  }
  CHECK(same_values(model, before));

  const auto refused = [&](const std::string& text, Model other) {
    other.draw_gradients(9);
    const Model unchanged = other;
    CHECK_THAT(message_of<moe::state_error>([&] { optimiser.step(other, 0.1); }), Catch::Contains(text));
    CHECK(same_values(other, unchanged));
  };
  refused("got another one at 1, b.weight of 18 numbers; every model needs an optimiser of its own",
          Model({{"a.weight", 301, 100}, {"b.weight", 3, 6}, {"b.bias", 7, 1}}));
  refused("got another one at 2, c.bias of 7 numbers",
          Model({{"a.weight", 301, 100}, {"b.weight", 3, 5}, {"c.bias", 7, 1}}));
  refused("got another one at 3, more of 1 numbers",
          Model({{"a.weight", 301, 100}, {"b.weight", 3, 5}, {"b.bias", 7, 1}, {"more", 1, 1}}));
  refused("expected the 3 ranges of the steps before, got 1", Model({{"a.weight", 301, 100}}));
  optimiser.step(model, 0.1);
  CHECK_FALSE(same_values(model, before));

  struct Twice {
    using Real = typename Optimiser::Real;
    Model inner = plain_model<Real>();
    void visit_storage(const std::function<void(const char*, Real*, Real*, Index)>& f) {
      inner.visit_storage(f);
      inner.visit_storage(f);
    }
    void visit_parameters(const std::function<void(const moe::Parameter<Real>&)>& f) {
      inner.visit_parameters(f);
    }
  } twice;
  Optimiser other = fresh;
  CHECK_THAT(message_of<moe::config_error>([&] { other.step(twice, 0.1); }),
             Catch::Contains("expected every range once, got a.weight again; freeze what layers share"));
  CHECK(same_values(twice.inner, plain_model<Real>()));
}

/// Archives of another model's state, and of steps that are none.
template <class Optimiser>
void check_bad_archives(const Optimiser& fresh) {
  using Model = PlainModel<typename Optimiser::Real>;
  Model model = plain_model<typename Optimiser::Real>(), other({{"a.weight", 301, 100}, {"b.weight", 3, 5}});
  Optimiser optimiser = fresh;
  run_steps(optimiser, model, 0, 2);
  moe::ArchiveWriter writer;
  auto saved = optimiser.state(model);
  writer.add_layer("optimiser", saved);
  Optimiser of_other = fresh;
  auto loaded = of_other.state(other);
  const moe::Archive archive = moe::Archive::from_bytes(writer.bytes());
  CHECK_THROWS_AS(archive.load_layer("optimiser", loaded), moe::format_error);

  const auto half = [](const char*, double* steps, Index) { steps[0] = 0.5; };
  CHECK_THAT(message_of<moe::numeric_error>([&] { saved.visit_state(half); }),
             Catch::Contains("optimiser steps: expected a count, got 0.5"));
  saved.visit_state([](const char* name, const double* steps, Index n) {
    CHECK(std::string(name) == "steps");
    CHECK((n == 3 && steps[0] == 2));
  });
}

template <class Optimiser>
void check_optimiser(const Optimiser& fresh) {
  check_gradients_are_used_up(fresh);
  check_threads(fresh);
  check_resumption(fresh);
  check_freezing(fresh);
  check_refusals(fresh);
  check_bad_archives(fresh);
}

}  // namespace test
