// Code in a child process.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace test {

/// Whether `child` returns true in a process of its own, which ends without cleaning up. One that hangs is
/// ended after 20 s.
template <class F>
bool in_child(const F& child) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(20);
    ::_exit(child() ? 0 : 1);
  }
  int status = -1;
  return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace test
