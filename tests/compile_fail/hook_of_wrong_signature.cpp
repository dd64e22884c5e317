// expect: moe: on_step_end of this part does not take a double
#include "moe/core/near_miss.hpp"

template <class Part>
struct Composition {
  static_assert(moe::impl::absent_or<Part, moe::impl::Hook::on_step_end>(requires(Part & part, double load) {
                  part.on_step_end(load);
                }),
                "moe: on_step_end of this part does not take a double");
};

struct Counter {
#if defined(MOE_MUST_COMPILE)
  void on_step_end(double) {}
#else
  void on_step_end(const char*) {}
#endif
};

Composition<Counter> composition;
