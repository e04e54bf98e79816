package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"weir/pipeline"
)

// accessLines is about 200 bytes a line.
func accessLines(n int) []byte {
	var buf bytes.Buffer
	for i := range n {
		fmt.Fprintf(&buf, `203.0.113.%d - - [02/Jan/2026:15:%02d:%02d +0000] "GET /api/v1/items/%d?page=%d HTTP/1.1" 200 %d "https://shop.example/items" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"`+"\n",
			i%250, i/60%60, i%60, i, i%7, 1000+i%5000)
	}
	return buf.Bytes()
}

func BenchmarkReader(b *testing.B) {
	const lines = 500000
	data := accessLines(lines)
	run := func(name string, stored []byte, workers int) {
		b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r := NewReader(ReaderConfig{Path: "-", Stdin: bytes.NewReader(stored), Workers: workers, Format: plainFormat()})
				for {
					blk, err := r.Next(b.Context())
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					r.Release(blk)
				}
				if n := r.Stats().Lines; n != lines {
					b.Fatalf("%d lines", n)
				}
				r.Close()
			}
			b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
		})
	}
	run("plain", data, 1)
	run("plain", data, 2)
	run("gzip", gzipped(string(data)), 2)
	run("zstd", zstded(string(data)), 2)
}

func BenchmarkFollower(b *testing.B) {
	const lines = 500000
	data := accessLines(lines)
	name := b.TempDir() + "/access.log"
	if err := os.WriteFile(name, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f, err := NewFollower(FollowConfig{Path: name, Workers: 2, Format: plainFormat(), Flush: time.Millisecond})
		if err != nil {
			b.Fatal(err)
		}
		for n := int64(0); n < int64(len(data)); {
			var blk *pipeline.Block
			if blk, err = f.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
			n = blk.Cause.To
			f.Release(blk)
		}
		f.Close()
	}
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
}
