//go:build unix

package collector

import (
	"io/fs"
	"syscall"
)

// identify is what the system knows fi's file by.
func identify(fi fs.FileInfo) fileID {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}
}
