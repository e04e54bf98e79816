package detectors

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// adviseHuge asks for huge pages where whole ones fit. A refusal costs speed
// alone.
func adviseHuge(p unsafe.Pointer, n uintptr) {
	const huge = 2 << 20
	skip := -uintptr(p) % huge
	if n < skip+huge {
		return
	}
	_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, skip)), (n-skip)&^(huge-1)), unix.MADV_HUGEPAGE)
}
