package detectors

import "unsafe"

// arena hands out room for profiles from large pieces of memory, which the
// system may map with huge pages: a table of principals is read all over, and
// with pages of 4 KiB each visit of a cold one pays for the page table too. What
// it gave is never given back. One goroutine uses an arena.
type arena struct{ free []Profile }

const (
	hugePage = 2 << 20
	// arenaBytes is a piece: address space, of which only what is used becomes
	// memory.
	arenaBytes = 4 * hugePage
)

type slab = [slabProfiles]Profile

func (a *arena) slab() *slab {
	if len(a.free) < slabProfiles {
		a.free = profilesAt(make([]uint64, (arenaBytes+hugePage)/8))
	}
	s := (*slab)(a.free)
	a.free = a.free[slabProfiles:]
	return s
}

// profilesAt is the memory of piece as profiles, from its first huge page on.
// Neither holds pointers, and the profiles keep the piece alive.
func profilesAt(piece []uint64) []Profile {
	start := unsafe.Pointer(unsafe.SliceData(piece))
	start = unsafe.Add(start, -uintptr(start)%hugePage)
	adviseHuge(start, arenaBytes)
	return unsafe.Slice((*Profile)(start), arenaBytes/unsafe.Sizeof(Profile{}))
}
