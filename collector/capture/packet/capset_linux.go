//go:build linux && !cgo

package packet

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capsetAll sets the capabilities of all threads: a Go program is on many.
func capsetAll(head *unix.CapUserHeader, data *unix.CapUserData) error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(head)), uintptr(unsafe.Pointer(data)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
