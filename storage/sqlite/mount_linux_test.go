package sqlite

import (
	"testing"

	"golang.org/x/sys/unix"
)

// mountDisk mounts a disk of the given size at dir until the test ends. It skips
// the test where that is not allowed.
func mountDisk(t *testing.T, dir, size string, readOnly bool) {
	t.Helper()
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}
