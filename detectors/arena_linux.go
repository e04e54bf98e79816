package detectors

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// adviseHuge asks for huge pages from p on, which begins one. A refusal costs
// speed alone.
func adviseHuge(p unsafe.Pointer, n uintptr) {
	_ = unix.Madvise(unsafe.Slice((*byte)(p), n), unix.MADV_HUGEPAGE)
}
