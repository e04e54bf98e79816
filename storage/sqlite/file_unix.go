//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"weir/storage"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock that keeps a second weir from the store. The kernel
// lets go of it when the process ends, however it ends. The database file is
// not used for it: closing any descriptor of that drops SQLite's locks.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: weir needs to write in this directory", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("process %s has it: stop that one or choose another store: %w",
				strings.TrimSpace(string(pid)), storage.ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// For the message above only: an error here does no harm.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

func unlockFile(f *os.File) error { return f.Close() }

// writable says in the system's words why path cannot be written.
func writable(path string) error {
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// diskFree is the room that is left for this user where path is.
func diskFree(path string) (int64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
