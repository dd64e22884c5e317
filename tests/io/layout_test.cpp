#include "moe/io/layout.hpp"

#include "support/catch.hpp"

using moe::io::Outputs;

TEST_CASE("layout: named layouts of published models", "[io]") {
  using moe::io::ExpertMatrix;
  const auto mixtral =
      moe::io::per_expert_glu("layers.{layer}.experts.{expert}.", "w1", "w3", "w2").for_layer(7);
  CHECK(mixtral.is_gated());
  CHECK(mixtral[ExpertMatrix::gate].name == "layers.7.experts.{expert}.w1.weight");
  CHECK(mixtral[ExpertMatrix::up].name == "layers.7.experts.{expert}.w3.weight");
  CHECK(mixtral[ExpertMatrix::down].name == "layers.7.experts.{expert}.w2.weight");
  const auto nemotron = moe::io::per_expert_mlp("x.{expert}.", "up_proj", "down_proj");
  CHECK_FALSE(nemotron.is_gated());
  CHECK(nemotron[ExpertMatrix::fc2].name == "x.{expert}.down_proj.weight");
  const auto llama = moe::io::fused_glu("gu", "d", true);
  CHECK(llama[ExpertMatrix::gate].transposed);
  CHECK(llama[ExpertMatrix::up].outputs == Outputs::second_half);
  CHECK(llama[ExpertMatrix::down].transposed);
  CHECK(llama[ExpertMatrix::down].outputs == Outputs::all);
  const auto dbrx = moe::io::stacked_glu("w1", "v1", "w2");
  CHECK((dbrx[ExpertMatrix::up].stacked && !dbrx[ExpertMatrix::up].transposed));
  CHECK((dbrx[ExpertMatrix::down].stacked && dbrx[ExpertMatrix::down].transposed));
  const auto nomic = moe::io::stacked_mlp("w1", "w2");
  CHECK((nomic[ExpertMatrix::fc1].stacked && !nomic[ExpertMatrix::fc1].transposed));
  CHECK((nomic[ExpertMatrix::fc2].stacked && nomic[ExpertMatrix::fc2].transposed));
}

TEST_CASE("layout: which stored outputs a matrix is made of", "[io]") {
  struct Case {
    Outputs outputs;
    moe::Index stored, first, last;
  };
  for (const Case& c :
       {Case{Outputs::all, 5, 0, 4}, Case{Outputs::first_half, 10, 0, 4},
        Case{Outputs::second_half, 10, 5, 9}, Case{Outputs::even, 10, 0, 8}, Case{Outputs::odd, 10, 1, 9}}) {
    const moe::io::impl::OutputChoice choice(c.outputs, 5);
    CHECK(choice.stored == c.stored);
    CHECK(choice(0) == c.first);
    CHECK(choice(4) == c.last);
  }
}
