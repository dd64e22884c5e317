// Names of a bank's parameters where several banks share a range of ids.
#pragma once

#include <string_view>

#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// "experts.gate_up", or "gate_up", as "experts.<first>-<last>.gate_up".
inline ParameterName ranged_name(Index first, Index last, const char* name) noexcept {
  constexpr std::string_view kPrefix = "experts.";
  if (std::string_view(name).starts_with(kPrefix)) name += kPrefix.size();
  return ParameterName(kPrefix.data(), first, "-", last, ".", name);
}

/// The parameters of a bank whose ids begin at first_id: with the ids of their experts if the bank takes
/// first_id, else with the bank's.
template <class Bank, class Visitor>
void visit_parameters_from(Bank& bank, GradientsOf<Bank>* gradients, Visitor& f, Index first_id) {
  if constexpr (requires { bank.visit_parameters(gradients, f, first_id); }) {
    bank.visit_parameters(gradients, f, first_id);
  } else {
    auto show = [&](auto parameter) {
      const ParameterName name = ranged_name(first_id, first_id + Index{bank.experts()} - 1, parameter.name);
      parameter.name = name.c_str();
      f(parameter);
    };
    visit_parameters_of(bank, gradients, show);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
