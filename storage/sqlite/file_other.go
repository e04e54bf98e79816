//go:build !unix

package sqlite

import (
	"errors"
	"fmt"
	"os"

	"weir/storage"
)

// lockFile keeps a second weir from the store by a file that must not exist;
// after a crash it has to be removed by hand.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if os.IsExist(err) {
		return nil, fmt.Errorf("%s exists: remove it if no weir runs: %w", path, storage.ErrLocked)
	}
	return f, err
}

func unlockFile(f *os.File) error { return errors.Join(f.Close(), os.Remove(f.Name())) }

func writable(string) error { return nil }

func diskFree(string) (int64, bool) { return 0, false }
