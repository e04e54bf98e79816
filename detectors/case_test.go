package detectors

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"weir/pipeline"
)

// TestCaseKeepsNothingOfTheBlock: the memory of a block is used again once its
// requests are detected; a case opened from it still names its principal.
func TestCaseKeepsNothingOfTheBlock(t *testing.T) {
	s := newSet(t, Config{}, pipeline.ShippedEdition())
	key := "k_partner_0123456789"
	owner := pipeline.HashPrincipal(pipeline.PrincipalKey, key)
	block := &pipeline.Block{Source: "keys"}
	var found []pipeline.Finding
	for i := range 2000 {
		text := []byte(key)
		at := caseStart.Add(time.Duration(i) * time.Second)
		r := &pipeline.Request{
			Time: at, Effective: at, Method: "GET", Path: fmt.Sprintf("/item/%d", i), Status: 200, Bytes: 500, Kind: pipeline.PrincipalKey,
			Owner: owner, Key: unsafe.String(&text[0], len(text)),
		}
		r.Seal()
		found = s.Process(found, []pipeline.Ordered{{Request: r, Block: block}})
		copy(text, strings.Repeat("x", len(text)))
	}
	found = s.Advance(found, caseStart.Add(time.Hour))
	if len(found) < 2 {
		t.Fatalf("%d findings", len(found))
	}
	if i := slices.IndexFunc(found, func(f pipeline.Finding) bool { return f.Who.Value != key }); i >= 0 {
		t.Errorf("finding %d is about %q, want %q", i, found[i].Who.Value, key)
	}
}
