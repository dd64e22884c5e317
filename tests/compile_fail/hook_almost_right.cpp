// expect: moe: a member of this part is called almost like selection_bias: did you mean that\?
#include "moe/core/near_miss.hpp"

template <class Part>
struct Composition {
  static_assert(
      moe::impl::refuse_near_misses<Part, moe::impl::Hook::measure, moe::impl::Hook::selection_bias>());
};

struct Bias {
#if defined(MOE_MUST_COMPILE)
  const double* selection_bias() const {
    return nullptr;
  }
#else
  const double* selection_biass() const {
    return nullptr;
  }
#endif
};

Composition<Bias> composition;
