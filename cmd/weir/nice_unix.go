//go:build unix

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// niceThread lets everything else come before what the calling goroutine does, until it
// ends, where a thread can be nice by itself.
func niceThread() {
	if runtime.GOOS == "linux" {
		runtime.LockOSThread() // it ends with the goroutine
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 15)
	}
}

// beNice lets everything else come before the process, for the processor, and when
// memory runs out. What the system does not let it do is left.
func beNice(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 15)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("900"), 0)
}
