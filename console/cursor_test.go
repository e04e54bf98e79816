package console

import (
	"testing"
)

// FuzzCursors: of any text, a cursor is what was sealed and nothing else.
func FuzzCursors(f *testing.F) {
	s := seals{key: (&Pepper{key: [32]byte{1}}).sum("feed cursor", nil)}
	filter := filterHash(feedAlerts, nil)
	for _, p := range []position{{}, {1, 0}, {1 << 40, 7}} {
		f.Add(s.seal(filter, p))
	}
	f.Add("")
	f.Add("AQ==")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := s.open(filter, text)
		if err == nil && s.seal(filter, p) != text {
			t.Errorf("%q opens to %+v, which seals to %q", text, p, s.seal(filter, p))
		}
	})
}

// FuzzTokenText: of any text, a token is what NewToken can give.
func FuzzTokenText(f *testing.F) {
	text, _ := NewToken()
	f.Add(text)
	f.Add(text[:len(text)-1])
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := idOf(text)
		if ok && (len(id) != tokenID || len(text) != tokenLength || text[:len(tokenPrefix)+tokenID] != tokenPrefix+id) {
			t.Errorf("%q has the id %q", text, id)
		}
	})
}
