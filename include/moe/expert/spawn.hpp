// Many experts of one that was trained alone. EvoMoE, Nie et al. 2112.14397 (its expert-diversify phase).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct SpawnOptions {
  Index from = 0;          // the expert of `one` that is copied
  double masked = 0.5;     // probability that a weight of a copy is 0; biases are copied whole
  std::uint64_t seed = 0;  // of what is masked, for every expert and weight by itself
};

namespace impl {

template <class Real>
struct ExpertPiece {
  std::string name;  // behind "experts.<e>."
  ParameterView<Real> value;
};

/// The parameters of a bank, expert by expert as it shows them: as many of every expert.
template <class Bank>
auto expert_pieces(Bank& bank) {
  std::vector<ExpertPiece<typename Bank::Real>> pieces;
  const auto show = [&](const Parameter<typename Bank::Real>& p) {
    const std::string_view name = p.name;
    const std::size_t number_end = name.find('.', std::string_view("experts.").size());
    pieces.push_back({std::string(name.substr(number_end + 1)), p.value});
  };
  bank.visit_parameters(nullptr, show);
  return pieces;
}

}  // namespace impl

/// Makes every expert of `many` a copy of one expert of `one` with weights masked at random, so that they
/// differ and all begin near it. Both are two-layer banks (Mlp, Glu) of one kind and shape, whose weights are
/// numbers: quantise() comes after. Throws config_error for an option outside its range, and for banks that
/// differ in anything but E; `many` is not written then.
template <class Bank>
void spawn_experts(const Bank& one, Bank& many, const SpawnOptions& options) {
  using Real = typename Bank::Real;
  require_range("expert to copy", options.from, 0, Index{one.experts()} - 1);
  if (!(options.masked >= 0 && options.masked < 1)) {
    fail<config_error>("masked share: expected a value in [0, 1), got ", options.masked);
  }
  const auto from = impl::expert_pieces(const_cast<Bank&>(one));  // only read
  const auto to = impl::expert_pieces(many);
  const auto each = static_cast<Index>(from.size()) / one.experts();
  const auto source = [&](Index i) -> const auto& {
    return from[static_cast<std::size_t>(options.from * each + i % each)];
  };
  const bool alike = each > 0 && static_cast<Index>(to.size()) == each * many.experts();
  for (Index i = 0; i < static_cast<Index>(to.size()); ++i) {
    const auto& piece = to[static_cast<std::size_t>(i)];
    if (!alike || piece.name != source(i).name || piece.value.rows != source(i).value.rows ||
        piece.value.cols != source(i).value.cols) {
      fail<config_error>("bank to fill: expected experts like those of the bank to copy from, got ",
                         piece.name.c_str(), " of another shape or name");
    }
  }
  const KeyedRandom random(options.seed, 0, DrawStream::initialise);
  for (Index i = 0; i < static_cast<Index>(to.size()); ++i) {
    const auto& piece = to[static_cast<std::size_t>(i)];
    const bool weights = piece.name.ends_with(".weight");
    for (Index o = 0; o < piece.value.rows; ++o) {
      for (Index j = 0; j < piece.value.cols; ++j) {
        const auto at = static_cast<std::uint64_t>(o * piece.value.cols + j);
        const bool masked = weights && random.uniform(at, static_cast<std::uint32_t>(i)) < options.masked;
        piece.value(o, j) = masked ? Real{0} : source(i).value(o, j);
      }
    }
  }
}

MOE_NAMESPACE_END
