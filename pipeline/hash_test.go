package pipeline

import "testing"

// TestAddressOwnersDiffer: neighbours must not share evidence.
func TestAddressOwnersDiffer(t *testing.T) {
	seen := make(map[uint64]uint32, 1<<20)
	shards := [Shards]int{}
	for i := range uint32(1 << 20) {
		v := 192<<24 + 16<<16 + i
		a := Address{10: 0xff, 11: 0xff, 12: byte(v >> 24), 13: byte(v >> 16), 14: byte(v >> 8), 15: byte(v)}
		h := a.Owner()
		if old, ok := seen[h]; ok {
			t.Fatalf("addresses %08x and %08x share owner %x", old, v, h)
		}
		seen[h] = v
		shards[Shard(h)]++
	}
	for n, c := range shards {
		if c < 150 || c > 370 {
			t.Errorf("shard %d has %d of 2^20 addresses, want about 256", n, c)
		}
	}
	if Mix64(1, 2) == Mix64(2, 1) {
		t.Error("the order of the arguments does not matter")
	}
}
