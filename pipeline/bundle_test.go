package pipeline

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// randomSignals makes a bundle that uses every field, odd values included.
func randomSignals(seed uint64, n int) *Bundle[Signal] {
	r := rand.New(rand.NewPCG(seed, 2))
	blocks := []*Block{randomBlock(seed, n+1), randomBlock(seed+1, n+1)}
	blocks[1].Source = "other.log"
	number := func() int64 {
		return []int64{0, 0, 1, -1, r.Int64N(1000), math.MinInt64, math.MaxInt64}[r.IntN(7)]
	}
	hash := func() uint64 { return []uint64{0, r.Uint64(), uint64(r.IntN(5)) << 52}[r.IntN(3)] }
	b := &Bundle[Signal]{}
	for i := range 1 + r.IntN(3) {
		b.Spans = append(b.Spans, Span{Producer{Stage(1 + i), uint16(r.IntN(1 << 16))}, Place{}, PlaceReached(MaxTime)})
	}
	for i := range int64(r.IntN(3)) {
		b.AddControl(PlaceReached(5).Control(0, 1<<40-i))
	}
	row := 0
	for range n {
		if r.IntN(2) == 0 {
			row++
		}
		from := blocks[row%2]
		o := Ordered{Request: &from.Requests[row], Block: from}
		p := PlaceOfRequest(Time(r.IntN(2)), uint64(row)).Signal(uint16(r.IntN(3)))
		for range r.IntN(MaxDepth + 1) {
			p = p.Sent(r.IntN(4))
		}
		b.Add(Signal{
			Meeting: Meeting(r.IntN(int(Meetings))), Key: hash(), Sender: hash(), Weight: r.Uint32(), Kind: uint8(r.Uint32()), Aside: r.IntN(2) == 0, Spare: uint16(r.Uint32()), Value: hash(), Score: Nats(number()),
			Request: o, Place: p,
			Facts: Observation{
				Time: Time(number()), Owner: hash(), Endpoint: hash(), Template: hash(), Path: hash(), Object: hash(), User: hash(), Agent: hash(), Number: number(),
				Bytes: number(), Item: hash(), Rarity: Nats(number()), Tail: Nats(number()), Page: int32(number()), Status: uint16(number()),
				Class: EndpointClass(r.IntN(int(EndpointClasses))), Flags: ObservationFlags(r.Uint32()),
			},
		}, r.IntN(len(b.Spans)))
	}
	return b
}

// sameSignals compares bundles; of the blocks only the source travels.
func sameSignals(t *testing.T, got, want *Bundle[Signal]) {
	t.Helper()
	source := cmp.Transformer("source", func(b *Block) string { return b.Source })
	sealed := cmp.Transformer("sealed", func(q *Request) Request { r := *q; r.AgentKey = 0; r.Seal(); return r })
	if diff := cmp.Diff(want, got, source, sealed, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("read back (-want +got):\n%s", diff)
	}
}

// TestSignalsRoundTrip: what is sent arrives, and is sent on as the same bytes.
func TestSignalsRoundTrip(t *testing.T) {
	c := NewCodec()
	for seed := range uint64(14) {
		b := randomSignals(seed, int(seed*seed))
		data, err := c.AppendSignals([]byte("before"), b)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.TrimPrefix(data, []byte("before"))
		var got Bundle[Signal]
		if err := c.DecodeSignals(data, &got); err != nil {
			t.Fatal(err)
		}
		sameSignals(t, &got, b)
		again, err := c.AppendSignals(nil, &got)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("seed %d: encoded again it is not the same (%v)", seed, err)
		}
	}
}

// TestFindingsRoundTrip: nothing of a finding is lost, its place included, nor the
// difference between none and empty.
func TestFindingsRoundTrip(t *testing.T) {
	c := NewCodec()
	since, one := Time(5), int64(1)
	f := Finding{
		ID: "00ff", Time: 1772409600123456, Detector: "probe.path", Who: Principal{PrincipalIP, "192.0.2.1"}, Onset: -1, First: 2, Last: 3, Score: PageAt,
		Signals:  []FindingSignal{{Name: "misses", Observed: 0.1, Expected: 1e-300, Nats: 5, Baseline: Baseline{Kind: "cohort", Since: &since}}},
		Outcome:  Outcome{Succeeded: &one, Basis: "status"},
		Accounts: []AffectedAccount{}, Exemplars: []Exemplar{{Time: 9, Bytes: &one, Path: "/<&>\u2028"}},
		Labels: map[string]string{"b": "1", "a": "2"}, Sampled: 1, People: [2]int{1, 3}, Shares: []EndpointShare{{Since: 1, Last: 2, Nats: 3}},
		Place: PlaceOfTick(60e6, 3, "00ff", 2), Slice: 7,
	}
	b := &Bundle[Finding]{Spans: []Span{{Producer{StageDetect, 3}, Place{}, PlaceReached(60e6)}}}
	b.AddControl(Place{}.Control(2, 5))
	b.Add(f, 0)
	b.Add(Finding{Place: PlaceReached(60e6), Time: 253402300800e6}, 0) // the year 10000
	data, err := c.AppendFindings(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	var got Bundle[Finding]
	if err := c.DecodeFindings(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, &got); diff != "" {
		t.Fatalf("read back (-want +got):\n%s", diff)
	}
	if again, err := c.AppendFindings(nil, &got); err != nil || !bytes.Equal(again, data) {
		t.Errorf("encoded again it is not the same (%v)", err)
	}
}

func FuzzDecodeSignals(f *testing.F) {
	c := NewCodec()
	for seed := range uint64(6) {
		data, err := c.AppendSignals(nil, randomSignals(seed, int(seed)*3))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again Bundle[Signal]
		if c.DecodeSignals(data, &b) != nil {
			return
		}
		out, err := c.AppendSignals(nil, &b)
		if err != nil {
			return
		}
		if err := c.DecodeSignals(out, &again); err != nil {
			t.Fatalf("what was decoded and encoded does not decode: %v", err)
		}
		sameSignals(t, &again, &b)
	})
}

// FuzzSignalColumns reaches the columns, which the compressor's checksum hides from
// FuzzDecodeSignals.
func FuzzSignalColumns(f *testing.F) {
	for seed := range uint64(6) {
		var cols signalColumns
		var before Place
		b := randomSignals(seed, 5)
		hashes := map[uint64]uint64{0: 0}
		for i := range b.Items {
			cols.uint(sigRow, 1)
			cols.uint(sigSource, 0)
			cols.uint(sigSpan, 0)
			cols.signal(&b.Items[i], &before, hashes)
		}
		f.Add(cols.joined())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		block := &Block{Requests: make([]Request, 5)}
		var d signalReader
		b := Bundle[Signal]{Spans: make([]Span, 1)}
		if d.split(data) != nil || d.signals(&b, block, []*Block{{Source: "a"}}) != nil {
			return
		}
		if len(b.Items) > len(data) {
			t.Fatalf("%d signals of %d bytes", len(b.Items), len(data))
		}
	})
}

// TestTimeText: a time of any year is read back as it was.
func TestTimeText(t *testing.T) {
	for _, want := range []Time{0, -1, 1772409600123456, 253402300800e6, -62135596800e6 - 1, -99999999999e6, mergeLimit, -mergeLimit, 1 << 62} {
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Time
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%d is %q, read back as %d (%v)", want, text, got, err)
		}
	}
	for _, bad := range []string{"", "-", "12", "x-01-01T00:00:00Z", "10000-13-01T00:00:00Z", "99999999999-01-01T00:00:00Z"} {
		if err := new(Time).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a time", bad)
		}
	}
}
