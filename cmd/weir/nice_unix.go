//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// beNice lets everything else come before the process, for the processor, and when
// memory runs out. What the system does not let it do is left.
func beNice(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 15)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("900"), 0)
}
