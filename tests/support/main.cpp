// The main program of every test executable. A run whose filter matches no test case is a failure.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "support/catch.hpp"

int main(int argc, char** argv) {
  Catch::Session session;
#if defined(CATCH_CONFIG_RUNNER)  // v3 fails such a run by itself
  session.configData().warnings =
      static_cast<Catch::WarnAbout::What>(session.configData().warnings | Catch::WarnAbout::NoTests);
#endif
  return session.run(argc, argv);
}
