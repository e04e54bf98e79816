package kafka

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	kafka "github.com/segmentio/kafka-go"
	"github.com/zeebo/xxh3"
)

// TestDealSticky: every deal is even, of all slices, and moves no more than it
// has to, whoever comes and goes.
func TestDealSticky(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n := 1 + rng.IntN(24)
		var ids []int
		for i := range n {
			ids = append(ids, i)
		}
		have := map[string][]int{}
		for range 6 {
			// Members come and go.
			for id := range have {
				if rng.IntN(3) == 0 {
					delete(have, id)
				}
			}
			for len(have) == 0 || rng.IntN(2) == 0 {
				have[fmt.Sprintf("m%d", rng.IntN(40))] = nil
			}
			var members []kafka.GroupMember
			owned := 0
			for id, list := range have {
				data, _ := json.Marshal(list)
				members = append(members, kafka.GroupMember{ID: id, UserData: data})
				owned += len(list)
			}
			got := dealSticky(members, ids)
			var all []int
			kept, could := 0, 0
			each, odd := n/len(have), n%len(have)
			var sizes []int
			for id := range have {
				all = append(all, got[id]...)
				if len(got[id]) < each || len(got[id]) > each+1 || len(got[id]) > each && odd == 0 {
					t.Fatalf("%d slices for %d members: %s has %v", n, len(have), id, got[id])
				}
				for _, s := range got[id] {
					if slices.Contains(have[id], s) {
						kept++
					}
				}
				sizes = append(sizes, len(have[id]))
			}
			slices.SortFunc(sizes, func(a, b int) int { return b - a })
			for i, size := range sizes {
				quota := each
				if i < odd {
					quota++
				}
				could += min(size, quota)
			}
			slices.Sort(all)
			if !slices.Equal(all, ids) || kept != could {
				t.Fatalf("%v of %d slices are dealt, %d stay where they are, %d could", all, n, kept, could)
			}
			again := dealSticky(members, ids)
			if fmt.Sprint(again) != fmt.Sprint(got) {
				t.Fatalf("another deal of the same: %v and %v", got, again)
			}
			have = got
		}
	}
	if out := dealSticky(nil, []int{1}); out != nil {
		t.Errorf("dealt to nobody: %v", out)
	}
	two := []kafka.GroupMember{{ID: "a", UserData: []byte("[0,1]")}, {ID: "b", UserData: []byte("[1,0,7]")}}
	if got := fmt.Sprint(dealSticky(two, []int{0, 1})); got != "map[a:[0] b:[1]]" {
		t.Errorf("both say that they have all: %s", got)
	}
}

// TestParts: a record in parts comes out whole, with others in between, written
// twice, or begun anew; and where reading goes on is before it until then.
func TestParts(t *testing.T) {
	offset := int64(100)
	tail := &Tail{parts: map[string]*partial{}}
	var got []string
	feed := func(r Record, part, parts int, value string) {
		m := r.message([]byte(value), part, parts)
		m.Offset = offset
		offset++
		tail.next = offset
		if r, ok := tail.join(&m); ok {
			got = append(got, fmt.Sprintf("%d %s %d %s", r.Offset, r.Key, r.Epoch, r.Value))
		}
	}
	a, b := Record{Key: []byte("a"), Epoch: 7}, Record{Key: []byte("b"), Epoch: NoEpoch}
	feed(a, 0, 1, "whole")
	feed(a, 0, 3, "x")
	if at := tail.Position(); at != 101 {
		t.Errorf("position %d in a record that begins at 101", at)
	}
	feed(b, 0, 2, "B")
	feed(a, 0, 3, "x") // a retry
	feed(a, 1, 3, "y")
	feed(a, 1, 3, "y") // another
	feed(b, 1, 2, "b")
	feed(a, 2, 3, "z")
	if at := tail.Position(); at != offset {
		t.Errorf("position %d, want %d", at, offset)
	}
	feed(a, 2, 3, "late") // of one that is complete
	feed(a, 0, 3, "old")
	feed(Record{Key: []byte("a"), Epoch: 9}, 0, 2, "n") // another owner
	feed(a, 1, 3, "zombie")
	feed(Record{Key: []byte("a"), Epoch: 9}, 1, 2, "ew")
	want := []string{"100 a 7 whole", "106 b -1 Bb", "107 a 7 xyz", "112 a 9 new"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	claim := Record{Key: []byte("a"), Epoch: NoEpoch, Claim: true}
	m := claim.message(nil, 0, 1)
	if r, _, _ := recordOf(&m); !r.Claim || r.Epoch != NoEpoch {
		t.Errorf("a claim is read as %+v", r)
	}
	for range 2 * tailParts {
		feed(Record{Key: fmt.Append(nil, offset)}, 0, 2, "")
	}
	if len(tail.parts) > tailParts {
		t.Errorf("%d incomplete records are kept", len(tail.parts))
	}
}

// TestOpenSaved: a checkpoint of which something is missing, cut or of another
// owner is not read.
func TestOpenSaved(t *testing.T) {
	s := &State{name: "detect/3", epoch: 40, refs: map[uint32]stateRef{}}
	pieces := map[string][]byte{}
	keep := func(list []Record) {
		for _, r := range list {
			pieces[string(r.Key)] = r.Value
		}
	}
	big := bytes.Repeat([]byte("state "), statePiece/3)
	var body []byte
	list, n := s.pieces(nil, 5, 1, big)
	keep(list)
	hash := xxh3.Hash128(big).Bytes()
	body = append(body, 1, 0, 0, 0, 5, 0, 0, 0, 1, byte(n), 0)
	body = append(append(body, hash[:]...), "head"...)
	list, n = s.pieces(nil, chunkList, 0, body)
	keep(list)
	hash = xxh3.Hash128(body).Bytes()
	root := stateRoot{Seq: 3, Slot: 0, Pieces: n, Hash: fmt.Sprintf("%x", hash[:])}
	saved, err := openSaved(s.name, 40, root, pieces)
	if err != nil || string(saved.head) != "head" {
		t.Fatalf("%v", err)
	}
	if got, err := saved.chunk(s.name, 5, saved.refs[5]); err != nil || !bytes.Equal(got, big) {
		t.Errorf("chunk of %d bytes, want %d: %v", len(got), len(big), err)
	}
	f := func(want string, epoch int64, change func(root *stateRoot, pieces map[string][]byte)) {
		t.Helper()
		r, p := root, map[string][]byte{}
		for k, v := range pieces {
			p[k] = bytes.Clone(v)
		}
		change(&r, p)
		if _, err := openSaved(s.name, epoch, r, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f("missing", 41, func(*stateRoot, map[string][]byte) {})
	f("piece 1 of chunk 5 is missing", 40, func(_ *stateRoot, p map[string][]byte) { delete(p, "detect/3/c/40/5/1/1") })
	f("chunk 5 is not what", 40, func(_ *stateRoot, p map[string][]byte) { p["detect/3/c/40/5/1/0"][9]++ })
	f("is not what the manifest names", 40, func(r *stateRoot, _ map[string][]byte) { r.Hash = strings.Repeat("0", 32) })
	f("no hash", 40, func(r *stateRoot, _ map[string][]byte) { r.Hash = "ab" })
}
