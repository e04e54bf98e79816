//go:build !linux

package sqlite

import "testing"

func mountDisk(t *testing.T, _, _ string, _ bool) {
	t.Helper()
	t.Skip("mounts a small disk on Linux only")
}
