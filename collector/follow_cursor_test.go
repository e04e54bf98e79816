package collector

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestCursor(t *testing.T) {
	c := cursor{id: fileID{1 << 63, 77}, print: 1<<64 - 1, printBytes: 1024, offset: 1 << 40, lines: 9, base: 1 << 50, generation: 3, history: 5}
	enc := c.append(nil)
	var back cursor
	if err := back.decode(enc); err != nil || back != c {
		t.Errorf("%+v came back as %+v, %v", c, back, err)
	}
	f := func(b []byte) {
		t.Helper()
		if _, err := NewFollower(FollowConfig{Path: "x", Format: plainFormat(), Cursor: b}); err == nil || !strings.Contains(err.Error(), "not a cursor of this version") {
			t.Errorf("cursor %x: %v", b, err)
		}
	}
	for n := 1; n < len(enc); n++ {
		f(enc[:n])
	}
	f(append(slices.Clone(enc), 0))
	f(append([]byte{2}, enc[1:]...))
	bad := c
	bad.printBytes = 2000
	f(bad.append(nil))
	bad = c
	bad.offset = -1
	f(bad.append(nil))
	if _, err := NewFollower(FollowConfig{Path: "x"}); err == nil {
		t.Error("no format is no error")
	}
}

func FuzzCursor(f *testing.F) {
	c := cursor{id: fileID{1, 2}, printBytes: 3, offset: 4}
	f.Add(c.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again cursor
		if c.decode(b) != nil {
			return
		}
		if err := again.decode(c.append(nil)); err != nil || again != c {
			t.Fatalf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

func TestParseRotation(t *testing.T) {
	f := func(base, name string, ok bool, want rotation) {
		t.Helper()
		if got, gotOK := parseRotation(base, name); gotOK != ok || ok && got != want {
			t.Errorf("%s beside %s: %+v %v, want %+v %v", name, base, got, gotOK, want, ok)
		}
	}
	f("access.log", "access.log", false, rotation{})
	f("access.log", "access.log.1", true, rotation{scheme: rotationNumber, number: 1})
	f("access.log", "access.log.10.gz", true, rotation{scheme: rotationNumber, number: 10, packed: true})
	f("access.log", "access.1.log.zst", true, rotation{scheme: rotationNumber, number: 1, packed: true})
	f("access.log", "access.log-20250131", true, rotation{scheme: rotationDate, date: "20250131"})
	f("access.log", "access-2025-01-31_10:00.log.gz", true, rotation{scheme: rotationDate, date: "2025-01-31_10:00", packed: true})
	f("access.log", "access.log.old", true, rotation{})
	f("access.log", "access.log.gz", true, rotation{packed: true})
	f("access.log", "access.log2", false, rotation{})
	f("access.log", "accessory.log", false, rotation{})
	f("access.log", "error.log.1", false, rotation{})
	f("access.log", "access.log.99999999999999999999", true, rotation{scheme: rotationDate, date: "99999999999999999999"})
	f("access", "access.1", true, rotation{scheme: rotationNumber, number: 1})
	f(".log", ".log.1", true, rotation{scheme: rotationNumber, number: 1})
}

func FuzzParseRotation(f *testing.F) {
	f.Add("access.log", "access.log.1.gz")
	f.Add("access.log", "access-20250131.log")
	f.Add("", ".")
	f.Fuzz(func(t *testing.T, base, name string) {
		if _, ok := parseRotation(base, name); ok && !fs.ValidPath(name) && name == base {
			t.Fatal("a file is no rotation of itself")
		}
	})
}
