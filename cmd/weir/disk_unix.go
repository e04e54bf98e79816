//go:build unix

package main

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxBytes is the configured bound of the store, a share taken of the disk it
// lies on; 0 when that cannot be told.
func (s *service) maxBytes() int64 {
	m := s.cfg.Store.MaxBytes
	if m.Percent == 0 {
		return m.Bytes
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(s.cfg.Store.Path), &st); err != nil {
		return 0
	}
	return int64(st.Blocks) * st.Bsize / 100 * int64(m.Percent)
}

// diskFree is what is free on the disk that the store lies on, -1 when that cannot
// be told.
func (s *service) diskFree() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(s.cfg.Store.Path), &st); err != nil {
		return -1
	}
	return int64(st.Bavail) * st.Bsize
}
