package detectors

import "unsafe"

// arena hands out room for profiles from large pieces of memory, which the
// system may map with huge pages: a table of principals is read all over, and
// with pages of 4 KiB each visit of a cold one pays for the page table too. What
// it gave is never given back. One goroutine uses an arena.
type arena struct{ free []Profile }

// arenaProfiles is how many profiles a piece holds: several MiB of address
// space, of which only what is used becomes memory.
const arenaProfiles = 4096

type slab = [slabProfiles]Profile

func (a *arena) slab() *slab {
	if len(a.free) < slabProfiles {
		a.free = make([]Profile, arenaProfiles)
		adviseHuge(unsafe.Pointer(unsafe.SliceData(a.free)), unsafe.Sizeof(Profile{})*arenaProfiles)
	}
	s := (*slab)(a.free)
	a.free = a.free[slabProfiles:]
	return s
}
