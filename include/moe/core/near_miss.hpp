// Misspelled hooks. What a part of a router or layer may have but need not (a hook: `selection_bias`,
// `visit_state`) is asked for by name, so a part that calls it `selection_biass` would compile and never be
// called. Here a member that is one edit away from a hook, of a part that lacks the hook, becomes a sentence
// of the compiler's.
//
// How a name is found: in `struct Beside : Part, Names` the expression `Beside::x` is ambiguous, hence
// ill-formed, if and only if Part has a member x as well, whatever x is: function, overloads, template, data,
// type, public or not. Names holds every word that is one edit from the hook; the macros below spell them.
#pragma once

#include <type_traits>

#include "moe/config.hpp"

// One edit at the letter L between P and S: every other letter before it or in its place (inserting L itself
// is the same word as inserting it behind), L left out, L after its neighbour N. Where N is L (TWO) the last
// two are no new words; at the END a `_` is not added, because `check_` is how private data is called.
// clang-format off
#define MOE_NEAR_8(P, S, A, B, C, D, E, F, G, H)                                                             \
  MOE_NEAR(P##A##S) MOE_NEAR(P##B##S) MOE_NEAR(P##C##S) MOE_NEAR(P##D##S)                                    \
  MOE_NEAR(P##E##S) MOE_NEAR(P##F##S) MOE_NEAR(P##G##S) MOE_NEAR(P##H##S)
#define MOE_NEAR_A(P, S) MOE_NEAR_8(P, S, a, b, c, d, e, f, g, h) MOE_NEAR(P##i##S)
#define MOE_NEAR_J(P, S) MOE_NEAR_8(P, S, j, k, l, m, n, o, p, q) MOE_NEAR(P##r##S)
#define MOE_NEAR_S(P, S) MOE_NEAR_8(P, S, s, t, u, v, w, x, y, z) MOE_NEAR(P##_##S)
#define MOE_NEAR_NOT_a(P, S) MOE_NEAR_8(P, S, b, c, d, e, f, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_b(P, S) MOE_NEAR_8(P, S, a, c, d, e, f, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_c(P, S) MOE_NEAR_8(P, S, a, b, d, e, f, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_d(P, S) MOE_NEAR_8(P, S, a, b, c, e, f, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_e(P, S) MOE_NEAR_8(P, S, a, b, c, d, f, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_f(P, S) MOE_NEAR_8(P, S, a, b, c, d, e, g, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_g(P, S) MOE_NEAR_8(P, S, a, b, c, d, e, f, h, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_h(P, S) MOE_NEAR_8(P, S, a, b, c, d, e, f, g, i) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_i(P, S) MOE_NEAR_8(P, S, a, b, c, d, e, f, g, h) MOE_NEAR_J(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_k(P, S) MOE_NEAR_8(P, S, j, l, m, n, o, p, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_l(P, S) MOE_NEAR_8(P, S, j, k, m, n, o, p, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_m(P, S) MOE_NEAR_8(P, S, j, k, l, n, o, p, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_n(P, S) MOE_NEAR_8(P, S, j, k, l, m, o, p, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_o(P, S) MOE_NEAR_8(P, S, j, k, l, m, n, p, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_p(P, S) MOE_NEAR_8(P, S, j, k, l, m, n, o, q, r) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_r(P, S) MOE_NEAR_8(P, S, j, k, l, m, n, o, p, q) MOE_NEAR_A(P, S) MOE_NEAR_S(P, S)
#define MOE_NEAR_NOT_s(P, S) MOE_NEAR_8(P, S, t, u, v, w, x, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_t(P, S) MOE_NEAR_8(P, S, s, u, v, w, x, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_u(P, S) MOE_NEAR_8(P, S, s, t, v, w, x, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_v(P, S) MOE_NEAR_8(P, S, s, t, u, w, x, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_w(P, S) MOE_NEAR_8(P, S, s, t, u, v, x, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_x(P, S) MOE_NEAR_8(P, S, s, t, u, v, w, y, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT_y(P, S) MOE_NEAR_8(P, S, s, t, u, v, w, x, z, _) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_NEAR_NOT__(P, S) MOE_NEAR_8(P, S, s, t, u, v, w, x, y, z) MOE_NEAR_A(P, S) MOE_NEAR_J(P, S)
#define MOE_AT(P, L, N, S) MOE_TWO(P, L, N, S) MOE_NEAR(P##N##S) MOE_NEAR(P##N##L##S)
#define MOE_TWO(P, L, N, S) MOE_NEAR_NOT_##L(P, L##N##S) MOE_NEAR_NOT_##L(P, N##S)
#define MOE_END(P, L) MOE_NEAR_NOT_##L(P, L) MOE_NEAR_NOT_##L(P, ) MOE_NEAR(P) MOE_NEAR_NOT__(P##L, )

#define MOE_EVERY_HOOK                                                                                       \
  MOE_HOOK(forward, MOE_AT(, f, o, rward) MOE_AT(f, o, r, ward) MOE_AT(fo, r, w, ard)                        \
    MOE_AT(for, w, a, rd) MOE_AT(forw, a, r, d) MOE_AT(forwa, r, d, ) MOE_END(forwar, d))                    \
  MOE_HOOK(backward, MOE_AT(, b, a, ckward) MOE_AT(b, a, c, kward) MOE_AT(ba, c, k, ward)                    \
    MOE_AT(bac, k, w, ard) MOE_AT(back, w, a, rd) MOE_AT(backw, a, r, d) MOE_AT(backwa, r, d, )              \
    MOE_END(backwar, d))                                                                                     \
  MOE_HOOK(measure, MOE_AT(, m, e, asure) MOE_AT(m, e, a, sure) MOE_AT(me, a, s, ure)                        \
    MOE_AT(mea, s, u, re) MOE_AT(meas, u, r, e) MOE_AT(measu, r, e, ) MOE_END(measur, e))                    \
  MOE_HOOK(check, MOE_AT(, c, h, eck) MOE_AT(c, h, e, ck) MOE_AT(ch, e, c, k) MOE_AT(che, c, k, )            \
    MOE_END(chec, k))                                                                                        \
  MOE_HOOK(check_call, MOE_AT(, c, h, eck_call) MOE_AT(c, h, e, ck_call) MOE_AT(ch, e, c, k_call)            \
    MOE_AT(che, c, k, _call) MOE_AT(chec, k, _, call) MOE_AT(check, _, c, all) MOE_AT(check_, c, a, ll)      \
    MOE_AT(check_c, a, l, l) MOE_TWO(check_ca, l, l, ) MOE_END(check_cal, l))                                \
  MOE_HOOK(coefficient, MOE_AT(, c, o, efficient) MOE_AT(c, o, e, fficient) MOE_AT(co, e, f, ficient)        \
    MOE_TWO(coe, f, f, icient) MOE_AT(coef, f, i, cient) MOE_AT(coeff, i, c, ient)                           \
    MOE_AT(coeffi, c, i, ent) MOE_AT(coeffic, i, e, nt) MOE_AT(coeffici, e, n, t)                            \
    MOE_AT(coefficie, n, t, ) MOE_END(coefficien, t))                                                        \
  MOE_HOOK(selection_bias, MOE_AT(, s, e, lection_bias) MOE_AT(s, e, l, ection_bias)                         \
    MOE_AT(se, l, e, ction_bias) MOE_AT(sel, e, c, tion_bias) MOE_AT(sele, c, t, ion_bias)                   \
    MOE_AT(selec, t, i, on_bias) MOE_AT(select, i, o, n_bias) MOE_AT(selecti, o, n, _bias)                   \
    MOE_AT(selectio, n, _, bias) MOE_AT(selection, _, b, ias) MOE_AT(selection_, b, i, as)                   \
    MOE_AT(selection_b, i, a, s) MOE_AT(selection_bi, a, s, ) MOE_END(selection_bia, s))                     \
  MOE_HOOK(on_step_end, MOE_AT(, o, n, _step_end) MOE_AT(o, n, _, step_end) MOE_AT(on, _, s, tep_end)        \
    MOE_AT(on_, s, t, ep_end) MOE_AT(on_s, t, e, p_end) MOE_AT(on_st, e, p, _end)                            \
    MOE_AT(on_ste, p, _, end) MOE_AT(on_step, _, e, nd) MOE_AT(on_step_, e, n, d)                            \
    MOE_AT(on_step_e, n, d, ) MOE_END(on_step_en, d))                                                        \
  MOE_HOOK(visit_state, MOE_AT(, v, i, sit_state) MOE_AT(v, i, s, it_state) MOE_AT(vi, s, i, t_state)        \
    MOE_AT(vis, i, t, _state) MOE_AT(visi, t, _, state) MOE_AT(visit, _, s, tate)                            \
    MOE_AT(visit_, s, t, ate) MOE_AT(visit_s, t, a, te) MOE_AT(visit_st, a, t, e)                            \
    MOE_AT(visit_sta, t, e, ) MOE_END(visit_stat, e))                                                        \
  MOE_HOOK(visit_parameters, MOE_AT(, v, i, sit_parameters) MOE_AT(v, i, s, it_parameters)                   \
    MOE_AT(vi, s, i, t_parameters) MOE_AT(vis, i, t, _parameters) MOE_AT(visi, t, _, parameters)             \
    MOE_AT(visit, _, p, arameters) MOE_AT(visit_, p, a, rameters) MOE_AT(visit_p, a, r, ameters)             \
    MOE_AT(visit_pa, r, a, meters) MOE_AT(visit_par, a, m, eters) MOE_AT(visit_para, m, e, ters)             \
    MOE_AT(visit_param, e, t, ers) MOE_AT(visit_parame, t, e, rs) MOE_AT(visit_paramet, e, r, s)             \
    MOE_AT(visit_paramete, r, s, ) MOE_END(visit_parameter, s))                                              \
  MOE_HOOK(visit_storage, MOE_AT(, v, i, sit_storage) MOE_AT(v, i, s, it_storage)                            \
    MOE_AT(vi, s, i, t_storage) MOE_AT(vis, i, t, _storage) MOE_AT(visi, t, _, storage)                      \
    MOE_AT(visit, _, s, torage) MOE_AT(visit_, s, t, orage) MOE_AT(visit_s, t, o, rage)                      \
    MOE_AT(visit_st, o, r, age) MOE_AT(visit_sto, r, a, ge) MOE_AT(visit_stor, a, g, e)                      \
    MOE_AT(visit_stora, g, e, ) MOE_END(visit_storag, e))                                                    \
  MOE_HOOK(visit_packed, MOE_AT(, v, i, sit_packed) MOE_AT(v, i, s, it_packed) MOE_AT(vi, s, i, t_packed)    \
    MOE_AT(vis, i, t, _packed) MOE_AT(visi, t, _, packed) MOE_AT(visit, _, p, acked)                         \
    MOE_AT(visit_, p, a, cked) MOE_AT(visit_p, a, c, ked) MOE_AT(visit_pa, c, k, ed)                         \
    MOE_AT(visit_pac, k, e, d) MOE_AT(visit_pack, e, d, ) MOE_END(visit_packe, d))                           \
  MOE_HOOK(make_gradients, MOE_AT(, m, a, ke_gradients) MOE_AT(m, a, k, e_gradients)                         \
    MOE_AT(ma, k, e, _gradients) MOE_AT(mak, e, _, gradients) MOE_AT(make, _, g, radients)                   \
    MOE_AT(make_, g, r, adients) MOE_AT(make_g, r, a, dients) MOE_AT(make_gr, a, d, ients)                   \
    MOE_AT(make_gra, d, i, ents) MOE_AT(make_grad, i, e, nts) MOE_AT(make_gradi, e, n, ts)                   \
    MOE_AT(make_gradie, n, t, s) MOE_AT(make_gradien, t, s, ) MOE_END(make_gradient, s))                     \
  MOE_HOOK(add_gradients, MOE_AT(, a, d, d_gradients) MOE_TWO(a, d, d, _gradients)                           \
    MOE_AT(ad, d, _, gradients) MOE_AT(add, _, g, radients) MOE_AT(add_, g, r, adients)                      \
    MOE_AT(add_g, r, a, dients) MOE_AT(add_gr, a, d, ients) MOE_AT(add_gra, d, i, ents)                      \
    MOE_AT(add_grad, i, e, nts) MOE_AT(add_gradi, e, n, ts) MOE_AT(add_gradie, n, t, s)                      \
    MOE_AT(add_gradien, t, s, ) MOE_END(add_gradient, s))                                                    \
  MOE_HOOK(coupling, MOE_AT(, c, o, upling) MOE_AT(c, o, u, pling) MOE_AT(co, u, p, ling)                    \
    MOE_AT(cou, p, l, ing) MOE_AT(coup, l, i, ng) MOE_AT(coupl, i, n, g) MOE_AT(coupli, n, g, )              \
    MOE_END(couplin, g))                                                                                     \
  MOE_HOOK(most, MOE_AT(, m, o, st) MOE_AT(m, o, s, t) MOE_AT(mo, s, t, ) MOE_END(mos, t))                   \
  MOE_HOOK(select, MOE_AT(, s, e, lect) MOE_AT(s, e, l, ect) MOE_AT(se, l, e, ct) MOE_AT(sel, e, c, t)       \
    MOE_AT(sele, c, t, ) MOE_END(selec, t))                                                                  \
  MOE_HOOK(probability, MOE_AT(, p, r, obability) MOE_AT(p, r, o, bability) MOE_AT(pr, o, b, ability)        \
    MOE_AT(pro, b, a, bility) MOE_AT(prob, a, b, ility) MOE_AT(proba, b, i, lity)                            \
    MOE_AT(probab, i, l, ity) MOE_AT(probabi, l, i, ty) MOE_AT(probabil, i, t, y)                            \
    MOE_AT(probabili, t, y, ) MOE_END(probabilit, y))                                                        \
  MOE_HOOK(probability_backward, MOE_AT(, p, r, obability_backward) MOE_AT(p, r, o, bability_backward)       \
    MOE_AT(pr, o, b, ability_backward) MOE_AT(pro, b, a, bility_backward)                                    \
    MOE_AT(prob, a, b, ility_backward) MOE_AT(proba, b, i, lity_backward)                                    \
    MOE_AT(probab, i, l, ity_backward) MOE_AT(probabi, l, i, ty_backward)                                    \
    MOE_AT(probabil, i, t, y_backward) MOE_AT(probabili, t, y, _backward)                                    \
    MOE_AT(probabilit, y, _, backward) MOE_AT(probability, _, b, ackward)                                    \
    MOE_AT(probability_, b, a, ckward) MOE_AT(probability_b, a, c, kward)                                    \
    MOE_AT(probability_ba, c, k, ward) MOE_AT(probability_bac, k, w, ard)                                    \
    MOE_AT(probability_back, w, a, rd) MOE_AT(probability_backw, a, r, d)                                    \
    MOE_AT(probability_backwa, r, d, ) MOE_END(probability_backwar, d))                                      \
  MOE_HOOK(log_probability, MOE_AT(, l, o, g_probability) MOE_AT(l, o, g, _probability)                      \
    MOE_AT(lo, g, _, probability) MOE_AT(log, _, p, robability) MOE_AT(log_, p, r, obability)                \
    MOE_AT(log_p, r, o, bability) MOE_AT(log_pr, o, b, ability) MOE_AT(log_pro, b, a, bility)                \
    MOE_AT(log_prob, a, b, ility) MOE_AT(log_proba, b, i, lity) MOE_AT(log_probab, i, l, ity)                \
    MOE_AT(log_probabi, l, i, ty) MOE_AT(log_probabil, i, t, y) MOE_AT(log_probabili, t, y, )                \
    MOE_END(log_probabilit, y))                                                                              \
  MOE_HOOK(log_probability_backward, MOE_AT(, l, o, g_probability_backward)                                  \
    MOE_AT(l, o, g, _probability_backward) MOE_AT(lo, g, _, probability_backward)                            \
    MOE_AT(log, _, p, robability_backward) MOE_AT(log_, p, r, obability_backward)                            \
    MOE_AT(log_p, r, o, bability_backward) MOE_AT(log_pr, o, b, ability_backward)                            \
    MOE_AT(log_pro, b, a, bility_backward) MOE_AT(log_prob, a, b, ility_backward)                            \
    MOE_AT(log_proba, b, i, lity_backward) MOE_AT(log_probab, i, l, ity_backward)                            \
    MOE_AT(log_probabi, l, i, ty_backward) MOE_AT(log_probabil, i, t, y_backward)                            \
    MOE_AT(log_probabili, t, y, _backward) MOE_AT(log_probabilit, y, _, backward)                            \
    MOE_AT(log_probability, _, b, ackward) MOE_AT(log_probability_, b, a, ckward)                            \
    MOE_AT(log_probability_b, a, c, kward) MOE_AT(log_probability_ba, c, k, ward)                            \
    MOE_AT(log_probability_bac, k, w, ard) MOE_AT(log_probability_back, w, a, rd)                            \
    MOE_AT(log_probability_backw, a, r, d) MOE_AT(log_probability_backwa, r, d, )                            \
    MOE_END(log_probability_backwar, d))                                                                     \
  MOE_HOOK(experts, MOE_AT(, e, x, perts) MOE_AT(e, x, p, erts) MOE_AT(ex, p, e, rts)                        \
    MOE_AT(exp, e, r, ts) MOE_AT(expe, r, t, s) MOE_AT(exper, t, s, ) MOE_END(expert, s))                    \
  MOE_HOOK(carry_width, MOE_AT(, c, a, rry_width) MOE_AT(c, a, r, ry_width) MOE_TWO(ca, r, r, y_width)       \
    MOE_AT(car, r, y, _width) MOE_AT(carr, y, _, width) MOE_AT(carry, _, w, idth)                            \
    MOE_AT(carry_, w, i, dth) MOE_AT(carry_w, i, d, th) MOE_AT(carry_wi, d, t, h)                            \
    MOE_AT(carry_wid, t, h, ) MOE_END(carry_widt, h))                                                        \
  MOE_HOOK(noisy, MOE_AT(, n, o, isy) MOE_AT(n, o, i, sy) MOE_AT(no, i, s, y) MOE_AT(noi, s, y, )            \
    MOE_END(nois, y))                                                                                        \
  MOE_HOOK(limit, MOE_AT(, l, i, mit) MOE_AT(l, i, m, it) MOE_AT(li, m, i, t) MOE_AT(lim, i, t, )            \
    MOE_END(limi, t))
// clang-format on

MOE_NAMESPACE_BEGIN

namespace impl {

/// By the name that the compiler gives it: "... [with Part = moe::...", clang without the "with".
template <class Part>
consteval bool is_of_this_library() {
  const char* name = __PRETTY_FUNCTION__;
  while (*name != '=') ++name;
  for (const char* library = "= moe::"; *library != '\0'; ++library, ++name) {
    if (*name != *library) return false;
  }
  return true;
}

/// The library's own parts, whose tests would show a misspelling: their users are spared the compile time.
template <class Part>
inline constexpr bool kOwnPart = is_of_this_library<Part>();

#define MOE_HOOK(NAME, ...) NAME,
enum class Hook { MOE_EVERY_HOOK };
#undef MOE_HOOK

template <Hook kHook>
struct NamesOf;
#define MOE_NEAR(NAME) NAME,
#define MOE_HOOK(NAME, ...)    \
  template <>                  \
  struct NamesOf<Hook::NAME> { \
    struct Exact {             \
      enum { NAME };           \
    };                         \
    struct Near {              \
      enum { __VA_ARGS__ };    \
    };                         \
  };
MOE_EVERY_HOOK
#undef MOE_HOOK
#undef MOE_NEAR

template <class Part, class Names>
struct Beside : Part, Names {};

template <Hook kHook>
struct Search;
#define MOE_NEAR(NAME) B::NAME;
#define MOE_HOOK(NAME, ...)                                                                            \
  template <>                                                                                          \
  struct Search<Hook::NAME> {                                                                          \
    template <class Part, class B = Beside<Part, NamesOf<Hook::NAME>::Exact>>                          \
    static constexpr bool kExact = !requires {                                                         \
      B::NAME;                                                                                         \
    };                                                                                                 \
    template <class Part, class B = Beside<Part, NamesOf<Hook::NAME>::Near>>                           \
    static constexpr bool kNear = !requires {                                                          \
      __VA_ARGS__                                                                                      \
    };                                                                                                 \
    template <class Part>                                                                              \
    static consteval bool refuse() {                                                                   \
      static_assert(!kNear<Part> || kExact<Part>,                                                      \
                    "moe: a member of this part is called almost like " #NAME ": did you mean that?"); \
      return true;                                                                                     \
    }                                                                                                  \
  };
MOE_EVERY_HOOK
#undef MOE_HOOK
#undef MOE_NEAR

/// Nothing can be derived from a final class or a union: their names stay unknown, and are taken to be right.
template <class Part>
inline constexpr bool kNamesAreKnown = std::is_class_v<Part> && !std::is_final_v<Part>;

/// Whether Part has a member of that name, of any kind.
template <class Part, Hook kHook>
consteval bool has_member() {
  if constexpr (kNamesAreKnown<Part>) return Search<kHook>::template kExact<Part>;
  return false;
}

/// Whether Part lacks one of the hooks and has a member that is called almost like it.
template <class Part, Hook... kHooks>
consteval bool near_miss() {
  if constexpr (kNamesAreKnown<Part> && !kOwnPart<Part>) {
    return ((Search<kHooks>::template kNear<Part> && !Search<kHooks>::template kExact<Part>) || ...);
  }
  return false;
}

/// True, or does not compile and says which hook was meant.
template <class Part, Hook... kHooks>
consteval bool refuse_near_misses() {
  if constexpr (kNamesAreKnown<Part> && !kOwnPart<Part>)
    return (Search<kHooks>::template refuse<Part>() && ...);
  return true;
}

/// The hooks that any part of a router may have.
template <class Part>
consteval bool refuse_near_part_hooks() {
  return refuse_near_misses<Part, Hook::check, Hook::check_call, Hook::coupling, Hook::on_step_end,
                            Hook::visit_state, Hook::visit_parameters, Hook::visit_storage,
                            Hook::make_gradients>();
}

/// For a static_assert whose text gives the hook's signature: false if Part has the name, but `callable`, the
/// requires-expression by which the hook is asked for, does not hold: it would never be called.
template <class Part, Hook kHook>
consteval bool absent_or(bool callable) {
  return kOwnPart<Part> || callable || !has_member<Part, kHook>();
}

}  // namespace impl

MOE_NAMESPACE_END

#undef MOE_EVERY_HOOK
#undef MOE_NEAR_8
#undef MOE_NEAR_A
#undef MOE_NEAR_J
#undef MOE_NEAR_S
#undef MOE_AT
#undef MOE_TWO
#undef MOE_END
#undef MOE_NEAR_NOT_a
#undef MOE_NEAR_NOT_b
#undef MOE_NEAR_NOT_c
#undef MOE_NEAR_NOT_d
#undef MOE_NEAR_NOT_e
#undef MOE_NEAR_NOT_f
#undef MOE_NEAR_NOT_g
#undef MOE_NEAR_NOT_h
#undef MOE_NEAR_NOT_i
#undef MOE_NEAR_NOT_k
#undef MOE_NEAR_NOT_l
#undef MOE_NEAR_NOT_m
#undef MOE_NEAR_NOT_n
#undef MOE_NEAR_NOT_o
#undef MOE_NEAR_NOT_p
#undef MOE_NEAR_NOT_r
#undef MOE_NEAR_NOT_s
#undef MOE_NEAR_NOT_t
#undef MOE_NEAR_NOT_u
#undef MOE_NEAR_NOT_v
#undef MOE_NEAR_NOT_w
#undef MOE_NEAR_NOT_x
#undef MOE_NEAR_NOT_y
#undef MOE_NEAR_NOT__
