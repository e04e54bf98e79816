package main

import (
	"flag"
	"syscall"
	"testing"
	"time"

	"weir/pipeline"
)

//nolint:gochecknoglobals // a flag of the test binary
var memberLog = flag.String("memberlog", "", "a log whose requests BenchmarkMember takes, instead of simulated ones")

// spent is the processor time that the process took so far.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMember is what the parts of a fleet cost for each request of the log:
// what every detect member pays (decode; then merge and watch without a slice), what
// that and the visits of all slices take, what is sent, and what the stages of
// correlate take. Times are of the processor.
func BenchmarkMember(b *testing.B) {
	lab := must[*evalLab](b)(newEvalLab(""))
	edition := pipeline.ShippedEdition()
	var all []pipeline.Request
	if *memberLog != "" {
		all, edition = logged(b, lab, *memberLog)
	} else {
		all = simulated(b, lab, "status", 1000)
	}
	codec := pipeline.NewCodec()
	var log [][]byte
	for len(all) > 0 {
		n := min(len(all), pipeline.MaxBlockRequests)
		block := &pipeline.Block{Source: "log", SourceID: 1, Watermark: pipeline.NoTime, Requests: all[:n]}
		log = append(log, must[[]byte](b)(codec.AppendBlock(nil, block)))
		all = all[n:]
	}
	shape := fleetShape{1}
	decode := func() (blocks []*pipeline.Block, requests int) {
		for _, data := range log {
			block := new(pipeline.Block)
			if err := codec.DecodeBlock(data, block); err != nil {
				b.Fatal(err)
			}
			blocks, requests = append(blocks, block), requests+len(block.Requests)
		}
		return blocks, requests
	}
	// detect runs a member with or without its slice; what it sends goes to send.
	detect := func(with bool, blocks []*pipeline.Block, send func(*outbox)) time.Duration {
		m := must[*detectMember](b)(newDetectMember(lab.cfg, shape, edition, lab.keys, nil, 1))
		m.set.LearnTruth(nil, pipeline.MaxTime)
		if with {
			if err := m.addSlice(0, pipeline.Place{}, func(uint32) ([]byte, error) { return nil, nil }); err != nil {
				b.Fatal(err)
			}
		}
		var took time.Duration
		for _, block := range blocks {
			start := spent()
			m.push(block)
			if !m.step() {
				b.Fatal("it waits")
			}
			took += spent() - start
			if send != nil {
				send(m.flush())
			}
		}
		return took
	}
	perRequest := func(b *testing.B, took time.Duration, requests int) {
		b.ReportMetric(float64(took.Nanoseconds())/float64(requests)/float64(b.N), "ns/request")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("decode", func(b *testing.B) {
		requests, start := 0, spent()
		for b.Loop() {
			_, requests = decode()
		}
		perRequest(b, spent()-start, requests)
	})
	for _, c := range []struct {
		name string
		with bool
	}{{"merge and watch", false}, {"and visits", true}} {
		b.Run(c.name, func(b *testing.B) {
			var took time.Duration
			requests := 0
			for b.Loop() {
				blocks, n := decode()
				took, requests = took+detect(c.with, blocks, func(o *outbox) { o.reset() }), n
			}
			perRequest(b, took, requests)
		})
	}
	b.Run("correlate", func(b *testing.B) { benchmarkCross(b, lab, shape, edition, decode, detect) })
}

// benchmarkCross takes the signals of a log through their codec and the stages of
// correlate.
func benchmarkCross(b *testing.B, lab *evalLab, shape fleetShape, edition *pipeline.Edition,
	decode func() ([]*pipeline.Block, int), detect func(bool, []*pipeline.Block, func(*outbox)) time.Duration,
) {
	b.Helper()
	codec := pipeline.NewCodec()
	var encoding, decoding time.Duration
	took := map[pipeline.Stage]time.Duration{}
	signals, bytes, requests := 0, 0, 0
	for b.Loop() {
		members := map[pipeline.Stage]*crossMember{}
		for _, s := range crossStages() {
			members[s] = must[*crossMember](b)(newCrossMember(lab.cfg, shape, pipeline.Producer{Stage: s}, edition, nil))
		}
		position := int64(0)
		var pass func(o *outbox)
		pass = func(o *outbox) {
			position++
			for _, to := range sends(o.from) {
				start := spent()
				data := must[[]byte](b)(codec.AppendSignals(nil, &o.signals[to][0]))
				middle := spent()
				var got pipeline.Bundle[pipeline.Signal]
				if err := codec.DecodeSignals(data, &got); err != nil {
					b.Fatal(err)
				}
				end := spent()
				encoding, decoding = encoding+middle-start, decoding+end-middle
				signals, bytes = signals+len(got.Items), bytes+len(data)
				if err := members[to].push(position, &got, nil); err != nil {
					b.Fatal(err)
				}
				took[to] += spent() - end
				if out := members[to].flush(); len(sends(to)) > 0 {
					pass(out)
				} else {
					out.reset()
				}
			}
			o.reset()
		}
		blocks, n := decode()
		detect(true, blocks, pass)
		requests += n
	}
	per := func(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / float64(max(1, n)) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(signals)/float64(requests), "signals/request")
	b.ReportMetric(float64(bytes)/float64(max(1, signals)), "B/signal")
	b.ReportMetric(per(encoding, signals), "encode-ns/signal")
	b.ReportMetric(per(decoding, signals), "decode-ns/signal")
	for _, s := range crossStages() {
		b.ReportMetric(per(took[s], requests), s.String()+"-ns/request")
	}
}
