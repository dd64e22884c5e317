// kernel/update.hpp on batches.
#pragma once

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class Rule, class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void update_row(const Rule& rule, T* w, T* g, T* const* moments,
                                                        Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  const auto step = [&](Index j, const auto& load, const auto& store) noexcept {
    B moment[Rule::kMoments + 1];
    for (Index i = 0; i < Rule::kMoments; ++i) moment[i] = load(moments[i] + j);
    store(rule(load(w + j), load(g + j), moment), w + j);
    store(B(0), g + j);
    for (Index i = 0; i < Rule::kMoments; ++i) store(moment[i], moments[i] + j);
  };
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    step(
        j, [](const T* p) noexcept { return B::load_unaligned(p); },
        [](const B& x, T* p) noexcept { x.store_unaligned(p); });
  }
  if (const Index rest = n - j; rest > 0) {
    step(
        j, [rest](const T* p) noexcept { return load_partial<B>(p, rest); },
        [rest](const B& x, T* p) noexcept { store_partial(x, p, rest); });
  }
}

}  // namespace impl
MOE_NAMESPACE_END
