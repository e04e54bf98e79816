package sqlite

import (
	"errors"
	"io"
	"os"
	"sync"
)

// reserve is a file of zeros. On a full disk SQLite needs room before it can
// free any (the write-ahead log grows first), so the reserve is outside of the
// database.
type reserve struct {
	path string
	size int64

	mu    sync.Mutex
	armed bool
}

// arm allocates the file; without room for all of it there is none.
func (r *reserve) arm() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size <= 0 || r.armed {
		return r.armed
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	err = allocate(f, r.size)
	if errors.Is(err, errors.ErrUnsupported) {
		_, err = io.CopyN(f, zeros{}, r.size)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(r.path)
		return false
	}
	r.armed = true
	return true
}

// release removes the file and reports whether that made room.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.armed {
		return false
	}
	r.armed = false
	return os.Remove(r.path) == nil
}

func (r *reserve) isArmed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.armed
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
