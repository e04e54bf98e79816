package sqlite

import (
	"fmt"
	"testing"

	"weir/pipeline"
)

// benchBlock looks like an access log of a shop: few clients and agents, many
// paths.
func benchBlock(from int64) *pipeline.Block {
	b := testBlock("access.log", from, pipeline.MaxBlockRequests)
	for i := range b.Requests {
		r := &b.Requests[i]
		h := pipeline.Mix64(uint64(from)+uint64(i), 9)
		r.Time = testStart + pipeline.Time(uint64(from)/500+uint64(i)/500)*1e6
		r.Address = pipeline.Address{10: 0xff, 11: 0xff, 12: 203, 14: byte(h >> 8 & 1), 15: byte(h)}
		r.Owner = r.Address.Owner()
		r.Bytes = int64(h % 50_000)
		r.Path = fmt.Sprintf("/p/%s-%s-%d", []string{"grand", "quick", "urban", "plain"}[h>>16&3], []string{"lamp", "chair"}[h>>18&1], h>>20%2000)
		r.Referer = fmt.Sprintf("https://shop.test/category/%d", h>>32%40)
		r.Agent = fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", 100+h>>40%30)
		if h>>48%4 == 0 {
			r.Account = fmt.Sprintf("u%d", h>>50%400)
		}
	}
	return b
}

func BenchmarkAppendBlocks(b *testing.B) {
	for _, batch := range []int{1, 4, 16} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			db := openTest(b)
			blocks := make([]*pipeline.Block, batch)
			for i := range blocks {
				blocks[i] = benchBlock(int64(i) * pipeline.MaxBlockRequests)
			}
			b.ReportAllocs()
			next := int64(0)
			for b.Loop() {
				for _, bl := range blocks {
					bl.Cause = pipeline.CauseRange{From: next, To: next + pipeline.MaxBlockRequests}
					next = bl.Cause.To
				}
				mustAppend(b, db, blocks...)
			}
			b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(stats(b, db).Bytes)/float64(next), "B/request")
		})
	}
}

func BenchmarkReadRecords(b *testing.B) {
	db := openTest(b)
	for i := range int64(32) {
		mustAppend(b, db, benchBlock(i*pipeline.MaxBlockRequests))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for position := int64(0); ; {
			records, err := db.ReadRecords(b.Context(), position+1, 8)
			if err != nil {
				b.Fatal(err)
			}
			if len(records) == 0 {
				break
			}
			position = records[len(records)-1].Position
			n += len(records) * pipeline.MaxBlockRequests
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "requests/s")
}
