//go:build linux && cgo

package packet

import (
	"errors"

	"golang.org/x/sys/unix"
)

// capsetAll sets the capabilities of this thread and those that it starts: with cgo
// there is no way to reach the others.
func capsetAll(head *unix.CapUserHeader, data *unix.CapUserData) error {
	return errors.Join(unix.Capset(head, data), ErrPartly)
}
