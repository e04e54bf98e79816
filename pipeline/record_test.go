package pipeline

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

// TestTimeRoundTrip: a Time survives time.Time and its text, in every year that
// RFC 3339 can write.
func TestTimeRoundTrip(t *testing.T) {
	first, last := TimeOf(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), TimeOf(time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC))
	times := []Time{first, last, year0001, -1, 0, 1, -1_000_001, mergeStart}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		times = append(times, first+Time(r.Int64N(int64(last-first))))
	}
	for _, at := range times {
		if got := TimeOf(at.Std()); got != at {
			t.Errorf("%d came back from time.Time as %d", at, got)
		}
		text, err := at.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Time
		if err := got.UnmarshalText(text); err != nil || got != at {
			t.Errorf("%d came back from %s as %d (%v)", at, text, got, err)
		}
	}
	var got Time
	for _, bad := range []string{"", "now", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00"} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("read %q as %d", bad, got)
		}
	}
}

// TestPrincipalRoundTrip: a principal survives JSON with its hash.
func TestPrincipalRoundTrip(t *testing.T) {
	list := []Principal{
		{PrincipalNone, ""},
		{PrincipalIP, "203.0.113.7"},
		{PrincipalIP, "2001:db8:1:2::/64"},
		{PrincipalSession, "s1"},
		{PrincipalKey, "acme_x"},
		{PrincipalAccount, "a\x00b"},
		{PrincipalSubject, "Ünï"},
		{PrincipalCohort, "c"},
		{PrincipalEndpoint, "POST /login"},
	}
	seen := map[uint64]Principal{}
	for _, p := range list {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var got Principal
		if err := json.Unmarshal(data, &got); err != nil || got != p || got.Hash() != p.Hash() {
			t.Errorf("%v came back from %s as %v (%v)", p, data, got, err)
		}
		if other, ok := seen[p.Hash()]; ok {
			t.Errorf("%v and %v share a hash", p, other)
		}
		seen[p.Hash()] = p
	}
	var got Principal
	if err := json.Unmarshal([]byte(`{"kind":"martian","value":"x"}`), &got); err != nil || got.Kind != PrincipalNone {
		t.Errorf("an unknown kind became %v (%v)", got.Kind, err)
	}
}

// TestAddressRoundTrip: the text of the principal that an address is names the
// same owner, whichever address of its network it is.
func TestAddressRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for i := range 1000 {
		a := Address{10: 0xff, 11: 0xff}
		from := 12
		if i%2 == 0 {
			a, from = Address{0: 0x20, 1: 0x01}, 2
		}
		for j := from; j < len(a); j++ {
			a[j] = byte(r.IntN(256))
		}
		if got, ok := ParseAddress(a.String()); !ok || got != a {
			t.Fatalf("%s came back as %s", a, got)
		}
		value := a.PrincipalValue()
		if got, ok := ParseAddress(value); !ok || got.Owner() != a.Owner() || HashPrincipal(PrincipalIP, value) != a.Owner() {
			t.Fatalf("the principal %s of %s has another owner", value, a)
		}
	}
}
