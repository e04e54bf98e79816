package sqlite

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLog(t *testing.T) {
	ctx := t.Context()
	db := openTest(t)
	if _, _, ok, err := db.SourceCursor(ctx, 7); ok || err != nil {
		t.Errorf("cursor of an unknown source: %v, %v", ok, err)
	}
	a1, a2, b1 := testBlock("a", 0, 4), testBlock("a", 4, 4), testBlock("b", 1000, 2)
	if first, last := mustAppend(t, db, a1, b1, a2); first != 1 || last != 3 {
		t.Errorf("positions %d to %d, want 1 to 3", first, last)
	}
	heartbeat := testBlock("a", 8, 0)
	heartbeat.Watermark = testStart
	rejects := testBlock("a", 8, 5)
	rejects.Requests = nil
	rejects.Rejects = pipeline.Rejects{Lines: 5, Reason: map[string]int64{"empty": 5}}
	quiet := testBlock("a", 13, 0)
	quiet.Cursor = []byte("moved on")
	if first, last := mustAppend(t, db, heartbeat, rejects, quiet); first != 4 || last != 5 {
		t.Errorf("positions %d to %d, want 4 to 5: a block that says nothing takes none", first, last)
	}
	position, err := db.AppendControl(ctx, pipeline.Control{Kind: "config", Payload: []byte("x")})
	if err != nil || position != 6 {
		t.Errorf("control at %d, %v", position, err)
	}
	got, err := db.ReadRecords(ctx, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []pipeline.Record{
		{Position: 1, Block: a1},
		{Position: 2, Block: b1},
		{Position: 3, Block: a2},
		{Position: 4, Block: heartbeat},
		{Position: 5, Block: rejects},
		{Position: 6, Control: &pipeline.Control{Kind: "config", Payload: []byte("x")}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(pipeline.Block{}, "Arena"), cmpopts.IgnoreUnexported(pipeline.Block{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
	if got, _ := db.ReadRecords(ctx, 3, 2); len(got) != 2 || got[0].Position != 3 {
		t.Errorf("two records from 3: %v", got)
	}
	cursor, cause, ok, err := db.SourceCursor(ctx, a1.SourceID)
	if string(cursor) != "moved on" || cause != (pipeline.CauseRange{From: 0, To: 13}) || !ok || err != nil {
		t.Errorf("cursor %q %v %v %v", cursor, cause, ok, err)
	}
	s := stats(t, db)
	sources := []storage.SourceStats{
		{Source: "a", ID: a1.SourceID, Cause: cause, Requests: 8, Lines: 13, Rejected: 5},
		{Source: "b", ID: b1.SourceID, Cause: b1.Cause, Requests: 2, Lines: 2},
	}
	if d := cmp.Diff(sources, s.Sources); d != "" || s.Requests != 10 || s.Blocks != 3 || s.First != 1 || s.Last != 6 ||
		s.Oldest != testStart || s.Newest != testStart+1001e6 {
		t.Errorf("stats %+v\n%s", s, d)
	}
}

func TestAppendOnce(t *testing.T) {
	db := openTest(t)
	mustAppend(t, db, testBlock("a", 100, 4)) // a source may start anywhere
	before := stats(t, db)
	first, last := mustAppend(t, db, testBlock("a", 100, 4), testBlock("b", 0, 1), testBlock("a", 100, 2))
	after := stats(t, db)
	if first != 2 || last != 2 || after.Last != 2 || after.Skipped-before.Skipped != 2 || after.Requests != 5 {
		t.Errorf("a batch with two stored blocks: positions %d to %d, %+v", first, last, after)
	}
	if first, last := mustAppend(t, db, testBlock("a", 100, 4)); first != 0 || last != 0 {
		t.Errorf("positions %d to %d of nothing stored", first, last)
	}
	gap := func(from int64, n int) {
		t.Helper()
		before := stats(t, db).Last
		_, _, err := db.AppendBlocks(t.Context(), []*pipeline.Block{testBlock("new", 0, 1), testBlock("a", from, n)})
		var ge *storage.GapError
		if !errors.As(err, &ge) || ge.Stored != 104 || stats(t, db).Last != before {
			t.Errorf("block from %d: %v; nothing of its batch may be stored", from, err)
		}
	}
	gap(105, 2)
	gap(102, 4)
	mustAppend(t, db, testBlock("a", 104, 2), testBlock("a", 106, 2), testBlock("a", 104, 2)) // joins within a batch
	if n := stats(t, db).Skipped; n != 4 {
		t.Errorf("%d skipped, want 4", n)
	}
	empty := testBlock("a", 108, 1)
	empty.Cause.To = 108
	if _, _, err := db.AppendBlocks(t.Context(), []*pipeline.Block{empty}); err == nil {
		t.Error("requests without a cause were taken")
	}
}

func TestWaitAfter(t *testing.T) {
	db := openTest(t)
	mustAppend(t, db, testBlock("a", 0, 1))
	if err := db.WaitAfter(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.WaitAfter(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context: %v", err)
	}
	woken := make(chan error)
	go func() { woken <- db.WaitAfter(t.Context(), 2) }()
	mustAppend(t, db, testBlock("a", 1, 1))
	select {
	case err := <-woken:
		t.Fatalf("woke at position 2: %v", err)
	default:
	}
	mustAppend(t, db, testBlock("a", 2, 1))
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	go func() { woken <- db.WaitAfter(t.Context(), 99) }()
	go func() { woken <- db.WaitAlertsAfter(t.Context(), 99) }()
	db.Close()
	for range 2 {
		if err := <-woken; !errors.Is(err, storage.ErrClosed) {
			t.Errorf("wait on a store that closes: %v", err)
		}
	}
}

func TestMinutes(t *testing.T) {
	db := openTest(t)
	mustAppend(t, db, testBlock("a", 0, 90), testBlock("b", 0, 4))
	odd := testBlock("a", 90, 2)
	odd.Requests[0].Time, odd.Requests[0].Bytes, odd.Requests[0].Status = -1, -1, 65535
	odd.Requests[1].Time = pipeline.NoTime
	mustAppend(t, db, odd)
	var want []storage.Minute
	for _, b := range []*pipeline.Block{testBlock("a", 0, 90), testBlock("b", 0, 4), odd} {
		for _, r := range b.Requests {
			if r.Time == pipeline.NoTime { // out of the range read below
				continue
			}
			m := storage.Minute{
				Time: r.Time - ((r.Time%60e6)+60e6)%60e6, SourceID: b.SourceID,
				StatusClass: min(int(r.Status)/100, 9), Requests: 1, Bytes: max(r.Bytes, 0),
			}
			i := slices.IndexFunc(want, func(w storage.Minute) bool {
				return w.Time == m.Time && w.SourceID == m.SourceID && w.StatusClass == m.StatusClass
			})
			if i < 0 {
				want = append(want, m)
				continue
			}
			want[i].Requests++
			want[i].Bytes += m.Bytes
		}
	}
	got, err := db.Minutes(t.Context(), -60e6, testStart+1e9)
	if err != nil {
		t.Fatal(err)
	}
	byKey := cmpopts.SortSlices(func(a, b storage.Minute) bool {
		return a.Time < b.Time || a.Time == b.Time && (a.SourceID < b.SourceID || a.SourceID == b.SourceID && a.StatusClass < b.StatusClass)
	})
	if d := cmp.Diff(want, got, byKey); d != "" {
		t.Errorf("minutes (-want +got):\n%s", d)
	}
}

// A receipt is there with the block that carries it, once, and goes when it is
// old or many came after it.
func TestReceipts(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	at, blocks := int64(0), 0
	put := func(key byte, when pipeline.Time) *pipeline.Block {
		t.Helper()
		b := &pipeline.Block{Source: "push", SourceID: 7, Cause: pipeline.CauseRange{From: at, To: at + 10}, Watermark: pipeline.NoTime}
		b.Receipt = &pipeline.Receipt{Key: [32]byte{key}, Lines: [32]byte{key, 1}, Answer: []byte("ok"), Time: when}
		if _, _, err := db.AppendBlocks(ctx, []*pipeline.Block{b}); err != nil {
			t.Fatal(err)
		}
		at += 10
		blocks++
		return b
	}
	f := func(source uint64, key byte, want bool) {
		t.Helper()
		r, err := db.Receipt(ctx, source, [32]byte{key})
		if err != nil || (r != nil) != want || r != nil && (r.Lines != [32]byte{key, 1} || string(r.Answer) != "ok" || r.Time == 0) {
			t.Errorf("%d of %d: %+v %v", key, source, r, err)
		}
	}
	f(7, 1, false)
	b := put(1, testStart)
	f(7, 1, true)
	f(8, 1, false)
	b.Receipt.Key[0] = 9 // of a block that is there already
	if _, _, err := db.AppendBlocks(ctx, []*pipeline.Block{b}); err != nil {
		t.Fatal(err)
	}
	f(7, 9, false)
	put(2, testStart.Add(receiptsFor))
	f(7, 1, true)
	put(3, testStart.Add(receiptsFor+time.Second))
	f(7, 1, false)
	f(7, 2, true)
	if _, err := db.conn.ExecContext(ctx, "UPDATE sqlite_sequence SET seq = ? WHERE name = 'receipts'", maxReceipts+1); err != nil {
		t.Fatal(err)
	}
	put(4, testStart.Add(receiptsFor+time.Second))
	f(7, 2, false)
	f(7, 3, true)
	f(7, 4, true)
	// With a block that does not fit nothing of the call is stored.
	gap := &pipeline.Block{Source: "push", SourceID: 7, Cause: pipeline.CauseRange{From: at + 99, To: at + 100}, Watermark: pipeline.NoTime}
	good := &pipeline.Block{Source: "push", SourceID: 7, Cause: pipeline.CauseRange{From: at, To: at + 10}, Watermark: pipeline.NoTime, Receipt: &pipeline.Receipt{Key: [32]byte{5}}}
	if _, _, err := db.AppendBlocks(ctx, []*pipeline.Block{good, gap}); err == nil {
		t.Error("a gap is taken")
	}
	f(7, 5, false)
}

// RecentFrom finds where the newest requests begin, by time and by number.
func TestRecentFrom(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	f := func(since pipeline.Time, requests, want int64) {
		t.Helper()
		if got, err := db.RecentFrom(ctx, since, requests); err != nil || got != want {
			t.Errorf("since %d, %d requests: %d %v, want %d", since-testStart, requests, got, err, want)
		}
	}
	f(testStart, 10, 0)
	for i := range int64(6) {
		b := &pipeline.Block{Source: "x", SourceID: 7, Cause: pipeline.CauseRange{From: i * 10, To: i*10 + 10}, Watermark: testStart}
		if i != 4 { // a heartbeat
			b.Requests = make([]pipeline.Request, 3)
			for k := range b.Requests {
				b.Requests[k].Time = testStart.Add(time.Duration(i) * time.Hour)
			}
		}
		if _, _, err := db.AppendBlocks(ctx, []*pipeline.Block{b}); err != nil {
			t.Fatal(err)
		}
	}
	f(testStart, 100, 1)
	f(testStart.Add(2*time.Hour), 100, 3)
	f(testStart, 4, 4)
	f(testStart, 3, 6)
	f(testStart.Add(9*time.Hour), 3, 0)
}
