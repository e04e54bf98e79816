// Mirror reads a capture with weir's own reader, down to requests with their owners
// but without detection, and says how fast: the other side of bench/tcpassembly.
//
//	mirror http.pcap
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"

	"weir/collector"
	"weir/collector/capture/mirror"
	"weir/pipeline"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "mirror: give a capture file")
		os.Exit(2)
	}
	if len(os.Args) > 2 {
		f, err := os.Create(os.Args[2])
		if err == nil {
			_ = pprof.StartCPUProfile(f)
			defer pprof.StopCPUProfile()
		}
	}
	start := time.Now()
	n, err := count(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "mirror: %v\n", err)
		os.Exit(1)
	}
	took := time.Since(start).Seconds()
	fmt.Printf("%d transactions, %.2f s, %.0f a second\n", n, took, float64(n)/took)
}

func count(name string) (n int64, err error) {
	keys, err := pipeline.PublicKeys()
	if err != nil {
		return 0, err
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, nil)
	if err != nil {
		return 0, err
	}
	resolve := func() collector.Identify {
		r := id.NewResolver()
		return func(req *pipeline.Request, f *collector.Fields) { r.Resolve(req, &f.Clear) }
	}
	r := mirror.NewReader(mirror.ReaderConfig{Path: name, NewIdentify: resolve})
	for {
		b, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		n += int64(len(b.Requests))
		r.Release(b)
	}
	sum := r.Summary()
	for _, line := range sum.Lines() {
		fmt.Fprintln(os.Stderr, line)
	}
	return n, r.Close()
}
